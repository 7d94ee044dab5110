"""The settings of drift: those that every service has."""

from __future__ import annotations

from runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """Nothing of its own so far; what drift does is in pipeline.yaml."""
