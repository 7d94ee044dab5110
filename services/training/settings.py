"""Settings of training: what every service has, the key that it signs with, and how large a dataset may be."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from runtime.settings import TRUSTED_TYPES, TrustSettings
from services.training.datasets import MEMORY


class Settings(TrustSettings):
    """Settings of the training service."""

    signing_key: Path = Field(
        Path(".headrace/keys/signing.pem"),
        description="PEM file of the private key that signs models; no other service may have it.",
    )
    dataset_bytes: int = Field(
        MEMORY,
        ge=1 << 20,
        description="Most bytes of a dataset's values, 8 for each of its features and 10 columns besides; more rows "
        "than that are sampled. A fit takes a few times as much memory.",
    )
    trusted_types: str = TRUSTED_TYPES
