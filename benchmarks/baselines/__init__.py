"""The same work by other means."""
