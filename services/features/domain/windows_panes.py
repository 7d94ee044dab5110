"""Windows over a duration: what each pane of each entity holds, and the fold of a window's panes.

A pane is a fold of its rows in the order of the log, a window a fold of its panes in the order of time: always the same
additions in the same order, whatever the batches. No step runs per row; those of a batch that share a pane are one
line of a matrix that numpy accumulates along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.windows import PANES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NEVER = -(1 << 62)
"""An index and a time before all others."""

PARTS = {
    "count": (),
    "sum": ("sum",),
    "mean": ("sum",),
    "std": ("first", "off", "square"),
    "min": ("min",),
    "max": ("max",),
    "last": ("last",),
    "since": ("newest",),
}
"""What a pane keeps per aggregate besides its number of rows; `off`, `square`: sums of x - first and its square."""

_EMPTY = {"min": np.nan, "max": np.nan, "newest": NEVER}
_RUNNING: dict[str, np.ufunc] = {"sum": np.add, "off": np.add, "square": np.add, "min": np.fmin, "max": np.fmax}


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one partition in the order of the log.

    Attributes:
        slots: The entity's place in the state, -1 for one that was refused.
        times: Event times, milliseconds.
        highest: Highest event time of the partition up to and including each row.
    """

    slots: Ints
    times: Ints
    highest: Ints

    def bounds(self, pane: int, kept: int) -> tuple[Ints, Ints]:
        """First and last pane of each row's window: the first is after the last for a row that came too late."""
        last = self.times // pane
        return np.maximum(last, (self.highest - kept) // pane) - PANES, last


class Panes:
    """The windows over one value and one duration.

    Args:
        pane: Width of a pane, milliseconds.
        kept: How long panes are kept beyond the window, milliseconds.
        aggregates: What is asked of the windows.
    """

    def __init__(self, pane: int, kept: int, aggregates: Iterable[str]) -> None:
        self._pane, self._kept, self._aggregates = pane, kept, tuple(aggregates)
        self._ring = PANES + 2 + -(-kept // pane)
        names = {part for each in self._aggregates for part in PARTS[each]}
        self._index = np.full((0, self._ring), NEVER)
        self._parts: dict[str, npt.NDArray[np.generic]] = {"rows": np.zeros((0, self._ring), np.int64)}
        self._parts |= {
            name: np.zeros((0, self._ring), np.int64 if name == "newest" else np.float64) for name in sorted(names)
        }

    def grow(self, slots: int) -> None:
        """Make room for so many entities."""
        more = slots - len(self._index)
        self._index = np.concatenate([self._index, np.full((more, self._ring), NEVER)])
        for name, held in self._parts.items():
            self._parts[name] = np.concatenate([held, np.zeros((more, self._ring), held.dtype)])

    def clear(self, slots: Ints) -> None:
        """Forget the entities of these slots."""
        self._index[slots] = NEVER

    def step(self, rows: Rows, values: Floats) -> dict[str, Floats]:
        """What each row's window is without the row itself, by aggregate, NaN for null; then the rows count."""
        first, last = rows.bounds(self._pane, self._kept)
        counted = np.flatnonzero((rows.slots >= 0) & ~np.isnan(values) & (first <= last))
        new = _Counted(counted, rows.slots[counted], last[counted])
        running = self._running(new, values, rows.times)
        there, cells = self._windows(rows.slots, first, last, new, running)
        self._write(new, running)
        return {each: _fold(each, there, cells, rows.times) for each in self._aggregates}

    def _running(self, new: _Counted, values: Floats, times: Ints) -> dict[str, npt.NDArray[np.generic]]:
        """State of each counted row's pane right behind it."""
        at = new.slots[new.starts], new.panes[new.starts] % self._ring
        known = self._index[at] == new.panes[new.starts]
        value, out = values[new.rows], {}
        before = {
            name: np.where(known, held[at], np.asarray(_EMPTY.get(name, 0), held.dtype))
            for name, held in self._parts.items()
        }
        out["rows"] = before["rows"][new.group] + new.rank + 1
        for name in self._parts:
            if name == "first":
                out[name] = np.where(known, before[name], value[new.starts])[new.group]
            elif name == "last":
                out[name] = value
            elif name == "newest":
                out[name] = new.accumulate(np.maximum, before[name], times[new.rows])
            elif name in {"sum", "min", "max"}:
                out[name] = new.accumulate(_RUNNING[name], before[name], value)
        if "first" in out:
            off = value - out["first"]
            out["off"] = new.accumulate(np.add, before["off"], off)
            out["square"] = new.accumulate(np.add, before["square"], off * off)
        return out

    def _windows(
        self, slots: Ints, first: Ints, last: Ints, new: _Counted, running: Mapping[str, npt.NDArray[np.generic]]
    ) -> tuple[npt.NDArray[np.bool_], dict[str, npt.NDArray[np.generic]]]:
        """The panes of each row's window as they were before it, shape (panes, rows), the oldest first."""
        panes = last[None, :] - np.arange(PANES, -1, -1)[:, None]
        wanted = (panes >= first[None, :]) & (slots >= 0)[None, :]
        at = np.maximum(slots, 0)[None, :] * self._ring + panes % self._ring
        there = wanted & (self._index.ravel()[at] == panes)
        cells = {name: held.ravel()[at] for name, held in self._parts.items()}
        here, found = new.before(panes, slots, wanted)
        there.ravel()[here] = True
        for name, held in running.items():
            cells[name].ravel()[here] = held[found]
        return there, cells

    def _write(self, new: _Counted, running: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Keep the last state of each pane; of two that share a cell the younger one is written later and stays."""
        ends = new.ends - 1
        slots, panes = new.slots[ends], new.panes[ends]
        newer = panes >= self._index[slots, panes % self._ring]
        at = slots[newer], panes[newer] % self._ring
        self._index[at] = panes[newer]
        for name, held in running.items():
            self._parts[name][at] = held[ends][newer]


class _Counted:
    """The rows that count, sorted by entity and pane, in the order of the log where both are the same.

    Attributes:
        rows: Index of each in the batch.
        slots: Its entity.
        panes: Its pane.
        starts: Where each group of the same entity and pane starts.
        ends: And where it ends.
        group: The group of each row.
        rank: Its place in the group.
    """

    def __init__(self, rows: Ints, slots: Ints, panes: Ints) -> None:
        order = np.lexsort((panes, slots))
        self.rows, self.slots, self.panes = rows[order], slots[order], panes[order]
        changes = np.flatnonzero((np.diff(self.slots) != 0) | (np.diff(self.panes) != 0)) + 1
        self.starts = np.concatenate([np.zeros(min(1, len(rows)), np.int64), changes])
        self.ends = np.concatenate([self.starts[1:], np.full(min(1, len(rows)), len(rows))])
        self.group = np.repeat(np.arange(len(self.starts)), self.ends - self.starts)
        self.rank = np.arange(len(rows)) - self.starts[self.group]

    def accumulate(
        self, how: np.ufunc, before: npt.NDArray[np.generic], values: npt.NDArray[np.generic]
    ) -> npt.NDArray[np.generic]:
        """Fold of each group up to each row, strictly one after the other, begun with what was before."""
        if not len(values):
            return values
        lines = np.zeros((len(self.starts), int(self.rank.max()) + 2), values.dtype)
        lines[:, 0] = before
        lines[self.group, self.rank + 1] = values
        folded: npt.NDArray[np.generic] = how.accumulate(lines, axis=1)[self.group, self.rank + 1]
        return folded

    def before(self, panes: Ints, slots: Ints, wanted: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Which wanted panes rows of this batch have touched before the asking row, and the last such row each."""
        none = np.zeros(0, np.int64)
        if not len(self.rows):
            return none, none
        distinct = np.unique(self.panes)
        asked = np.flatnonzero(wanted & (panes >= distinct[0]) & (panes <= distinct[-1]))
        pane, row = panes.ravel()[asked], asked % len(slots)
        rank = np.searchsorted(distinct, pane)
        same = distinct[rank] == pane
        asked, rank, row = asked[same], rank[same], row[same]
        codes = self.slots * len(distinct) + np.searchsorted(distinct, self.panes)
        wide = len(slots) + 1
        sought = slots[row] * len(distinct) + rank
        found = np.searchsorted(codes * wide + self.rows, sought * wide + row) - 1
        hit = (found >= 0) & (codes[found] == sought)
        return asked[hit], found[hit]


def _fold(
    aggregate: str, there: npt.NDArray[np.bool_], cells: Mapping[str, npt.NDArray[np.generic]], times: Ints
) -> Floats:
    """One number per window of its panes; a loop over panes, because the order of additions is part of the result."""
    rows: Ints = np.where(there, cells["rows"], 0).sum(axis=0)
    empty = np.where(rows > 0, 1.0, np.nan)
    if aggregate == "count":
        return rows.astype(np.float64)
    if aggregate in {"sum", "mean"}:
        total = folded(np.add, np.where(there, cells["sum"], 0.0)) * empty
        mean: Floats = total / np.maximum(rows, 1)
        return total if aggregate == "sum" else mean
    if aggregate == "std":
        return _deviation(there, cells, rows)
    if aggregate == "since":
        return passed(times, np.where(there, cells["newest"], NEVER)) * empty
    if aggregate == "last":
        return folded(later, np.where(there, cells["last"], np.nan))
    extreme = np.where(there, cells[aggregate], np.nan)
    return folded(np.fmin if aggregate == "min" else np.fmax, extreme)


def folded(how: Callable[[Any, Any], Any], lines: Floats) -> Floats:
    """The lines one after the other: the order is part of the result, and numpy's own sum has another per shape."""
    out: Floats = reduce(how, lines)
    return out


def passed(now: Ints, times: Ints) -> Floats:
    """Seconds since the newest of each column of times, none where it is ahead."""
    seconds: Floats = np.maximum(now - times.max(axis=0), 0) / 1_000
    return seconds


def later(known: Floats, new: Floats) -> Floats:
    """The new number where there is one."""
    out: Floats = np.where(np.isnan(new), known, new)
    return out


def _deviation(there: npt.NDArray[np.bool_], cells: Mapping[str, npt.NDArray[np.generic]], rows: Ints) -> Floats:
    """Sample standard deviation; panes are merged by their means and squares, so that nothing large cancels."""
    count, mean, square = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
    held = np.where(there, cells["rows"], 0).astype(np.float64)
    for n, first, off, squares in zip(held, cells["first"], cells["off"], cells["square"], strict=True):
        least = np.maximum(n, 1)
        total = count + n
        apart = first + off / least - mean
        part = n / np.maximum(total, 1)
        square = np.where(n > 0, square + (squares - off * off / least) + apart * apart * count * part, square)
        mean = np.where(n > 0, mean + apart * part, mean)
        count = total
    return np.where(rows > 1, np.sqrt(np.maximum(square, 0) / np.maximum(rows - 1, 1)), np.nan)
