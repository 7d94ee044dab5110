"""Settings of features: those of every service."""

from __future__ import annotations

from runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """Environment of the features service."""
