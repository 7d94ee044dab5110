"""A dataset from rows that come in pieces of any size and in any order, in bounded memory.

Which rows are kept depends on which rows there are and on nothing else: the newest ones, and of those before them the
ones with the least hashes. A row that was left out never comes back: the rows that push it out stay.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from services.training.domain.rows import OFFSET, PARTITION, numbers, times

LEAST = 1 << 16
"""Rows that wait before it is worth to throw some away."""
PART = 4
"""So much of what is kept may wait besides: memory is 1 + 1/PART of it, and as much again while rows are chosen."""

Hashes = npt.NDArray[np.uint64]


class Sample:
    """The newest rows, and a uniform sample of all older ones.

    Args:
        newest: How many of the newest.
        older: How many of the older ones.
        seed: Of the sample.

    Attributes:
        seen: How many rows it was chosen from, copies counted.
    """

    def __init__(self, newest: int, older: int, seed: int) -> None:
        self._newest, self._older, self._seed = newest, older, seed
        self._parts: list[pa.RecordBatch] = []
        self._waiting = 0
        self.seen = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Take rows with place, none of them superseded; copies are fine."""
        if rows.num_rows:
            self._parts.append(rows)
            self._waiting += rows.num_rows
            self.seen += rows.num_rows
        if self._waiting > max(LEAST, (self._newest + self._older) // PART):
            self._choose()

    def rows(self) -> pa.RecordBatch | None:
        """What is kept so far, sorted by label time, source, position and row; None for nothing."""
        if self._parts:
            self._choose()
        return self._parts[0] if self._parts else None

    def _choose(self) -> None:
        together = pa.concat_batches(self._parts)
        self._parts.clear()  # memory holds no third copy
        rows = once(together)
        del together
        rest = max(0, rows.num_rows - self._newest)
        if rest > self._older:
            kept = least(rows.slice(0, rest), self._older, self._seed)
            rows = rows.take(pa.array(np.concatenate((kept, np.arange(rest, rows.num_rows)))))
        self._parts, self._waiting = [rows], 0


def least(rows: pa.RecordBatch, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Places of the rows with the least hashes, ascending."""
    if not count:
        return np.empty(0, np.int64)
    places = np.lexsort((b.orders(rows), b.sources(rows), hashes(rows, seed)))
    return np.sort(places[:count])


def once(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows sorted by label time, source, position and row; of copies the one that came first."""
    sources, orders, revisions = b.sources(rows), b.orders(rows), numbers(rows, b.REVISION)
    places = np.lexsort((numbers(rows, OFFSET), numbers(rows, PARTITION), revisions, orders, sources))
    first = np.ones(len(places), bool)
    first[1:] = np.any([each[places][1:] != each[places][:-1] for each in (sources, orders, revisions)], axis=0)
    places = places[first]
    return rows.take(pa.array(places[np.argsort(times(rows)[places], kind="stable")]))


def hashes(rows: pa.RecordBatch, seed: int) -> Hashes:
    """A number of each row that depends on its identity and the seed alone.

    The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
    """
    mixed = _mix(b.orders(rows).astype(np.uint64) ^ np.uint64(seed))
    return _mix(mixed ^ b.sources(rows).astype(np.uint64))


def _mix(values: Hashes) -> Hashes:
    """Arithmetic modulo 2^64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Superseded:
    """What corrections have replaced: per event the highest revision among them.

    Args:
        corrections: Rows that correct an earlier example of their event.
    """

    def __init__(self, corrections: Iterable[pa.RecordBatch]) -> None:
        parts = [rows for rows in corrections if rows.num_rows]
        self._of: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}
        if parts:
            self._learn(pa.concat_batches(parts))

    def _learn(self, rows: pa.RecordBatch) -> None:
        sources, orders, revisions = b.sources(rows), b.orders(rows), numbers(rows, b.REVISION)
        for source in np.unique(sources).tolist():
            mine = np.flatnonzero(sources == source)
            mine = mine[np.lexsort((revisions[mine], orders[mine]))]
            last = np.append(orders[mine][1:] != orders[mine][:-1], True)
            self._of[source] = orders[mine][last], revisions[mine][last]

    def without(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that are still current."""
        if not self._of or not rows.num_rows:
            return rows
        sources, orders, revisions = b.sources(rows), b.orders(rows), numbers(rows, b.REVISION)
        keep = np.ones(rows.num_rows, bool)
        for source, (known, highest) in self._of.items():
            at = np.minimum(np.searchsorted(known, orders), len(known) - 1)
            keep &= ~((sources == source) & (known[at] == orders) & (revisions < highest[at]))
        return rows if keep.all() else rows.filter(pa.array(keep))
