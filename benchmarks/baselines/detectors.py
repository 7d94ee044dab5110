"""What drift is usually watched with: a detector per feature, each as its authors set it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from river.drift import ADWIN, KSWIN
from scipy.stats import ks_2samp

from benchmarks.drift_streams import BEFORE, REFERENCE, changed, normal, shaped

Floats = npt.NDArray[np.float64]
Detector = Callable[[Floats, Floats], list[int]]

PIECE, BEHIND, MOST, SLOW_ROWS = 20_000, 10_000, 200_000, 2_000
"""Rows behind one reference, behind a change, in all, and of the slowest."""

WINDOW, STEP, LEVEL = 1_000, 500, 0.05
"""Of the Kolmogorov-Smirnov test."""


def adwin(reference: Floats, rows: Floats) -> list[int]:
    """Rows at which river's ADWIN of some feature alarms."""
    return _per_feature(lambda _: ADWIN(), reference, rows)


def kswin(reference: Floats, rows: Floats) -> list[int]:
    """Rows at which river's KSWIN of some feature alarms."""
    return _per_feature(lambda feature: KSWIN(seed=feature), reference, rows)


def _per_feature(make: Callable[[int], Any], reference: Floats, rows: Floats) -> list[int]:
    alarms: list[int] = []
    for feature in range(rows.shape[1]):
        detector = make(feature)
        for value in reference[:, feature][~np.isnan(reference[:, feature])].tolist():
            detector.update(value)
        for row, value in enumerate(rows[:, feature].tolist()):
            if value == value:  # noqa: PLR0124 - not NaN
                detector.update(value)
                if detector.drift_detected:
                    alarms.append(row)
    return sorted(alarms)


def kolmogorov_smirnov(reference: Floats, rows: Floats) -> list[int]:
    """Rows at which a window's test of some feature rejects, at a level shared by the features (Bonferroni)."""
    alarms, end = [], WINDOW
    while end <= len(rows):
        if _least(reference, rows[end - WINDOW : end]) < LEVEL / rows.shape[1]:
            alarms.append(end - 1)
            end += WINDOW
        else:
            end += STEP
    return alarms


def _least(reference: Floats, window: Floats) -> float:
    pairs = zip(reference.T, window.T, strict=True)
    found = [ks_2samp(a[~np.isnan(a)], b[~np.isnan(b)], method="asymp").pvalue for a, b in pairs]
    return float(min(found))


def compared(rows: int, seeds: int, say: Callable[[str], None]) -> dict[str, float | None]:
    """False alarms, delays and speeds of these; at most 200,000 rows, they are slow."""
    rows = min(rows, MOST)
    result: dict[str, float | None] = {}
    for name, detector in (("adwin", adwin), ("ks", kolmogorov_smirnov)):
        say(f"{name}: {rows} rows and {seeds} changes")
        begun = time.process_time()
        alarms = sum(len(detector(*_baseline_rows(seed))) for seed in range(rows // PIECE))
        spent = time.process_time() - begun
        found = [_baseline_delay(detector, seed) for seed in range(seeds)]
        result[f"{name}_false_alarms_per_100k"] = alarms * 1e5 / rows
        result[f"{name}_delay_half_sigma"] = float(np.median([np.inf if each is None else each for each in found]))
        result[f"{name}_rows_per_core_second"] = (rows + rows // PIECE * REFERENCE) / spent
    say("kswin: speed alone")
    before, after = _baseline_rows(0)
    begun = time.process_time()
    kswin(before[:SLOW_ROWS], after[:SLOW_ROWS])
    return result | {"kswin_rows_per_core_second": 2 * SLOW_ROWS / (time.process_time() - begun)}


def _baseline_rows(seed: int) -> tuple[Floats, Floats]:
    random = np.random.default_rng(1_000 + seed)
    before, after = (shaped(normal(random, size), random) for size in (REFERENCE, PIECE))
    return before, after


def _baseline_delay(detector: Detector, seed: int) -> float | None:
    random = np.random.default_rng(2_000 + seed)
    reference = shaped(normal(random, REFERENCE), random)
    rows = changed("half_sigma", random)[: BEFORE + BEHIND]
    return next((row + 1.0 - BEFORE for row in detector(reference, rows) if row >= BEFORE), None)
