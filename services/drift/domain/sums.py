"""Counts of panes over all partitions: of scored rows added up, of joined rows made from what was merged.

However partitions interleave and wherever messages were cut, the sums are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.bins import Bins
from services.drift.domain.door import DOOR, FATES
from services.drift.domain.lanes import Lanes
from services.drift.domain.merging import Rows
from services.drift.domain.pane_counts import PaneCounts
from services.drift.domain.panes import MEMBER
from services.drift.domain.tallies import CELLS, COUNTS, PANE, SOURCE

Ints = npt.NDArray[np.int64]
SCORED = "scored"
"""What is added up here."""


def by_panes(
    rows: Rows, pane: int, bins: Callable[[int], Bins | None], anchor: int = 0
) -> Iterator[tuple[PaneCounts, Rows]]:
    """Joined rows as panes of label time: counts of label and loss, and the rows that the anchor answered, in order.

    Args:
        rows: Of whole panes.
        pane: Length of a pane in milliseconds.
        bins: Of a member; None for one without.
        anchor: The newest anchor that was seen before, 0 for none.
    """
    panes = rows.keys[0] // pane
    cuts = [*np.flatnonzero(np.diff(panes, prepend=panes[:1] - 1)).tolist(), len(panes)]
    for start, end in pairwise(cuts):
        part = rows[start:end]
        anchor = max(anchor, int(part.member.max()))
        own = part[part.member == anchor]
        sources, index = np.unique(own.keys[1], return_inverse=True)
        known = bins(anchor)
        counts = np.zeros((len(sources), 0), np.int32)
        if known is not None:
            counts = known.count(own.columns, index, len(sources))
        quality = np.zeros((len(sources), len(FATES)), np.int64)
        yield PaneCounts(int(panes[start]), anchor, tuple(sources.tolist()), counts, quality), own


class Sums(Lanes):
    """Counts of scored rows of all partitions, by panes of event time.

    Args:
        partitions: How many there are.
        cells: How many cells the bins of a member have; 0 for a member without.
        anchor: The newest anchor that was seen before, 0 for none.
    """

    def __init__(self, partitions: int, cells: Callable[[int], int], anchor: int = 0) -> None:
        super().__init__(SCORED, partitions, lambda rows: _ints(rows, PANE))
        self._cells, self._anchor = cells, anchor

    def settle(self) -> list[PaneCounts]:
        """The panes that all partitions have closed since, in order. `prune` when they are judged."""
        if not (taken := self._take()):
            return []
        rows = pa.concat_batches(taken)
        rows = rows.take(pa.array(np.argsort(_ints(rows, PANE), kind="stable")))
        panes = _ints(rows, PANE)
        cuts = [*np.flatnonzero(np.diff(panes, prepend=panes[:1] - 1)).tolist(), len(panes)]
        told = _Told.of(rows)
        return [self._pane(int(panes[start]), told.part(start, end)) for start, end in pairwise(cuts)]

    def _pane(self, pane: int, told: _Told) -> PaneCounts:
        self._anchor = max(self._anchor, int(told.member.max()))
        cells = self._cells(self._anchor) if self._anchor else 0
        names = np.unique(told.source)
        counts, quality = told.dense(self._anchor, cells, names), told.dense(DOOR, len(FATES), names)
        return PaneCounts(pane, self._anchor, tuple(names.tolist()), counts.astype(np.int32), quality)


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """Rows of drift-counts as arrays.

    Attributes:
        member: Of each row.
        source: Of each row.
        row: Of each cell that is counted, ascending.
        cell: Which one it is.
        count: How many.
    """

    member: Ints
    source: Ints
    row: Ints
    cell: Ints
    count: Ints

    @classmethod
    def of(cls, rows: pa.RecordBatch) -> _Told:
        row = pc.list_parent_indices(rows.column(CELLS)).to_numpy(zero_copy_only=False)
        flat = [pc.list_flatten(rows.column(name)).to_numpy(zero_copy_only=False) for name in (CELLS, COUNTS)]
        return cls(_ints(rows, MEMBER), _ints(rows, SOURCE), row, *flat)

    def part(self, start: int, end: int) -> _Told:
        """Some consecutive rows."""
        flat = slice(*np.searchsorted(self.row, (start, end)))
        rows = self.member[start:end], self.source[start:end]
        return _Told(*rows, self.row[flat] - start, self.cell[flat], self.count[flat])

    def dense(self, member: int, cells: int, sources: Ints) -> Ints:
        """The counts of a member, shape (sources, cells); none where it has no cells.

        Args:
            member: Which.
            cells: How many its bins have.
            sources: All that there are, ascending.
        """
        shape = len(sources), cells
        chosen = (self.member == member)[self.row] & (cells > 0)
        source = np.searchsorted(sources, self.source)[self.row[chosen]]
        flat = np.bincount(source * cells + self.cell[chosen], self.count[chosen], minlength=shape[0] * cells)
        return flat.reshape(shape).astype(np.int64)


def _ints(rows: pa.RecordBatch, name: str) -> Ints:
    return rows.column(name).to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]
