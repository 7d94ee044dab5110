"""Builders: rows, references and panes of small streams, for the tests of the statistic."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.bins import Bins, Counts
from schemas.bins_learning import learn
from schemas.reference import Reference
from schemas.spec import FeatureType
from services.drift.domain.monitor import Judged, Monitor

Floats = npt.NDArray[np.float64]

PANE = 25
A = 43_200 / 0.25


def columns(values: Floats) -> dict[str, pa.Array]:
    """A number per column; NaN is NaN."""
    return {f"f{i}": pa.array(each) for i, each in enumerate(values.T)}


def types(values: Floats) -> dict[str, FeatureType]:
    return {f"f{i}": "number" for i in range(values.shape[1])}


def counted(bins: Bins, values: Floats, pane: int = PANE, *, learnt: bool = False) -> Counts:
    """Full panes of so many rows."""
    panes = len(values) // pane
    rows = columns(values[: panes * pane])
    return bins.count(rows, np.arange(panes * pane) // pane, panes, learnt=learnt)


def reference(values: Floats, pane: int = PANE) -> Reference:
    bins = learn(pa.record_batch(columns(values)), types(values))
    return Reference.of(bins, counted(bins, values, pane, learnt=True))


def judge(monitor: Monitor, panes: Iterable[Counts]) -> list[Judged]:
    return [monitor.judge(counts, index) for index, counts in enumerate(panes)]


def first_alarm(monitor: Monitor, panes: Iterable[Counts]) -> int | None:
    """Index of the first pane with an alarm."""
    found = (index for index, counts in enumerate(panes) if monitor.judge(counts, index).alarm)
    return next(found, None)
