"""The demo's data: readings of pumps over some weeks, a row every five minutes, and what happens to them on the way.

* The air is damp at night and dry at noon, every day: a cycle that is no drift.
* From a known row on another reason makes pumps need service. The measurements look as before: only what they mean
  changes (concept drift).
* For some days one gateway sends the pressure in another unit (bad data from one source).
* Bearings wear: vibration rises slowly, when it means nothing any more (covariate shift).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zlib import crc32

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.rows import Delay, Options

PUMPS = 40
GATEWAYS = 4
"""Sources of events: a pump's key chooses the partition, and with it the gateway."""
DAY = 288
"""Rows of a day."""
NOISE = 0.04
"""Share of labels that are wrong whatever a model does: nobody can be right more often than 96 %."""

MEANS = {
    "temperature": (60.0, 8.0),
    "pressure": (6.0, 1.0),
    "flow": (120.0, 20.0),
    "power": (30.0, 5.0),
    "vibration": (6.0, 1.0),
    "humidity": (50.0, 6.0),
    "speed": (1450.0, 60.0),
}
BEFORE = {"temperature": 1.0, "vibration": 0.8, "pressure": -0.6}
AFTER = {"temperature": -0.9, "flow": 1.0, "power": 0.6}

CYCLIC, SWING = "humidity", 2.0
"""What follows the hours of the day, and by how many standard deviations it does at most."""
WRONG, UNIT, GATEWAY = "pressure", 100.0, 1
"""What one gateway sends in another unit: kilopascal for bar."""
WORN, RISE = "vibration", 2.0
"""What rises slowly, and by how many standard deviations in all."""

STEP_MS = 24 * 60 * 60 * 1000 // DAY
START_MS = round(datetime.fromisoformat("2026-01-01T00:00:00Z").timestamp() * 1000)
OPTIONS = Options(start=START_MS, every=STEP_MS, delay=Delay(rows=300), prefix="reading-")

Floats = npt.NDArray[np.float64]
NEVER = range(0)


@dataclass(frozen=True, slots=True)
class Course:
    """In which rows what happens.

    Attributes:
        change: First row with labels of another meaning.
        known: A row by which that must have been found, and a model of the new world be there.
        wrong: Rows in which one gateway sends another unit.
        wear: Rows in which vibration rises; it stays up.
    """

    change: int
    known: int
    wrong: range
    wear: range


def row_at(time: datetime) -> int:
    """The row whose event time this is."""
    return round((time.timestamp() * 1000 - START_MS) / STEP_MS)


def readings(rows: int, change: int, seed: int, wrong: range = NEVER, wear: range = NEVER) -> pl.DataFrame:
    """Rows with the columns of the demo's pipeline but the time; the same seed gives the same. See `Course`."""
    random, row = np.random.default_rng(seed), np.arange(rows)
    standard = {name: random.standard_normal(rows) for name in MEANS}
    old, new = _needs(standard, BEFORE), _needs(standard, AFTER)
    label = np.where(row < change, old, new) ^ (random.random(rows) < NOISE)
    pumps = [f"pump-{number:02}" for number in random.integers(0, PUMPS, rows)]
    standard[CYCLIC] += SWING * np.cos(2 * np.pi * row / DAY)
    standard[WORN] += RISE * np.clip((row - wear.start) / len(wear), 0, 1) if wear else 0
    columns = {name: _measured(name, values) for name, values in standard.items()}
    columns[WRONG] = np.where(_wrong(wrong, pumps), columns[WRONG] * UNIT, columns[WRONG]).round(3)
    return pl.DataFrame({"pump": pumps, **columns, "needs_service": label})


def gateway(pump: str) -> int:
    """The source that a pump's readings come from."""
    return crc32(pump.encode()) % GATEWAYS


def _wrong(rows: range, pumps: list[str]) -> npt.NDArray[np.bool_]:
    row, gateways = np.arange(len(pumps)), np.array([gateway(pump) for pump in pumps])
    wrong: npt.NDArray[np.bool_] = (gateways == GATEWAY) & (row >= rows.start) & (row < rows.stop)
    return wrong


def _needs(standard: Mapping[str, Floats], weights: Mapping[str, float]) -> npt.NDArray[np.bool_]:
    score = np.sum([weight * standard[name] for name, weight in weights.items()], axis=0)
    needs: npt.NDArray[np.bool_] = score > 0
    return needs


def _measured(name: str, values: Floats) -> Floats | npt.NDArray[np.int64]:
    mean, spread = MEANS[name]
    measured = np.maximum(mean + spread * values, 0.0).round(3)
    return measured.round().astype(np.int64) if name == "speed" else measured
