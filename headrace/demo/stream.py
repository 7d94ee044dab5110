"""The demo's data: readings of pumps over some weeks, a row every five minutes, and what happens to them on the way.

* The air is damp at night and dry at noon, every day: a cycle that is no drift.
* From a known row on another reason makes pumps need service. The measurements look as before: only what they mean
  changes (concept drift).
* For some days one gateway sends the pressure in another unit (bad data from one source).
* Bearings wear: vibration rises slowly, and means as little as before (covariate shift).
"""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import numpy as np
import numpy.typing as npt
import polars as pl

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
WORN, WEAR = "vibration", 2.0
"""What rises slowly, and by how many standard deviations in all."""

Floats = npt.NDArray[np.float64]
Columns = dict[str, Floats]
NEVER = range(0)


def readings(rows: int, change: int, seed: int, wrong: range = NEVER, wear: range = NEVER) -> pl.DataFrame:
    """Rows with the columns of the demo's pipeline but the time.

    Args:
        rows: How many.
        change: The row from which on the labels mean something else.
        seed: Of everything random.
        wrong: Rows in which one gateway sends another unit.
        wear: Rows in which vibration rises; it stays up.
    """
    random, row = np.random.default_rng(seed), np.arange(rows)
    standard = {name: random.standard_normal(rows) for name in MEANS}
    old, new = _needs(standard, BEFORE), _needs(standard, AFTER)
    label = np.where(row < change, old, new) ^ (random.random(rows) < NOISE)
    pumps = [f"pump-{number:02}" for number in random.integers(0, PUMPS, rows)]
    standard[CYCLIC] += SWING * np.cos(2 * np.pi * row / DAY)
    standard[WORN] += WEAR * np.clip((row - wear.start) / max(len(wear), 1), 0, 1)
    columns = {name: _measured(name, values) for name, values in standard.items()}
    bad = (np.array([gateway(pump) for pump in pumps]) == GATEWAY) & (row >= wrong.start) & (row < wrong.stop)
    columns[WRONG] = np.where(bad, columns[WRONG] * UNIT, columns[WRONG]).round(3)
    return pl.DataFrame({"pump": pumps, **columns, "needs_service": label})


def gateway(pump: str) -> int:
    """The source that a pump's readings come from: the partition of its key."""
    return crc32(pump.encode()) % GATEWAYS


def _needs(standard: Mapping[str, Floats], weights: Mapping[str, float]) -> npt.NDArray[np.bool_]:
    score = np.sum([weight * standard[name] for name, weight in weights.items()], axis=0)
    needs: npt.NDArray[np.bool_] = score > 0
    return needs


def _measured(name: str, values: Floats) -> Floats | npt.NDArray[np.int64]:
    mean, spread = MEANS[name]
    measured = np.maximum(mean + spread * values, 0.0).round(3)
    return measured.round().astype(np.int64) if name == "speed" else measured
