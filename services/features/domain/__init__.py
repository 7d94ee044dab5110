"""The rules of features as pure functions and values: no input, output or clock."""
