"""The settings of drift: those that every service has, and whose models it takes."""

from __future__ import annotations

from runtime.settings import TrustSettings


class Settings(TrustSettings):
    """Nothing of its own so far; what drift does is in pipeline.yaml."""
