"""Settings of training: what every service has, and the key that it signs with."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from runtime.settings import TrustSettings


class Settings(TrustSettings):
    """Settings of the training service."""

    signing_key: Path = Field(
        Path(".headrace/keys/signing.pem"),
        description="PEM file of the private key that signs models; no other service may have it.",
    )
