"""Settings of serving: what every service has, and where HTTP listens."""

from __future__ import annotations

from pydantic import Field

from runtime.settings import TRUSTED_TYPES, TrustSettings


class Settings(TrustSettings):
    """Settings of the serving service."""

    trusted_types: str = TRUSTED_TYPES
    http_host: str = Field("127.0.0.1", min_length=1, description="Address on which /v1/predict listens.")
    http_port: int = Field(8080, ge=-1, le=65535, description="Port of /v1/predict; 0 any, -1 none.")
