"""Windows over a duration: what each pane of each entity holds, and the fold of a window's panes.

A pane is a fold of its rows in the order of the log, a window a fold of its panes in the order of time: always the same
additions in the same order, whatever the batches. No step runs per row; those of a batch that share a pane are one
line of a matrix that numpy accumulates along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.windows import PANES
from services.features.domain.windows_counted import Counted

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

CHUNK = 1_024
"""Windows that are looked at together, so that their panes fit a processor's cache."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one partition in the order of the log.

    Attributes:
        slots: The entity's place in the state, -1 for one that was refused.
        times: Event times, milliseconds.
        highest: Highest event time of the partition up to and including each row.
        order: Index of each row that was not refused, entity by entity.
    """

    slots: Ints
    times: Ints
    highest: Ints
    order: Ints = field(init=False)

    def __post_init__(self) -> None:
        """Sort once for all windows."""
        order = np.argsort(self.slots, kind="stable")
        object.__setattr__(self, "order", order[np.searchsorted(self.slots[order], 0) :])

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
        self._ring = 1 << (PANES + 1 + -(-kept // pane)).bit_length()
        names = {part for each in self._aggregates for part in PARTS[each]}
        self._index = np.full((0, self._ring), NEVER)
        self._parts: dict[str, npt.NDArray[Any]] = {"rows": np.zeros((0, self._ring), np.int32)}
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
        counts = ~np.isnan(values) & (first <= last)
        new = Counted(rows.order, counts, rows.slots, last)
        running = self._running(new, values[new.rows], rows.times[new.rows])
        out = {each: np.full(len(values), np.nan) for each in self._aggregates}
        for at in range(0, len(rows.order), CHUNK):
            asking = rows.order[at : at + CHUNK]
            there, cells = self._windows(rows.slots[asking], last[asking])
            here, behind = new.before(at, at + len(asking))
            there.ravel()[here] = True
            for name, held in running.items():
                cells[name].ravel()[here] = held[behind]
            late = np.flatnonzero(first[asking] > last[asking] - PANES)
            there[late] &= np.arange(-PANES, 1) >= (first - last)[asking][late, None]
            for name, found in _folds(self._aggregates, there, cells, rows.times[asking]).items():
                out[name][asking] = found
        self._write(new, running)
        return out

    def _running(self, new: Counted, value: Floats, times: Ints) -> dict[str, npt.NDArray[Any]]:
        """State of each counted row's pane right behind it."""
        at = new.slots[new.starts], new.panes[new.starts] & self._ring - 1
        known = self._index[at] == new.panes[new.starts]
        before = {
            name: np.where(known, held[at], np.asarray(_EMPTY.get(name, 0), held.dtype))
            for name, held in self._parts.items()
        }
        out: dict[str, npt.NDArray[Any]] = {"rows": before["rows"][new.group] + new.rank + 1}
        for name in self._parts:
            if name == "first":
                out[name] = np.where(known, before[name], value[new.starts])[new.group]
            elif name == "last":
                out[name] = value
            elif name == "newest":
                out[name] = new.accumulate(np.maximum, before[name], times)
            elif name in {"sum", "min", "max"}:
                out[name] = new.accumulate(_RUNNING[name], before[name], value)
        if "first" in out:
            off = value - out["first"]
            out["off"] = new.accumulate(np.add, before["off"], off)
            out["square"] = new.accumulate(np.add, before["square"], off * off)
        return out

    def _windows(self, slots: Ints, last: Ints) -> tuple[npt.NDArray[np.bool_], dict[str, npt.NDArray[Any]]]:
        """The panes of each row's window as they were before the batch, shape (rows, panes), the oldest first."""
        panes = last[:, None] + np.arange(-PANES, 1)
        at = (panes & self._ring - 1) + (slots * self._ring)[:, None]
        there = self._index.ravel().take(at) == panes
        return there, {name: held.ravel().take(at) for name, held in self._parts.items()}

    def _write(self, new: Counted, running: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep the last state of each pane; of two that share a cell the younger one is written later and stays."""
        ends = new.ends - 1
        slots, panes = new.slots[ends], new.panes[ends]
        newer = panes >= self._index[slots, panes & self._ring - 1]
        at = slots[newer], panes[newer] & self._ring - 1
        self._index[at] = panes[newer]
        for name, held in running.items():
            self._parts[name][at] = held[ends][newer]


def _folds(
    aggregates: Iterable[str], there: npt.NDArray[np.bool_], cells: Mapping[str, npt.NDArray[Any]], times: Ints
) -> dict[str, Floats]:
    """One number per window of its panes."""
    held: Ints = np.multiply(cells["rows"], there)
    rows: Ints = held.sum(axis=1)
    return {each: _fold(each, there, {**cells, "rows": held}, times, rows) for each in aggregates}


def _fold(
    aggregate: str, there: npt.NDArray[np.bool_], cells: Mapping[str, npt.NDArray[Any]], times: Ints, rows: Ints
) -> Floats:
    if aggregate == "count":
        return rows.astype(np.float64)
    empty = np.where(rows > 0, 1.0, np.nan)
    if aggregate in {"sum", "mean"}:
        total = folded(np.add, or_zero(cells["sum"], there)) * empty
        mean: Floats = total / np.maximum(rows, 1)
        return total if aggregate == "sum" else mean
    if aggregate == "std":
        return _deviation(cells, rows)
    if aggregate == "since":
        return passed(times, np.where(there, cells["newest"], NEVER)) * empty
    if aggregate == "last":
        return last_of(or_null(cells["last"], there))
    extreme: Floats = _RUNNING[aggregate].reduce(or_null(cells[aggregate], there), axis=1)
    return extreme


def or_zero(values: Floats, there: npt.NDArray[np.bool_]) -> Floats:
    """The values, and 0 where none is there; by their bits, which is much faster than by choice."""
    out: Floats = (values.view(np.int64) * there).view(np.float64)
    return out


def or_null(values: Floats, there: npt.NDArray[np.bool_]) -> Floats:
    """The values, and NaN where none is there: all bits are set."""
    out: Floats = (values.view(np.int64) | (there.view(np.int8) - np.int8(1))).view(np.float64)
    return out


def folded(how: Callable[[Any, Any], Any], lines: Floats) -> Floats:
    """Of each line its numbers one after the other: the order is part of the result, and numpy's own sum has others."""
    out: Floats = reduce(how, lines.T)
    return out


def passed(now: Ints, times: Ints) -> Floats:
    """Seconds since the newest time of each line, none where it is ahead."""
    seconds: Floats = np.maximum(now - times.max(axis=1), 0) / 1_000
    return seconds


def last_of(lines: Floats) -> Floats:
    """The last number of each line, NaN where there is none."""
    newest = lines.shape[1] - 1 - np.argmax(~np.isnan(lines[:, ::-1]), axis=1)
    out: Floats = lines[np.arange(len(lines)), newest]
    return out


def _deviation(cells: Mapping[str, npt.NDArray[Any]], rows: Ints) -> Floats:
    """Sample standard deviation; panes are merged by their means and squares, so that nothing large cancels."""
    count, mean, square = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
    held = cells["rows"].astype(np.float64)
    for n, first, off, squares in zip(held.T, cells["first"].T, cells["off"].T, cells["square"].T, strict=True):
        least = np.maximum(n, 1)
        total = count + n
        apart = first + off / least - mean
        part = n / np.maximum(total, 1)
        square = np.where(n > 0, square + (squares - off * off / least) + apart * apart * count * part, square)
        mean = np.where(n > 0, mean + apart * part, mean)
        count = total
    return np.where(rows > 1, np.sqrt(np.maximum(square, 0) / np.maximum(rows - 1, 1)), np.nan)
