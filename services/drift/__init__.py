"""Drift: counts what flows and decides whether the world changed."""
