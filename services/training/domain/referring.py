"""The reference of a fit: what the world looked like that it knows, for drift to compare with.

Features as in the rows of the fit; predictions and losses of the held-out rows alone, since a model is too sure of rows
that it was fitted on; classes of all rows. Panes are those in which drift counts: of event time for features and
predictions, of label time for losses and classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.bins import LABEL, LOSS, PREDICTION, Bins, Column, Counts
from schemas.bins_learning import learn
from schemas.reference import HOUR, MOST_PANE_CELLS, MOST_PANES, Reference, Season, strata_count, strata_of
from schemas.spec import FeatureType
from schemas.task import Target
from services.training.domain.fitting import labels_of
from services.training.domain.rows import event_times, times

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SHARES = {"features": 4, PREDICTION: 2, LABEL: 1, LOSS: 1}
"""How the panes that are kept apart are shared, in eighths."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """How time is cut.

    Attributes:
        pane: Length of a pane in milliseconds.
        seasons: What strata are.
    """

    pane: int
    seasons: tuple[Season, ...] = ()

    def visits(self, moments: Ints) -> Ints:
        """How often time came into each stratum between the first and the last of some moments, shape (strata,)."""
        first, last = int(moments.min()) // self.pane, int(moments.max()) // self.pane
        step = max(1, HOUR // self.pane)
        panes = np.append(np.arange(first, last, step), last)
        strata = strata_of(panes * self.pane, self.seasons)
        entered = np.append(True, strata[1:] != strata[:-1])
        return np.bincount(strata[entered], minlength=strata_count(self.seasons)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Part:
    """Columns that are counted together.

    Attributes:
        name: Of its share.
        columns: Values by the name of their stream.
        moments: When the rows fall into a pane, milliseconds.
    """

    name: str
    columns: Mapping[str, Column]
    moments: Ints


def reference(
    older: pa.RecordBatch,
    held_out: pa.RecordBatch,
    outputs: Floats,
    features: Mapping[str, FeatureType],
    target: Target,
    calendar: Calendar,
) -> Reference:
    """The reference; the same rows give the same one.

    Args:
        older: The rows of the fit.
        held_out: The rows that it was checked on.
        outputs: What it answers to those.
        features: Type of each feature.
        target: What is predicted.
        calendar: How time is cut.
    """
    truth = labels_of(held_out)
    losses, predictions = target.losses(outputs, truth), target.predictions(outputs)
    labels = np.concatenate((labels_of(older), truth)).astype(np.float64)
    told = target.names if target.task == "multiclass" else predictions
    bins = learn(older, features, told, losses, target.names or labels)
    parts = [
        Part("features", {name: older.column(name) for name in features}, event_times(older)),
        Part(PREDICTION, {PREDICTION: predictions}, event_times(held_out)),
        Part(LABEL, {LABEL: labels}, np.concatenate((times(older), times(held_out)))),
        Part(LOSS, {LOSS: losses}, times(held_out)),
    ]
    counts = np.sum([_strata(bins, part, calendar) for part in parts], axis=0)
    kept = [_panes(bins, part, calendar) for part in parts]
    panes, strata = (np.concatenate(each) for each in zip(*kept, strict=True))
    return Reference(bins, counts, calendar.visits(parts[0].moments), panes, strata, calendar.seasons)


def _strata(bins: Bins, part: Part, calendar: Calendar) -> Ints:
    """Counts of all rows by the stratum of their pane, shape (strata, cells)."""
    strata = strata_of(part.moments // calendar.pane * calendar.pane, calendar.seasons)
    counted = bins.count(part.columns, strata, strata_count(calendar.seasons), learnt=True)
    return counted.astype(np.int64)


def _panes(bins: Bins, part: Part, calendar: Calendar) -> tuple[Counts, Ints]:
    """The newest panes that hold rows, and the stratum of each.

    Each part has panes of its own, in which the others count nothing: they are cut by another time.
    """
    most = min(MOST_PANES, MOST_PANE_CELLS // max(1, bins.cells)) * SHARES[part.name] // sum(SHARES.values())
    panes, index = np.unique(part.moments // calendar.pane, return_inverse=True)
    panes, older = panes[max(0, len(panes) - most) :], max(0, len(panes) - most)
    # All rows are counted, those of older panes together: the bins know these rows by their order.
    counted = bins.count(part.columns, np.maximum(index - older + 1, 0), 1 + len(panes), learnt=True)
    return counted[1:], strata_of(panes * calendar.pane, calendar.seasons)
