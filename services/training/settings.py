"""Settings of training: what every service has."""

from __future__ import annotations

from runtime.settings import TRUSTED_TYPES, ServiceSettings


class Settings(ServiceSettings):
    """Settings of the training service."""

    trusted_types: str = TRUSTED_TYPES
