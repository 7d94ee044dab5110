"""Settings of features: those of every service, and how much waits in memory, how much is checked."""

from __future__ import annotations

from pydantic import Field

from runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """Environment of the features service."""

    waiting_rows: int = Field(
        1_000_000,
        ge=10_000,
        description="Rows, and labels, of a partition that wait in memory; columns of older ones are on disk.",
    )
    skew_share: float = Field(
        0.001,
        ge=0,
        le=1,
        description="Share of served rows, and of entities for windows, that are computed again and compared; 0 none.",
    )
