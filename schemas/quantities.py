"""Durations and rates as people write them in pipeline.yaml.

On the inside a duration is an integer of milliseconds, because event time is.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LONGEST = 3_650 * MILLISECONDS["d"]

_DURATION = re.compile(r"(\d{1,12})\s*(ms|s|m|h|d)")
_RATE = re.compile(r"(\d{1,9})\s+per\s+(?:(\d{1,15})\s+rows?|(\S+))")


def milliseconds(text: object) -> int:
    """Milliseconds of a duration such as `500ms`, `30s`, `1m`, `24h` or `30d`; ValueError otherwise."""
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        hint = f" (did you mean {text}s?)" if isinstance(text, int) else ""
        raise ValueError(f"{text!r} is not a duration: write a number and ms, s, m, h or d{hint}")
    value = int(match[1]) * MILLISECONDS[match[2]]
    if value > LONGEST:
        raise ValueError(f"{text!r} is too long: the longest duration is 3650d")
    return value


def duration(value: int) -> str:
    """The text of so many milliseconds, in the largest unit that says them exactly."""
    unit = next(each for each in reversed(MILLISECONDS) if value % MILLISECONDS[each] == 0)
    return f"{value // MILLISECONDS[unit]}{unit}" if value else "0s"


def positive(value: int) -> int:
    """The value; ValueError where it is no time at all."""
    if value <= 0:
        raise ValueError("must be longer than 0s")
    return value


_SCHEMA = WithJsonSchema({"type": "string", "pattern": r"^\d+\s*(ms|s|m|h|d)$", "examples": ["24h"]})

Duration = Annotated[int, BeforeValidator(milliseconds), _SCHEMA]
PositiveDuration = Annotated[int, BeforeValidator(lambda text: positive(milliseconds(text))), _SCHEMA]


class Rate(BaseModel):
    """So many occurrences per stretch of time or of rows; exactly one of the two is set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(gt=0, description="Occurrences allowed within one stretch.")
    per_ms: int | None = Field(default=None, gt=0, description="Length of the stretch, milliseconds.")
    per_rows: int | None = Field(default=None, gt=0, description="Length of the stretch, rows.")

    def __str__(self) -> str:
        """The rate as people write it."""
        stretch = f"{self.per_rows} rows" if self.per_ms is None else duration(self.per_ms)
        return f"{self.count} per {stretch}"


def rate(text: object) -> Rate:
    """The rate that a text says, such as `1 per 30d` or `1 per 1000000 rows`; ValueError otherwise."""
    match = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a rate: write `1 per 30d` or `1 per 1000000 rows`")
    if match[2]:
        return Rate(count=int(match[1]), per_rows=int(match[2]))
    return Rate(count=int(match[1]), per_ms=positive(milliseconds(match[3])))


RateText = Annotated[
    Rate,
    BeforeValidator(rate),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\d+\s+per\s+(\d+\s+rows?|\d+(ms|s|m|h|d))$",
            "examples": ["1 per 30d", "1 per 1000000 rows"],
        }
    ),
]
