"""Features: computes the declared features and joins scored rows with their labels."""
