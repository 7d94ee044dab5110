"""The rules of training as pure functions and values: no input, output or clock."""
