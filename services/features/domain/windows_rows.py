"""Windows over the last rows of an entity: the rows themselves are kept, the oldest first.

They are the last ones that arrived; of them those count that are in the window's time. Each entity has a line with more
places than its window has rows, and a new row takes the place behind the last one. So every window is a stretch of a
line, and only where a line is full its newest rows are moved to its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from services.features.domain.windows_counted import changes
from services.features.domain.windows_panes import (
    CHUNK,
    NEVER,
    Floats,
    Ints,
    Rows,
    folded,
    last_of,
    or_null,
    or_zero,
    passed,
)

Bools = npt.NDArray[np.bool_]

SPARE = 16
"""Least places of a line beyond its window: more rows of one entity in one batch are a step of their own."""
SPARE_OF_ALL = 1 << 17
"""Such places in all lines together that are always allowed: few entities may have many rows in a batch."""


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
        self._width, self._nulls = rows, False
        self._values, self._times = np.zeros((0, rows)), np.zeros((0, rows), np.int64)
        self._lines, self._line_times = self._values, self._times  # all stretches of them that are as long as a window
        self._ends = np.zeros(0, np.int64)
        self._late = np.zeros(0, np.int64)  # place of an entity's last row whose pane is before that of the row ahead

    def grow(self, slots: int) -> None:
        """Make room for so many entities."""
        old = np.arange(len(self._ends))
        self._move(old)
        self._width = self._rows + max(SPARE, self._rows // 4, SPARE_OF_ALL // slots)
        values, times = self._values[:, : self._rows], self._times[:, : self._rows]
        self._values, self._times = np.zeros((slots, self._width)), np.full((slots, self._width), NEVER)
        self._values[old, : self._rows], self._times[old, : self._rows] = values, times
        self._lines = sliding_window_view(self._values.ravel(), self._rows)
        self._line_times = sliding_window_view(self._times.ravel(), self._rows)
        self._ends = np.full(slots, self._rows)
        self._late = np.concatenate([self._late, np.zeros(slots - len(old), np.int64)])

    def clear(self, slots: Ints) -> None:
        """Forget the entities of these slots."""
        self._times[slots], self._ends[slots], self._late[slots] = NEVER, self._rows, 0

    def step(self, rows: Rows, values: Floats) -> dict[str, Floats]:
        """What each row's window is without the row itself, by aggregate, NaN for null; then the rows count."""
        self._nulls |= bool(np.isnan(values).any())
        out = {each: np.full(len(values), np.nan) for each in self._aggregates}
        for part in self._parts(rows):
            starts, orderly = self._append(rows.slots[part], values[part], rows.times[part])
            first, last = (each[part] for each in rows.bounds(self._pane, self._kept))
            for at in range(0, len(part), CHUNK):
                these = slice(at, at + CHUNK)
                held = self._windows(starts[these], first[these], last[these], orderly[these])
                for name, found in _folds(self._aggregates, *held, rows.times[part[these]]).items():
                    out[name][part[these]] = found
        return out

    def _parts(self, rows: Rows) -> list[Ints]:
        """The rows, entity by entity; of none more in a part than fit its line."""
        slots, count = rows.slots[rows.order], np.arange(len(rows.order))
        begins = changes(slots)
        rank = count - np.repeat(begins, np.diff(begins, append=len(slots)))
        turn = rank // max(self._width - self._rows, 1)
        return [rows.order[turn == each] for each in range(int(turn.max(initial=-1)) + 1)]

    def _append(self, slots: Ints, values: Floats, times: Ints) -> tuple[Ints, Bools]:
        """Write rows behind those of their entities.

        Returns:
            Where each row's window begins in the lines, one line behind the other, and whether the rows of the window
            and the row itself are ordered by pane.
        """
        begins = changes(slots)
        own, sizes = slots[begins], np.diff(begins, append=len(slots))
        self._move(own[self._ends[own] + sizes > self._width])
        at = np.arange(len(slots)) + np.repeat(own * self._width + self._ends[own] - begins, sizes)
        self._values.ravel()[at], self._times.ravel()[at] = values, times
        self._ends[own] += sizes
        late = np.where(self._times.ravel()[at - 1] // self._pane > times // self._pane, at, -1)
        late[begins] = np.maximum(late[begins], own * self._width + self._late[own])
        late = np.maximum.accumulate(late)  # no row of a line is before the entry of its entity
        self._late[own] = late[begins + sizes - 1] - own * self._width
        return at - self._rows, late <= at - self._rows

    def _move(self, slots: Ints) -> None:
        """To the beginning of their lines with what still may be in a window."""
        passed = self._ends[slots] - self._rows
        newest = passed[:, None] + np.arange(self._rows)
        for held in (self._values, self._times):
            held[slots, : self._rows] = held[slots[:, None], newest]
        self._ends[slots], self._late[slots] = self._rows, np.maximum(self._late[slots] - passed, 0)

    def _windows(self, starts: Ints, first: Ints, last: Ints, orderly: Bools) -> tuple[Floats, Ints, Bools | None]:
        """Values and times of each row's window, a line for each, and which of them count; None: all."""
        values = self._lines[starts]
        old = self._old(starts, first * self._pane)
        there = np.arange(self._rows, dtype=np.int16) >= old[:, None] if old.any() else None
        disorderly = np.flatnonzero(~orderly)
        if self._nulls or len(disorderly):
            there = np.ones(values.shape, bool) if there is None else there
            panes = self._line_times[starts[disorderly]] // self._pane
            there[disorderly] = (panes >= first[disorderly, None]) & (panes <= last[disorderly, None])
            there &= ~np.isnan(values)
        return values, self._line_times[starts] if "since" in self._aggregates else starts, there

    def _old(self, starts: Ints, before: Ints) -> npt.NDArray[np.int16]:
        """How many rows of each window are older than a time, which are its first ones where they are orderly."""
        times, old = self._times.ravel(), np.zeros(len(starts), np.int16)
        some = np.flatnonzero(times[starts] < before)
        low, high = starts[some] + 1, starts[some] + self._rows
        for _ in range(self._rows.bit_length()):
            middle = (low + high) // 2
            older = (times.take(middle, mode="clip") < before[some]) & (low < high)
            low, high = np.where(older, middle + 1, low), np.where(older, high, np.minimum(middle, high))
        old[some] = low - starts[some]
        return old


def _folds(aggregates: Iterable[str], values: Floats, times: Ints, there: Bools | None, now: Ints) -> dict[str, Floats]:
    """One number per line of values."""
    count = np.full(len(values), values.shape[1]) if there is None else there.sum(axis=1)
    return {each: _fold(each, values, times, there, now, count) for each in aggregates}


def _fold(aggregate: str, values: Floats, times: Ints, there: Bools | None, now: Ints, count: Ints) -> Floats:
    if aggregate == "count":
        return count.astype(np.float64)
    empty = np.where(count > 0, 1.0, np.nan)
    if aggregate == "since":
        return passed(now, times if there is None else np.where(there, times, NEVER)) * empty
    if aggregate in {"sum", "mean", "std"}:
        return _moments(aggregate, values, there, count) * empty
    held = values if there is None else or_null(values, there)
    if aggregate == "last":
        return last_of(held)
    extreme: Floats = (np.fmin if aggregate == "min" else np.fmax).reduce(held, axis=1)
    return extreme


def _moments(aggregate: str, values: Floats, there: Bools | None, count: Ints) -> Floats:
    total = _sum(values, there)
    if aggregate == "sum":
        return total
    mean = total / np.maximum(count, 1)
    if aggregate == "mean":
        return mean
    apart = values - mean[:, None]
    square = _sum(apart * apart, there)
    return np.where(count > 1, np.sqrt(square / np.maximum(count - 1, 1)), np.nan)


def _sum(values: Floats, there: Bools | None) -> Floats:
    return folded(np.add, values if there is None else or_zero(values, there))
