"""The rules of ingestion as pure functions and values: no input, output or clock."""
