"""Panes of event time that are open: what scored rows were counted as, per pane, member and source.

A row is counted when it comes and let go. Each row counts with the bins of its anchor, the first member that it was
scored by: so the rows themselves say which reference they belong to. Beside the bins stands what became of a row at
the door.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from schemas.bins import PREDICTION, Bins, Column
from schemas.task import Target, anchored, shaped
from services.drift.domain.door import CODES, DOOR, DUPLICATE, FATES, LATE, OK, Ids, reached
from services.drift.domain.panes import MEMBER

PANE, SOURCE, CELLS, COUNTS = "pane", "source", "cells", "counts"
TALLIED = pa.schema(
    [
        (PANE, pa.int64()),
        (MEMBER, pa.int32()),
        (SOURCE, pa.int16()),
        (CELLS, pa.list_(pa.int32())),
        (COUNTS, pa.list_(pa.int32())),
    ]
)
"""Scored rows in drift-counts: how many of a pane and source fell into which cells of a member's bins, zeros left out.

A member without bins has no cells. The member DOOR has FATES for cells.
"""

Ints = npt.NDArray[np.int64]
Whole = npt.NDArray[np.integer]
Key = tuple[int, int, int]
"""Pane, member, source."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Rows by pane and source.

    Attributes:
        index: Group of each row.
        pane: Of each group, ascending.
        source: Of each group, ascending within a pane.
    """

    index: npt.NDArray[np.intp]
    pane: Ints
    source: Ints

    @classmethod
    def of(cls, panes: Ints, sources: npt.NDArray[np.int16]) -> Groups:
        """The groups of some rows, at least one."""
        first, most = int(panes.min()), int(sources.max()) + 1
        keys = (panes - first) * most + sources
        highest = int(keys.max())
        if highest > len(keys):
            found, index = np.unique(keys, return_inverse=True)
        else:
            here = np.bincount(keys) > 0
            found, index = np.flatnonzero(here), (np.cumsum(here) - 1)[keys]
        return cls(index, found // most + first, found % most)

    def __len__(self) -> int:
        return len(self.pane)

    def keys(self, member: int) -> Iterator[Key]:
        """The groups of a member, in order."""
        return ((pane, member, source) for pane, source in zip(self.pane.tolist(), self.source.tolist(), strict=True))


class Tallies:
    """Counts of one partition whose panes are not closed yet.

    Args:
        target: What is predicted.
        pane: Length of a pane in milliseconds.
        lateness: How far the watermark must have passed a pane's end, milliseconds.
        closed: Index of the last closed pane, None at the very beginning.
    """

    def __init__(self, target: Target, pane: int, lateness: int, closed: int | None = None) -> None:
        self._target, self._pane, self._lateness = target, pane, lateness
        self.closed = closed
        self._counts: dict[Key, tuple[Whole, Whole]] = {}
        self._ids = Ids()

    def add(self, rows: pa.RecordBatch, bins: Callable[[int], Bins | None], *, again: bool = False) -> int:
        """Count rows of open panes; the number of rows that came too late.

        Args:
            rows: Scored rows, none of which was added before.
            bins: Of a member that is the anchor of a row; None for one without.
            again: Whether they were counted before a restart, also as late ones.
        """
        panes = rows.column(b.TIME).cast(pa.int64()).to_numpy(zero_copy_only=False) // self._pane
        late = np.zeros(len(panes), bool) if self.closed is None else panes <= self.closed
        if self.closed is not None and late.any():
            sources, counts = np.unique(b.sources(rows)[late], return_counts=True)
            for source, count in () if again else zip(sources.tolist(), counts.tolist(), strict=True):
                self._add((self.closed + 1, DOOR, source), [LATE], [count])
            rows, panes = rows.filter(pa.array(~late)), panes[~late]
        if rows.num_rows:
            self._count(rows, Groups.of(panes, b.sources(rows)), bins)
        return int(np.count_nonzero(late))

    def refuse(
        self, rejects: Mapping[int, list[b.Reject]], marks: dict[int, b.Watermark], *, again: bool = False
    ) -> None:
        """Count rows that were refused, in open panes.

        Args:
            rejects: By source, none of which was taken before.
            marks: How far each source had come. Before any has, what is refused has no pane and is not counted.
            again: Whether they were counted before a restart.
        """
        for source, refused in rejects.items():
            time = reached(source, marks)
            if time is None or (again and self._is_closed(time // self._pane)):
                continue
            pane = time // self._pane if self.closed is None else max(time // self._pane, self.closed + 1)
            codes = np.bincount([CODES[code] for *_, code in refused if code in CODES], minlength=len(FATES))
            self._add((pane, DOOR, source), found := np.flatnonzero(codes), codes[found])

    def close(self, watermark: int | None) -> tuple[tuple[int, int], pa.RecordBatch] | None:
        """First and last index of the panes that the watermark closes, and their counts; None while it closes none.

        Counts are in (pane, member, source) order.
        """
        if watermark is None:
            return None
        newest = (watermark - self._lateness) // self._pane - 1
        if self.closed is not None and newest <= self.closed:
            return None
        for pane, source, count in self._ids.repeated(newest):
            self._add((pane, DOOR, source), [OK, DUPLICATE], [-count, count])
        keys = sorted(key for key in self._counts if key[0] <= newest)
        first = self.closed + 1 if self.closed is not None else keys[0][0] if keys else newest
        self.closed = newest
        return (first, newest), _batch(keys, [self._counts.pop(key) for key in keys])

    def _is_closed(self, pane: int) -> bool:
        return self.closed is not None and pane <= self.closed

    def _count(self, rows: pa.RecordBatch, groups: Groups, bins: Callable[[int], Bins | None]) -> None:
        self._enter(rows.column(b.EVENT_ID), groups)
        member, outputs = anchored(rows, self._target.width)
        columns: dict[str, Column] = {name: rows.column(name) for name in rows.schema.names}
        columns[PREDICTION] = self._target.predictions(shaped(outputs, self._target.width))
        for each in np.unique(member[member > DOOR]).tolist():
            chosen = np.flatnonzero(member == each)
            part = columns if len(chosen) == len(member) else _chosen(columns, chosen)
            self._tally(each, bins(each), part, Groups(groups.index[chosen], groups.pane, groups.source))

    def _enter(self, ids: pa.Array, groups: Groups) -> None:
        """Count rows as good, and keep their ids."""
        ids = ids.take(pa.array(np.argsort(groups.index, kind="stable")))
        sizes = np.bincount(groups.index, minlength=len(groups))
        starts = np.cumsum(sizes) - sizes
        for key, start, size in zip(groups.keys(DOOR), starts.tolist(), sizes.tolist(), strict=True):
            self._add(key, [OK], [size])
            self._ids.add(key[0], key[2], ids.slice(start, size))

    def _tally(self, member: int, bins: Bins | None, columns: Mapping[str, Column], groups: Groups) -> None:
        rows = np.bincount(groups.index, minlength=len(groups))
        counts = np.empty((len(groups), 0), np.int32)
        if bins is not None:
            counts = bins.count(columns, groups.index, len(groups))
        group, cell = np.nonzero(counts)
        found, bounds = counts[group, cell], np.searchsorted(group, np.arange(len(groups) + 1)).tolist()
        cell = cell.astype(np.int32)
        for number, key in enumerate(groups.keys(member)):
            if rows[number]:
                part = slice(bounds[number], bounds[number + 1])
                self._add(key, cell[part], found[part])

    def _add(self, key: Key, cells: npt.ArrayLike, counts: npt.ArrayLike) -> None:
        """Add to what is kept of a pane, member and source; what becomes 0 is left out."""
        new = np.asarray(cells, np.int32), np.asarray(counts, np.int32)
        old = self._counts.get(key)
        if old is None:
            self._counts[key] = new[0].copy(), new[1].copy()
            return
        dense = np.zeros(1 + max(int(each[0][-1]) if len(each[0]) else 0 for each in (old, new)), np.int32)
        dense[old[0]] = old[1]
        dense[new[0]] += new[1]
        found = np.flatnonzero(dense).astype(np.int32)
        self._counts[key] = found, dense[found]


def _chosen(columns: Mapping[str, Column], rows: npt.NDArray[np.intp]) -> dict[str, Column]:
    taken = pa.array(rows)
    return {n: each[rows] if isinstance(each, np.ndarray) else each.take(taken) for n, each in columns.items()}


def _batch(keys: list[Key], counts: list[tuple[Whole, Whole]]) -> pa.RecordBatch:
    columns = [pa.array([key[part] for key in keys], TALLIED.field(part).type) for part in range(3)]
    offsets = pa.array(np.cumsum([0, *(len(cells) for cells, _ in counts)]), pa.int32())
    for part in (0, 1):
        flat = np.concatenate([np.empty(0, np.int32), *(each[part] for each in counts)])
        columns.append(pa.ListArray.from_arrays(offsets, pa.array(flat, pa.int32())))
    return pa.RecordBatch.from_arrays(columns, schema=TALLIED)
