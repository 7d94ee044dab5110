"""Rows that wait for their other half: Arrow segments, and a dict from id to place. No Python per row and column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.batch import EVENT_ID, TIME

Numbers = npt.NDArray[np.int64]

LOCAL_BITS = 20
SMALL = 1_000
MOST_SMALL = 32
"""So many segments of fewer than SMALL waiting rows are made one: a slow stream has one row per message."""

FILE_ROWS = 100_000
"""Rows after which a file on disk is full: a process may have a thousand files open."""

GONE = np.iinfo(np.int64).max


@dataclass(slots=True)
class Segment:
    """Rows that came together.

    Attributes:
        rows: The rows, those that are gone included.
        times: Event time of each row in milliseconds, GONE for one that waits no more.
        waiting: How many still wait.
        oldest: At most the least of the times.
        spilled: Whether the rows are on disk.
    """

    rows: pa.RecordBatch
    times: Numbers
    waiting: int
    oldest: int
    spilled: bool


@dataclass(frozen=True, slots=True)
class Spill:
    """When and how the columns of rows leave the memory.

    Attributes:
        most: Rows beyond which the oldest leave.
        put: The same rows, on disk.
    """

    most: int
    put: Callable[[pa.RecordBatch], pa.RecordBatch]


class Waiting:
    """Rows by event id; an id waits at most once.

    Args:
        spill: Where the columns of the oldest rows go when there are too many; None: all stay in memory.
    """

    def __init__(self, spill: Spill | None = None) -> None:
        self._places: dict[str, int] = {}
        self._segments: dict[int, Segment] = {}
        self._next = 0
        self._spill = spill
        self._loaded = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._places

    def isdisjoint(self, ids: Iterable[str]) -> bool:
        """Whether none of the ids waits here."""
        return self._places.keys().isdisjoint(ids)

    def add(self, rows: pa.RecordBatch, ids: Sequence[str]) -> None:
        """Let rows wait; none of the ids may be here already."""
        if rows.num_rows:
            self._append(rows, ids)
            self._tidy()
            if self._spill is not None:
                self._unload(self._spill)

    def find(self, ids: Sequence[str]) -> Numbers:
        """Take ids out of the list of who waits: the number of each row, -1 where there is none (any more)."""
        if not self._places:
            return np.full(len(ids), -1, np.int64)
        return np.fromiter(map(self._places.pop, ids, repeat(-1)), np.int64, len(ids))

    def take(self, numbers: Numbers) -> tuple[pa.Table, Numbers]:
        """Remove found rows for good; the rows in an order of their own, and that order as indices of `numbers`."""
        parts, order = [], []
        for number, at, local in self._by_segment(numbers):
            segment = self._segments[number]
            parts.append(pa.Table.from_batches([segment.rows.take(pa.array(local))]))
            order.append(at)
            self._remove(number, local)
        return pa.concat_tables(parts, promote_options="default"), np.concatenate(order)

    def expire(self, before: int) -> list[pa.RecordBatch]:
        """Remove the rows whose time is below `before`, milliseconds, and return them."""
        out = []
        for number, segment in list(self._segments.items()):
            if segment.oldest < before:
                local = np.flatnonzero(segment.times < before)
                rows = segment.rows.take(pa.array(local))
                for event_id in rows.column(EVENT_ID).to_pylist():
                    del self._places[event_id]
                self._remove(number, local)
                segment.oldest = int(segment.times.min())
                if rows.num_rows:
                    out.append(rows)
        return out

    def _append(self, rows: pa.RecordBatch, ids: Sequence[str], *, spilled: bool = False) -> None:
        times = rows.column(TIME).cast(pa.int64()).to_numpy(zero_copy_only=False).copy()
        self._segments[self._next] = Segment(rows, times, len(ids), int(times.min()), spilled)
        self._loaded += 0 if spilled else rows.num_rows
        first = self._next << LOCAL_BITS
        self._places.update(zip(ids, range(first, first + len(ids)), strict=True))
        self._next += 1

    def _remove(self, number: int, local: Numbers) -> None:
        segment = self._segments[number]
        segment.times[local] = GONE
        segment.waiting -= len(local)
        if not segment.waiting:
            self._pop(number)

    def _pop(self, number: int) -> Segment:
        segment = self._segments.pop(number)
        self._loaded -= 0 if segment.spilled else segment.rows.num_rows
        return segment

    def _tidy(self) -> None:
        small = [number for number, segment in self._segments.items() if segment.waiting < SMALL]
        if len(small) < MOST_SMALL:
            return
        rows = self._gathered(small)
        self._append(rows, rows.column(EVENT_ID).to_pylist())

    def _unload(self, spill: Spill) -> None:
        """Put the oldest rows on disk while there are too many in memory."""
        while self._loaded > spill.most:
            rows = self._gathered(self._oldest(self._loaded - spill.most // 2))
            self._append(spill.put(rows), rows.column(EVENT_ID).to_pylist(), spilled=True)

    def _oldest(self, enough: int) -> list[int]:
        """The segments in memory that came first, of so many rows together, or of a file's."""
        found, count = [], 0
        for number, segment in self._segments.items():
            if not segment.spilled and count < min(enough, FILE_ROWS):
                found.append(number)
                count += segment.rows.num_rows
        return found

    def _gathered(self, numbers: Sequence[int]) -> pa.RecordBatch:
        """The rows of some segments that still wait, as one batch; the segments are gone."""
        parts = []
        for number in numbers:
            segment = self._pop(number)
            here = pa.array(np.flatnonzero(segment.times != GONE))
            parts.append(pa.Table.from_batches([segment.rows.take(here)]))
        return pa.concat_tables(parts, promote_options="default").combine_chunks().to_batches()[0]

    def _by_segment(self, numbers: Numbers) -> Iterable[tuple[int, Numbers, Numbers]]:
        """Each segment that is touched: its number, which of `numbers` are there, and where in it."""
        segment, local = numbers >> LOCAL_BITS, numbers & ((1 << LOCAL_BITS) - 1)
        order = np.argsort(segment, kind="stable")
        bounds = np.flatnonzero(np.diff(segment[order])) + 1
        for at in np.split(order, bounds):
            yield int(segment[at[0]]), at, local[at]
