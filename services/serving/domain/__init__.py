"""The rules of serving as pure functions and values: no input, output or clock."""
