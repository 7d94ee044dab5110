"""Builders: panes of small streams with labels, for the tests of episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.bins import LABEL, LOSS, PREDICTION, Column
from schemas.bins_learning import learn
from schemas.quantities import Rate
from schemas.reference import Reference
from schemas.spec import FeatureType
from services.drift.domain.door import FATES
from services.drift.domain.evidence import Transition
from services.drift.domain.judge import Judge
from services.drift.domain.pane_counts import OK, PaneCounts
from services.drift.domain.standing import Rules
from services.drift.domain.witness import Errors

Floats = npt.NDArray[np.float64]
Rows = dict[str, Column]

PANE, MINUTE, SOURCES = 50, 60_000, 2
RULES = Rules(MINUTE, 1_000, Rate(count=1, per_ms=30 * 24 * 60 * MINUTE))
TYPES: dict[str, FeatureType] = {"a": "number", "b": "number", "c": "number", "d": "number"}


@dataclass(frozen=True)
class Stretch:
    """Rows that are alike.

    Attributes:
        panes: How many panes of them.
        member: Which answers.
        edit: Changes the rows.
        reason: What became of half of them at the door.
        wrong: By how much more often than usual the answer is wrong.
    """

    panes: int
    member: int = 1
    edit: Callable[[Rows], Rows] = lambda rows: rows
    reason: str = OK
    wrong: float = 0.0


def drawn(random: np.random.Generator, count: int, wrong: float = 0.0) -> Rows:
    return {
        "a": random.normal(size=count),
        "b": random.normal(size=count),
        "c": np.exp(random.normal(size=count)),
        "d": random.random(count),
        PREDICTION: random.random(count),
        LABEL: (random.random(count) < 0.3).astype(float),
        LOSS: np.where(random.random(count) < 0.1 + wrong, 1.0, 0.0) + random.random(count) / 100,
    }


def learnt(given: Rows, types: dict[str, FeatureType] = TYPES) -> Reference:
    features = pa.record_batch({name: pa.array(given[name]) for name in types})
    bins = learn(features, types, np.asarray(given[PREDICTION]), np.asarray(given[LOSS]), ("no", "yes"))
    count = len(given["a"])
    return Reference.of(bins, bins.count(given, np.arange(count) // PANE, -(-count // PANE), learnt=True))


@cache
def reference(moved: float = 0.0) -> Reference:
    """Of rows whose first feature lies so much higher."""
    return learnt(shifted(moved)(drawn(np.random.default_rng(9), 6_000)))


def shifted(by: float, feature: str = "a") -> Callable[[Rows], Rows]:
    return lambda rows: rows | {feature: np.asarray(rows[feature]) + by}


def times(factor: float, feature: str = "c", source: int | None = None) -> Callable[[Rows], Rows]:
    """Another unit, in all rows or in one source (every other row)."""

    def edit(rows: Rows) -> Rows:
        values = np.array(rows[feature])
        chosen = slice(None) if source is None else slice(source, None, SOURCES)
        values[chosen] = values[chosen] * factor
        return rows | {feature: values}

    return edit


Panes = list[tuple[PaneCounts, Errors]]


def panes(
    stretches: Sequence[Stretch], references: Callable[[int], Reference | None], seed: int = 1, pane: int = PANE
) -> Panes:
    """Panes of a stream whose rows go to the sources in turn; labels come at once."""
    random = np.random.default_rng(seed)
    found: Panes = []
    for stretch in stretches:
        for _ in range(stretch.panes):
            rows = stretch.edit(drawn(random, pane, stretch.wrong))
            found.append(_pane(len(found), stretch, rows, references(stretch.member)))
    return found


def _pane(index: int, stretch: Stretch, rows: Rows, known: Reference | None) -> tuple[PaneCounts, Errors]:
    count = len(rows["a"])
    source = np.arange(count) % SOURCES
    counts = known.bins.count(rows, source, SOURCES) if known else np.zeros((SOURCES, 0), np.int32)
    quality = np.zeros((SOURCES, len(FATES)), np.int64)
    quality[:, FATES.index(OK)] = count // SOURCES
    if stretch.reason != OK:
        quality[:, FATES.index(stretch.reason)] = count // SOURCES
    losses = (np.asarray(rows[LOSS]) >= 0.5).astype(float)
    at = index * MINUTE + np.arange(count, dtype=np.int64)
    return PaneCounts(index, stretch.member, tuple(range(SOURCES)), counts, quality), Errors(at, losses)


def judged(given: Panes, references: Callable[[int], Reference | None], judge: Judge | None = None) -> list[Transition]:
    judge = judge or Judge(RULES, references)
    return [each for pane, errors in given for each in (*judge.events(pane), *judge.labels(pane, errors))]


def one(member: int) -> Reference | None:
    """The only member's reference."""
    return reference() if member == 1 else None


def run(*stretches: Stretch, references: Callable[[int], Reference | None] = one, seed: int = 1) -> list[Transition]:
    return judged(panes(stretches, references, seed), references)


def told(found: Sequence[Transition]) -> list[tuple[str, str, str]]:
    """Family, what happened, and the kind or reason of each transition."""
    return [
        (each.family, "opened", each.opened.kind) if each.opened else (each.family, "closed", each.reason)
        for each in found
    ]
