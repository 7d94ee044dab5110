"""Windows over the last rows of an entity: the rows themselves are kept, the oldest first.

They are the last ones that arrived; of them those count that are in the window's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from services.features.domain.windows_panes import NEVER, Floats, Ints, Rows, folded, later, passed

_ONE: dict[str, Callable[[Any, Any], Any]] = {"min": np.fmin, "max": np.fmax, "last": later}


class LastRows:
    """The windows over one value and so many rows within one duration.

    Args:
        rows: Most rows of a window.
        pane: Width of a pane, milliseconds.
        kept: How long rows count beyond the window, milliseconds.
        aggregates: What is asked of the windows.
    """

    def __init__(self, rows: int, pane: int, kept: int, aggregates: Iterable[str]) -> None:
        self._rows, self._pane, self._kept, self._aggregates = rows, pane, kept, tuple(aggregates)
        self._values = np.zeros((0, rows))
        self._times = np.full((0, rows), NEVER)

    def grow(self, slots: int) -> None:
        """Make room for so many entities."""
        more = slots - len(self._times)
        self._values = np.concatenate([self._values, np.zeros((more, self._rows))])
        self._times = np.concatenate([self._times, np.full((more, self._rows), NEVER)])

    def clear(self, slots: Ints) -> None:
        """Forget the entities of these slots."""
        self._times[slots] = NEVER

    def step(self, rows: Rows, values: Floats) -> dict[str, Floats]:
        """What each row's window is without the row itself, by aggregate, NaN for null; then the rows count."""
        held = np.flatnonzero(rows.slots >= 0)
        order = held[np.argsort(rows.slots[held], kind="stable")]
        slots, sizes = np.unique(rows.slots[order], return_counts=True)
        ends = np.cumsum(sizes + self._rows)
        at = np.arange(len(order)) + np.repeat(np.arange(1, len(slots) + 1), sizes) * self._rows
        line_values, line_times = self._line(slots, ends, at, values[order], rows.times[order])
        self._keep(slots, ends, line_values, line_times)
        before = np.zeros((self._rows, len(rows.slots)), np.int64)
        before[:, order] = at[None, :] - np.arange(self._rows, 0, -1)[:, None]
        if not len(order):
            return {each: np.full(len(values), np.nan) for each in self._aggregates}
        return self._folds(rows, line_values[before], line_times[before])

    def _line(self, slots: Ints, ends: Ints, at: Ints, values: Floats, times: Ints) -> tuple[Floats, Ints]:
        """Of each entity what is kept and behind it what is new, one entity after the other."""
        total = int(ends[-1]) if len(ends) else 0
        old = np.ones(total, bool)
        old[at] = False
        line_values, line_times = np.empty(total), np.empty(total, np.int64)
        line_values[old], line_times[old] = self._values[slots].ravel(), self._times[slots].ravel()
        line_values[at], line_times[at] = values, times
        return line_values, line_times

    def _keep(self, slots: Ints, ends: Ints, values: Floats, times: Ints) -> None:
        newest = ends[:, None] + np.arange(-self._rows, 0)[None, :]
        self._values[slots], self._times[slots] = values[newest], times[newest]

    def _folds(self, rows: Rows, values: Floats, times: Ints) -> dict[str, Floats]:
        first, last = rows.bounds(self._pane, self._kept)
        panes = times // self._pane
        there = (panes >= first) & (panes <= last) & ~np.isnan(values) & (rows.slots >= 0)
        count = there.sum(axis=0)
        return {each: _fold(each, there, values, times, rows.times, count) for each in self._aggregates}


def _fold(aggregate: str, there: npt.NDArray[np.bool_], values: Floats, times: Ints, now: Ints, count: Ints) -> Floats:
    if aggregate == "count":
        return count.astype(np.float64)
    empty = np.where(count > 0, 1.0, np.nan)
    if aggregate == "since":
        return passed(now, np.where(there, times, NEVER)) * empty
    if aggregate in {"sum", "mean", "std"}:
        return _moments(aggregate, np.where(there, values, 0.0), there, count) * empty
    return folded(_ONE[aggregate], np.where(there, values, np.nan))


def _moments(aggregate: str, values: Floats, there: npt.NDArray[np.bool_], count: Ints) -> Floats:
    total = folded(np.add, values)
    if aggregate == "sum":
        return total
    mean = total / np.maximum(count, 1)
    if aggregate == "mean":
        return mean
    apart = np.where(there, values - mean, 0.0)
    square = folded(np.add, apart * apart)
    return np.where(count > 1, np.sqrt(square / np.maximum(count - 1, 1)), np.nan)
