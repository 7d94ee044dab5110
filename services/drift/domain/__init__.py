"""The rules of drift as pure functions and values: no input, output or clock."""
