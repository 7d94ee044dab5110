"""Streams with one change each, bad data or genuine, and what the judge calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import expit

from benchmarks.drift_streams import CATEGORY, FEATURES, MIXED, columns, normal, shaped
from schemas.bins import LABEL, LOSS, PREDICTION, Bins, Column
from schemas.bins_learning import learn
from schemas.quantities import Rate
from schemas.reference import Reference
from services.drift.domain.door import FATES
from services.drift.domain.evidence import Episode, Transition
from services.drift.domain.judge import Judge
from services.drift.domain.pane_counts import LATE, OK, PaneCounts
from services.drift.domain.standing import Rules
from services.drift.domain.witness import Errors

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Random = np.random.Generator

REFERENCE, BEFORE, AFTER = 20_000, 2_500, 2_000
SOURCES, PANE = 4, 25
MINUTE = 60_000
POSITIVES, CLASS_SHIFT, MOVED_BY_CLASS = 0.3, 0.8, 4
NUMBERS = [i for i in range(FEATURES) if f"f{i}" != CATEGORY]
UNITS = list(range(17))
"""Features with a size: normal, lognormal, uniform, heavy-tailed."""
GROUPS = (range(5), range(5, 9), range(9, 13))
"""Features that look different from each other."""
RULES = Rules(pane=MINUTE, settle=1_000, rate=Rate(count=1, per_ms=30 * 24 * 60 * MINUTE))


@dataclass(slots=True)
class Rows:
    """A stretch of a stream; changes edit it.

    Attributes:
        latent: Normal variables behind the features.
        label: 0 or 1.
        source: Partition of events.
        after: Which rows the change has.
        values: Features as they arrive.
        reason: What became of each row, index in FATES.
    """

    latent: Floats
    label: Ints
    source: Ints
    after: Bools
    values: Floats = field(default_factory=lambda: np.empty(0))
    reason: Ints = field(default_factory=lambda: np.empty(0, np.int64))


Edit = Callable[[Rows, Random], None]


def _nothing(_: Rows, __: Random) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Change:
    """A sort of change and its right name.

    Attributes:
        name: For the matrix.
        family: That has to say it.
        called: Kind, or cause of bad data.
        latent: Edits what is behind the features, and the labels.
        arriving: Edits the features as they arrive.
        lone: Whether one source alone is concerned.
    """

    name: str
    family: str
    called: str
    latent: Edit = _nothing
    arriving: Edit = _nothing
    lone: bool = False

    @property
    def genuine(self) -> bool:
        """Whether the world has changed, not the data."""
        return self.called in ("covariate", "label", "concept")


def _scaled(factor: float) -> Edit:
    def edit(rows: Rows, random: Random) -> None:
        rows.values[rows.after, random.choice(UNITS)] *= factor

    return edit


def _swap(rows: Rows, random: Random) -> None:
    groups = random.choice(len(GROUPS), 2, replace=False)
    first, second = (int(random.choice(list(GROUPS[each]))) for each in groups)
    moved = rows.values[rows.after]
    moved[:, [first, second]] = moved[:, [second, first]]
    rows.values[rows.after] = moved


def _stick(rows: Rows, random: Random) -> None:
    feature = random.choice(UNITS)
    rows.values[rows.after, feature] = random.choice(rows.values[~rows.after, feature])


def _null(rows: Rows, random: Random) -> None:
    rows.values[rows.after, random.choice(FEATURES)] = np.nan


def _late(rows: Rows, random: Random) -> None:
    rows.reason[rows.after & (random.random(len(rows.after)) < random.uniform(0.2, 0.6))] = FATES.index(LATE)


def _refuse(rows: Rows, random: Random) -> None:
    code = random.choice(["missing_field", "wrong_type", "unknown_field"])
    rows.reason[rows.after & (random.random(len(rows.after)) < random.uniform(0.2, 1.0))] = FATES.index(code)


def _size(random: Random) -> float:
    return float(random.uniform(0.5, 2.0) * random.choice([-1, 1]))


def _shift(rows: Rows, random: Random) -> None:
    for feature in random.choice(NUMBERS, random.integers(1, 5), replace=False):
        rows.latent[rows.after, feature] += _size(random)


def _prior(rows: Rows, random: Random) -> None:
    changed = rows.after & (rows.label == 0) & (random.random(len(rows.after)) < random.uniform(0.2, 0.6))
    rows.label[changed] = 1
    rows.latent[changed, :MOVED_BY_CLASS] += CLASS_SHIFT


def _category(rows: Rows, random: Random) -> None:
    chosen = rows.after & (random.random(len(rows.after)) < random.uniform(0.1, 0.6))
    rows.values[chosen, FEATURES - 2] = 40


def _flip(rows: Rows, random: Random) -> None:
    changed = rows.after & (random.random(len(rows.after)) < random.uniform(0.2, 0.5))
    rows.label[changed] = 1 - rows.label[changed]


CHANGES = (
    Change("x 100", "features", "unit", arriving=_scaled(100)),
    Change("x 0.01", "features", "unit", arriving=_scaled(0.01)),
    Change("x 100, one source", "features", "unit", arriving=_scaled(100), lone=True),
    Change("x 0.01, one source", "features", "unit", arriving=_scaled(0.01), lone=True),
    Change("columns swapped", "features", "swap", arriving=_swap),
    Change("stuck sensor", "features", "stuck", arriving=_stick),
    Change("column all null", "features", "nulls", arriving=_null),
    Change("late burst", "quality", "late", arriving=_late),
    Change("schema break", "quality", "schema", arriving=_refuse),
    Change("covariate", "features", "covariate", latent=_shift),
    Change("prior", "label", "label", latent=_prior),
    Change("new category", "features", "covariate", arriving=_category),
    Change("regional", "features", "covariate", latent=_shift, lone=True),
    Change("concept", "concept", "concept", latent=_flip),
)


class World:
    """A model's reference and rows of the same world.

    Args:
        seed: Of everything random about the reference.
    """

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        mixing = np.cov(normal(random, 100_000).T)
        direction = np.zeros(FEATURES)
        direction[:MOVED_BY_CLASS] = CLASS_SHIFT
        self._weights = np.linalg.solve(mixing, direction)
        self._constant = np.log(POSITIVES / (1 - POSITIVES)) - direction @ self._weights / 2
        rows = self.rows(random, REFERENCE, np.zeros(REFERENCE, bool))
        rows.values = shaped(rows.latent, random)
        given = self.columns(rows)
        features = {name: given[name] for name in MIXED}
        bins = _bins(features, given)
        self.reference = Reference.of(
            bins, bins.count(given, np.arange(REFERENCE) // PANE, REFERENCE // PANE, learnt=True)
        )

    def rows(self, random: Random, count: int, after: Bools) -> Rows:
        """Rows before any change."""
        label = (random.random(count) < POSITIVES).astype(np.int64)
        latent = normal(random, count)
        latent[:, :MOVED_BY_CLASS] += CLASS_SHIFT * label[:, None]
        return Rows(latent, label, random.integers(0, SOURCES, count), after)

    def columns(self, rows: Rows) -> dict[str, Column]:
        """Features, the model's output, the label and the loss."""
        output = expit(rows.latent @ self._weights + self._constant)
        loss = -np.log(np.clip(np.where(rows.label == 1, output, 1 - output), 1e-9, 1))
        return columns(rows.values) | {PREDICTION: output, LABEL: rows.label.astype(float), LOSS: loss}

    def changed(self, change: Change, random: Random) -> Rows:
        """Rows with a change in the middle of them, at any place in a pane."""
        count = BEFORE + AFTER
        after = np.arange(count) >= BEFORE + random.integers(0, PANE)
        rows = self.rows(random, count, after)
        if change.lone:
            rows.after = after & (rows.source == random.integers(0, SOURCES))
        change.latent(rows, random)
        rows.values = shaped(rows.latent, random)
        rows.reason = np.full(count, FATES.index(OK))
        change.arriving(rows, random)
        return rows


