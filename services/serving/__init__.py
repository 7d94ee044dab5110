"""Serving: scores rows with the pool of models and swaps models while it answers."""
