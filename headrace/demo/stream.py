"""The demo's data: readings of pumps, and from a known row on another reason why pumps need service.

The measurements look the same before and after: only what they mean changes (concept drift, not covariate drift).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

PUMPS = 40
NOISE = 0.04
"""Share of labels that are wrong whatever a model does: nobody can be right more often than 96 %."""

MEANS = {
    "temperature": (60.0, 8.0),
    "pressure": (6.0, 1.0),
    "flow": (120.0, 20.0),
    "power": (30.0, 5.0),
    "vibration": (4.0, 1.0),
    "humidity": (50.0, 10.0),
    "speed": (1450.0, 60.0),
}
BEFORE = {"temperature": 1.0, "vibration": 0.8, "pressure": -0.6}
AFTER = {"temperature": -0.9, "flow": 1.0, "power": 0.6}


def readings(rows: int, change: int, seed: int) -> pl.DataFrame:
    """Rows with the columns of the demo's pipeline but the time; the meaning changes at row `change`."""
    random = np.random.default_rng(seed)
    standard = {name: random.standard_normal(rows) for name in MEANS}
    old, new = _needs(standard, BEFORE), _needs(standard, AFTER)
    label = np.where(np.arange(rows) < change, old, new) ^ (random.random(rows) < NOISE)
    columns = {name: _measured(name, values) for name, values in standard.items()}
    pumps = [f"pump-{number:02}" for number in random.integers(0, PUMPS, rows)]
    return pl.DataFrame({"pump": pumps, **columns, "needs_service": label})


def _needs(standard: dict[str, npt.NDArray[np.float64]], weights: dict[str, float]) -> npt.NDArray[np.bool_]:
    score = np.sum([weight * standard[name] for name, weight in weights.items()], axis=0)
    needs: npt.NDArray[np.bool_] = score > 0
    return needs


def _measured(name: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | npt.NDArray[np.int64]:
    mean, spread = MEANS[name]
    measured = np.maximum(mean + spread * values, 0.0).round(3)
    return measured.round().astype(np.int64) if name == "speed" else measured