def _bins(features: dict[str, Column], given: dict[str, Column]) -> Bins:
    held_out = np.asarray(given[PREDICTION]), np.asarray(given[LOSS])
    return learn(pa.record_batch(features), MIXED, *held_out, labels=("no", "yes"))


def panes(world: World, rows: Rows, length: int = PANE) -> Iterator[tuple[PaneCounts, PaneCounts, Errors]]:
    """Panes of event time, the same of label time, and their losses."""
    given, bins = world.columns(rows), world.reference.bins
    total = len(rows.label) // length
    index = np.arange(total * length) // length * SOURCES + rows.source[: total * length]
    scored = np.isin(rows.reason, [FATES.index(OK), FATES.index(LATE)])[: total * length]
    cut = {name: _chosen(column, scored) for name, column in given.items()}
    counts = bins.count(cut, index[scored], total * SOURCES).reshape(total, SOURCES, -1)
    quality = np.bincount(
        index * len(FATES) + rows.reason[: total * length], minlength=counts.shape[0] * SOURCES * len(FATES)
    )
    wrong = ((np.asarray(given[PREDICTION]) >= 0.5) != (rows.label == 1)).astype(float)
    for pane in range(total):
        here = slice(pane * length, (pane + 1) * length)
        both = PaneCounts(
            pane, 1, tuple(range(SOURCES)), counts[pane], quality.reshape(total, SOURCES, -1)[pane].astype(np.int64)
        )
        losses = wrong[here][scored[here]]
        yield both, both, Errors(pane * MINUTE + np.arange(len(losses), dtype=np.int64), losses)


def _chosen(column: Column, scored: Bools) -> Column:
    if isinstance(column, np.ndarray):
        return column[: len(scored)][scored]
    return column.slice(0, len(scored)).filter(pa.array(scored))


def episodes(world: World, change: Change, seed: int, length: int = PANE) -> list[Episode]:
    """What a judge opens over a stream with a change."""
    rows = world.changed(change, np.random.default_rng(seed))
    judge = Judge(RULES, {1: world.reference}.get)
    found: list[Transition] = []
    for events, labels, errors in panes(world, rows, length):
        found += judge.events(events)
        found += judge.labels(labels, errors)
    return [each.opened for each in found if each.opened is not None]


def called(change: Change, found: Sequence[Episode]) -> str:
    """What the first episode of the family that is concerned calls the change; bad data wherever it is named."""
    bad = [each for each in found if each.kind == "bad_data"]
    own = [each for each in found if each.family == change.family]
    chosen = (bad if change.genuine and bad else own) or bad
    if not chosen:
        return "missed"
    return chosen[0].cause or chosen[0].kind
