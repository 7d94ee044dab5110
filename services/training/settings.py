"""Settings of training: what every service has."""

from __future__ import annotations

from runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the training service."""
