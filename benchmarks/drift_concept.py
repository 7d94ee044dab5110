"""Concept drift in river's streams: losses of a model that was fitted in front of the change, judged by the service.

Through the whole concept family, which is ADWIN on the 0/1 losses and the e-detector on the binned ones, beside ADWIN
alone on the same 0/1 losses. SEA, Agrawal, RBF and Friedman change at once, the hyperplane within 5,000 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from river.datasets import synth
from river.drift import ADWIN
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from benchmarks import drift_streams as streams
from benchmarks.drift_judged import SECOND, certain, episodes, found
from schemas.bins import LOSS
from schemas.task import THRESHOLD, log_losses

Floats = npt.NDArray[np.float64]
Rows = tuple[Floats, Floats]
Result = dict[str, float | None]

FITTED, HELD_OUT, BEFORE, AFTER = 5_000, 5_000, 20_000, SECOND + 5_000
"""Rows of the fit, of the losses' reference, in front of the change and behind it."""
PANE, TREES = 25, 50
GRADUAL = 5_000
"""Rows in which the hyperplane changes."""
LARGE = 0.8
"""Quantile of the held-out losses from which on a regression's answer counts as wrong."""


def _sea(seed: int) -> tuple[Any, Any]:
    return synth.SEA(variant=0, seed=seed, noise=0.05), synth.SEA(variant=3, seed=seed + 500, noise=0.05)


def _agrawal(seed: int) -> tuple[Any, Any]:
    first = synth.Agrawal(classification_function=0, seed=seed, perturbation=0.05)
    return first, synth.Agrawal(classification_function=1, seed=seed + 500, perturbation=0.05)


def _rbf(seed: int) -> tuple[Any, Any]:
    common = {"n_classes": 2, "n_features": 10, "n_centroids": 30}
    first = synth.RandomRBF(seed_model=1, seed_sample=seed, **common)
    return first, synth.RandomRBF(seed_model=2 + seed, seed_sample=seed + 500, **common)


def _hyperplane(seed: int) -> tuple[Any, Any]:
    first, second = (
        synth.Hyperplane(seed=each, n_features=10, n_drift_features=0, mag_change=0, noise_percentage=0.05)
        for each in (seed, seed + 500)
    )
    return first, second


def _friedman(seed: int) -> tuple[Any, Any]:
    second = synth.FriedmanDrift(drift_type="gra", transition_window=1, position=(1, 10**9), seed=seed + 500)
    return synth.Friedman(seed=seed), second


WORLDS: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "sea": _sea,
    "agrawal": _agrawal,
    "rbf": _rbf,
    "hyperplane": _hyperplane,
    "friedman": _friedman,
}
"""What the rows come from in front of the change and behind it."""


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """Losses of a model that is never fitted again.

    Attributes:
        graded: Log losses, or absolute errors of a regression, as the bins count them.
        wrong: 1 where the answer was wrong, else 0.
    """

    graded: Floats
    wrong: Floats


def losses(name: str, seed: int) -> Losses:
    """Held-out rows, then those in front of the change and behind it."""
    first, second = WORLDS[name](seed)
    change = FITTED + HELD_OUT + BEFORE
    old, new = _taken(first, change + GRADUAL), _taken(second, AFTER)
    if name == "hyperplane":
        new = _mixed(_cut(old, change, None), new, np.random.default_rng(seed))
    (features, target), rest = _cut(old, 0, FITTED), _cut(old, FITTED, change)
    features_later, truth = (np.concatenate(pair) for pair in zip(rest, new, strict=True))
    if name == "friedman":
        model = HistGradientBoostingRegressor(max_iter=TREES).fit(features, target)
        graded = np.abs(model.predict(features_later) - truth)
        return Losses(graded, (graded > np.quantile(graded[:HELD_OUT], LARGE)).astype(np.float64))
    chances = HistGradientBoostingClassifier(max_iter=TREES).fit(features, target).predict_proba(features_later)[:, 1]
    wrong = (chances >= THRESHOLD) != (truth == 1)
    return Losses(log_losses(chances, truth == 1), wrong.astype(np.float64))


def _taken(generator: Iterable[tuple[dict[Any, float], float]], rows: int) -> Rows:
    given = [(list(features.values()), target) for features, target in islice(generator, rows)]
    return np.array([each for each, _ in given], float), np.array([each for _, each in given], float)


def _cut(rows: Rows, start: int, end: int | None) -> Rows:
    return rows[0][start:end], rows[1][start:end]


def _mixed(old: Rows, new: Rows, random: np.random.Generator) -> Rows:
    """Fewer and fewer rows of the old world, then none."""
    kept = np.flatnonzero(random.random(GRADUAL) >= np.arange(GRADUAL) / GRADUAL)
    for before, behind in zip(old, new, strict=True):
        behind[kept] = before[kept]
    return new


def judged(given: Losses) -> tuple[int, float | None, int]:
    """False alarms, the rows from the change to the alarm, and second episodes."""
    reference = streams.reference({LOSS: given.graded[:HELD_OUT]}, PANE, {})
    counts = streams.counted(reference.bins, {LOSS: given.graded[HELD_OUT:]}, PANE)
    opened = list(episodes(reference, counts, given.wrong[HELD_OUT:].reshape(-1, PANE)))
    early = sum(certain(each, PANE) <= BEFORE for each in opened)
    return early, *found(opened, PANE, BEFORE)


def adwin(wrong: Floats) -> tuple[int, float | None]:
    """The same of river's ADWIN alone, as its authors set it."""
    detector, alarms = ADWIN(), []
    for row, each in enumerate(wrong.tolist(), 1):
        detector.update(each)
        if detector.drift_detected:
            alarms.append(row - BEFORE)
    return sum(each <= 0 for each in alarms), next((float(each) for each in alarms if each > 0), None)


def concept(seeds: int, say: Callable[[str], None]) -> Result:
    """Median rows to the alarm of each change, what was missed, and alarms in front of it."""
    result: Result = {}
    alarms = adwin_alarms = missed = 0
    again: dict[str, int] = {}
    with threadpool_limits(1):
        for name in WORLDS:
            say(f"{seeds} changes of concept: {name}")
            each = [losses(name, seed) for seed in range(1, seeds + 1)]
            here = [judged(given) for given in each]
            beside = [adwin(given.wrong[HELD_OUT:]) for given in each]
            delays = [delay for _, delay, _ in here]
            result[f"delay_concept_{name}"] = median(delays)
            result[f"adwin_delay_concept_{name}"] = median([delay for _, delay in beside])
            missed += delays.count(None)
            alarms, adwin_alarms = alarms + sum(row[0] for row in here), adwin_alarms + sum(row[0] for row in beside)
            again[name] = sum(row[2] for row in here)
    rows = len(WORLDS) * seeds * BEFORE
    return result | {
        "missed_concept": missed,
        "second_episodes_gradual": again.pop("hyperplane"),
        "second_episodes_concept": sum(again.values()),
        "concept_null_rows": rows,
        "concept_false_alarms_per_2m": alarms * 2e6 / rows,
        "adwin_concept_false_alarms_per_2m": adwin_alarms * 2e6 / rows,
    }


def median(found: list[float | None]) -> float | None:
    """Of what was found; None where nothing was."""
    seen = [each for each in found if each is not None]
    return float(np.median(seen)) if seen else None
