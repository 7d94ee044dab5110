"""The counts of all partitions in one order: (time, source, position, row), behind the pane that all have closed.

However partitions interleave and wherever messages were cut, the merged rows are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from services.drift.domain.panes import COUNTS, LOSS, MEMBER, times

Ints = npt.NDArray[np.int64]


class Key(NamedTuple):
    """A row's place in the merged order."""

    time: int
    source: int
    position: int
    row: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Losses in merged order, arrays of equal length; of the members of one row the newest comes first."""

    keys: tuple[Ints, Ints, Ints, Ints]
    member: Ints
    loss: npt.NDArray[np.float64]

    @classmethod
    def merged(cls, batches: Sequence[pa.RecordBatch]) -> Rows:
        """The rows of batches of counts, put in order."""
        rows = pa.concat_batches([*batches, pa.RecordBatch.from_pylist([], COUNTS)])
        keys = [times(rows), *(_ints(rows, name) for name in (b.SOURCE, b.POSITION, b.ROW))]
        member = _ints(rows, MEMBER)
        order = np.lexsort((-member, *keys[::-1]))
        time, source, position, row = (key[order] for key in keys)
        return cls((time, source, position, row), member[order], rows.column(LOSS).to_numpy()[order])

    def __len__(self) -> int:
        return len(self.member)

    def __getitem__(self, chosen: slice | npt.NDArray[np.bool_]) -> Rows:
        time, source, position, row = (key[chosen] for key in self.keys)
        return Rows((time, source, position, row), self.member[chosen], self.loss[chosen])

    def key(self, index: int) -> Key:
        """Place of a row."""
        return Key(*(int(key[index]) for key in self.keys))

    def behind(self, after: Key) -> Rows:
        """The rows behind a place."""
        behind = np.zeros(len(self), bool)
        for key, value in zip(reversed(self.keys), reversed(after), strict=True):
            behind = (key > value) | ((key == value) & behind)
        return self[behind]


def _ints(rows: pa.RecordBatch, name: str) -> Ints:
    return rows.column(name).to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]


class Covered(NamedTuple):
    """A message of counts: first offset, last pane that it closes, offset of examples that it was counted through."""

    offset: int
    pane: int
    examples: int


class Lane:
    """Counts of one partition that are not judged yet. Repeated panes, as after a zombie, are let through once.

    Args:
        pane: Length of a pane in milliseconds.
    """

    def __init__(self, pane: int) -> None:
        self._pane = pane
        self.closed: int | None = None
        self._pieces: dict[tuple[int, int, int], dict[int, tuple[int, pa.RecordBatch]]] = {}
        self._rows: list[pa.RecordBatch] = []
        self._covered: list[Covered] = []
        self._next: int | None = None

    def follows(self, first: int) -> bool:
        """Whether no pane is missing between what was closed and this one."""
        return self.closed is None or first <= self.closed + 1

    def add(self, offset: int, batch: pa.RecordBatch, headers: b.Headers, panes: tuple[int, int]) -> None:
        """Take a message of counts; its panes close when all of its pieces are here."""
        first, last = panes
        self._next = offset + 1
        if self.closed is not None and last <= self.closed:
            return
        examples = headers.coverage["examples"][1]
        pieces = self._pieces.setdefault((first, last, examples), {})
        pieces[headers.piece] = offset, batch
        if len(pieces) == headers.pieces:
            self._close(Covered(min(at for at, _ in pieces.values()), last, examples), pieces)

    def _close(self, covered: Covered, pieces: dict[int, tuple[int, pa.RecordBatch]]) -> None:
        for _, rows in pieces.values():
            fresh = rows if self.closed is None else self._since(rows, self.closed + 1)
            self._rows.append(fresh)
        self.closed = covered.pane
        self._covered.append(covered)
        self._pieces = {key: value for key, value in self._pieces.items() if key[1] > covered.pane}

    def _since(self, rows: pa.RecordBatch, pane: int) -> pa.RecordBatch:
        fresh = times(rows) >= pane * self._pane
        return rows if fresh.all() else rows.filter(pa.array(fresh))

    def take(self, settled: int) -> list[pa.RecordBatch]:
        """Let go of the rows of panes up to and including this one."""
        done, rest = [], []
        for rows in self._rows:
            ready = times(rows) < (settled + 1) * self._pane
            done.append(rows if ready.all() else rows.filter(pa.array(ready)))
            if not ready.all():
                rest.append(rows.filter(pa.array(~ready)))
        self._rows = rest
        return done

    def prune(self, settled: int) -> None:
        """Forget messages whose panes are all judged."""
        self._covered = [covered for covered in self._covered if covered.pane > settled]

    def through(self, pane: int) -> int:
        """Offset of examples through which a pane was counted; it must not be pruned."""
        return next(covered.examples for covered in self._covered if covered.pane >= pane)

    def position(self, pane: int) -> int | None:
        """Offset of the first message that may hold rows of a pane or a later one; None before the first message.

        Messages that are pruned are not looked at.
        """
        pending = [at for pieces in self._pieces.values() for at, _ in pieces.values()]
        pending += [covered.offset for covered in self._covered if covered.pane >= pane]
        return min(pending, default=self._next)


class Merge:
    """Counts of all partitions.

    Args:
        partitions: How many there are.
        pane: Length of a pane in milliseconds.
    """

    def __init__(self, partitions: int, pane: int) -> None:
        self.lanes = [Lane(pane) for _ in range(partitions)]
        self._settled: int | None = None

    def settle(self) -> Rows:
        """The rows of the panes that all partitions have closed since, in order. `prune` when they are judged."""
        closed = [lane.closed for lane in self.lanes]
        known = [pane for pane in closed if pane is not None]
        if not known or len(known) < len(closed) or min(known) == self._settled:
            return Rows.merged([])
        self._settled = min(known)
        return Rows.merged([rows for lane in self.lanes for rows in lane.take(min(known))])

    def prune(self) -> None:
        """Say that everything settled is judged."""
        if self._settled is not None:
            for lane in self.lanes:
                lane.prune(self._settled)

    def positions(self, pane: int) -> dict[int, int]:
        """Partition: offset of the first message that may hold rows of a pane or a later one."""
        positions = {partition: lane.position(pane) for partition, lane in enumerate(self.lanes)}
        return {partition: offset for partition, offset in positions.items() if offset is not None}

    def through(self, pane: int) -> dict[str, int]:
        """Log positions through which a settled, unpruned pane was counted."""
        return {f"examples/{partition}": lane.through(pane) for partition, lane in enumerate(self.lanes)}
