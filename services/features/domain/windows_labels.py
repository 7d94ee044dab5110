"""Windows over the labels of an entity that had arrived: what was known when a row came, never what it was to become.

A row's window holds the labels that came before the row was computed and whose own time lies in the full panes before
the row's own. So no label counts that is younger than its row, whatever arrives first, and a feature is a function of
the row, the highest event time of the rows so far and the labels so far: not of the order in which both came.

A label that is ahead of the rows waits until they reach its pane, because panes of a future that has not begun would
take the places of those that rows still ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.windows import LABEL, Window
from services.features.domain.windows import Windows
from services.features.domain.windows_panes import NEVER, Floats, Ints, Rows


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels in the order of the log.

    Attributes:
        names: Their entities.
        times: When they were known, milliseconds.
        values: Index of the class, or the value; never NaN.
    """

    names: pa.Array
    times: Ints
    values: Floats

    def some(self, which: Ints) -> Labels:
        """Copies of these: what waits must not keep a whole message."""
        return Labels(self.names.take(pa.array(which)), self.times[which], self.values[which])


@dataclass(frozen=True, slots=True)
class Asked(Rows):
    """Labels, which count, between rows, which only ask.

    Attributes:
        asking: Which are rows.
    """

    asking: npt.NDArray[np.bool_]

    def bounds(self, pane: int, kept: int) -> tuple[Ints, Ints]:
        """First and last pane: those of a row end before its own."""
        first, last = Rows.bounds(self, pane, kept)
        return first, last - self.asking


class LabelWindows:
    """The windows over the labels of one partition.

    Args:
        windows: The features over labels, by name.
        lateness: How late a row may be and still find all panes, milliseconds.
        entities: Most entities.
    """

    def __init__(self, windows: Mapping[str, Window], lateness: int, entities: int) -> None:
        spans = dict.fromkeys(each.span for each in windows.values())
        alike = [{name: each for name, each in windows.items() if each.span == span} for span in spans]
        self._spans = [_Span(each, lateness, entities) for each in alike]

    @property
    def refused(self) -> int:
        """Rows so far whose entity found no place."""
        return max(each.refused for each in self._spans)

    def arrive(self, labels: Labels) -> None:
        """These count in what rows ask from now on."""
        for each in self._spans:
            each.arrive(labels)

    def ask(self, names: pa.Array, times: Ints) -> dict[str, Floats]:
        """The features of rows of these entities and times, NaN for null; all are null for a refused entity."""
        return dict(chain.from_iterable(each.ask(names, times).items() for each in self._spans))


class _Span(Windows):
    """The windows of one duration: what waits for a pane waits for all of them."""

    def __init__(self, windows: Mapping[str, Window], lateness: int, entities: int) -> None:
        super().__init__(windows, lateness, entities)
        self._ahead: dict[int, list[Labels]] = {}

    def arrive(self, labels: Labels) -> None:
        panes = labels.times // self._tick
        for pane in np.unique(panes).tolist():
            self._ahead.setdefault(pane, []).append(labels.some(np.flatnonzero(panes == pane)))

    def ask(self, names: pa.Array, times: Ints) -> dict[str, Floats]:
        if not len(times):
            return {name: np.zeros(0) for name in self._windows}
        clock = np.maximum(np.maximum.accumulate(times), self._highest) // self._tick
        due = [self._ahead.pop(pane) for pane in sorted(self._ahead) if pane <= clock[-1]]
        labels = list(chain.from_iterable(due))
        known = np.concatenate([each.times for each in labels]) if labels else times[:0]
        order, rows = _merged(np.searchsorted(clock, known // self._tick), len(times))
        found = self.step(
            pa.chunked_array([*(each.names for each in labels), names]).combine_chunks().take(pa.array(order)),
            np.concatenate([known, times])[order],
            {LABEL: np.concatenate([*(each.values for each in labels), np.full(len(times), np.nan)])[order]},
        )
        return {name: each[rows] for name, each in found.items()}

    def _clock(self, times: Ints, values: Mapping[str, Floats]) -> Ints:
        return np.where(np.isnan(values[LABEL]), times, NEVER)

    def _rows(self, slots: Ints, times: Ints, highest: Ints, values: Mapping[str, Floats]) -> Rows:
        return Asked(slots, times, highest, asking=np.isnan(values[LABEL]))

    def _refused(self, rows: Rows) -> int:
        return int((rows.slots[rows.asking] < 0).sum()) if isinstance(rows, Asked) else 0


def _merged(before: Ints, rows: int) -> tuple[Ints, Ints]:
    """Labels between rows: indices of labels and of the rows behind them as they follow, and where the rows are then.

    Args:
        before: The row that each label comes before, ascending.
        rows: How many rows there are.
    """
    at = before + np.arange(len(before))
    where = np.delete(np.arange(len(before) + rows), at)
    order = np.empty(len(before) + rows, np.int64)
    order[at], order[where] = np.arange(len(before)), np.arange(rows) + len(before)
    return order, where
