"""The messages of counts of each partition, until the slowest partition has closed their panes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b

Ints = npt.NDArray[np.int64]


class Covered(NamedTuple):
    """A message of counts: first offset, last pane that it closes, offset of the input that it was counted through."""

    offset: int
    pane: int
    through: int


class Lane:
    """Counts of one partition that are not judged yet. Repeated panes, as after a zombie, are let through once.

    Args:
        source: Input that they were counted from.
        panes: The pane of each row of a message.
    """

    def __init__(self, source: str, panes: Callable[[pa.RecordBatch], Ints]) -> None:
        self._source, self._panes = source, panes
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
        through = headers.coverage[self._source][1]
        pieces = self._pieces.setdefault((first, last, through), {})
        pieces[headers.piece] = offset, batch
        if len(pieces) == headers.pieces:
            self._close(Covered(min(at for at, _ in pieces.values()), last, through), pieces)

    def _close(self, covered: Covered, pieces: dict[int, tuple[int, pa.RecordBatch]]) -> None:
        for _, rows in pieces.values():
            fresh = rows if self.closed is None else self._since(rows, self.closed + 1)
            self._rows.append(fresh)
        self.closed = covered.pane
        self._covered.append(covered)
        self._pieces = {key: value for key, value in self._pieces.items() if key[1] > covered.pane}

    def _since(self, rows: pa.RecordBatch, pane: int) -> pa.RecordBatch:
        fresh = self._panes(rows) >= pane
        return rows if fresh.all() else rows.filter(pa.array(fresh))

    def take(self, settled: int) -> list[pa.RecordBatch]:
        """Let go of the rows of panes up to and including this one."""
        done, rest = [], []
        for rows in self._rows:
            ready = self._panes(rows) <= settled
            done.append(rows if ready.all() else rows.filter(pa.array(ready)))
            if not ready.all():
                rest.append(rows.filter(pa.array(~ready)))
        self._rows = rest
        return done

    def prune(self, settled: int) -> None:
        """Forget messages whose panes are all judged."""
        self._covered = [covered for covered in self._covered if covered.pane > settled]

    def through(self, pane: int) -> int:
        """Offset of the input through which a pane was counted; it must not be pruned."""
        return next(covered.through for covered in self._covered if covered.pane >= pane)

    def position(self, pane: int) -> int | None:
        """Offset of the first message that may hold rows of a pane or a later one; None before the first message.

        Messages that are pruned are not looked at.
        """
        pending = [at for pieces in self._pieces.values() for at, _ in pieces.values()]
        pending += [covered.offset for covered in self._covered if covered.pane >= pane]
        return min(pending, default=self._next)


class Lanes:
    """Counts of all partitions from one input.

    Args:
        source: The input.
        partitions: How many there are.
        panes: The pane of each row of a message.
    """

    def __init__(self, source: str, partitions: int, panes: Callable[[pa.RecordBatch], Ints]) -> None:
        self._source = source
        self.lanes = [Lane(source, panes) for _ in range(partitions)]
        self._settled: int | None = None

    @property
    def settled(self) -> int | None:
        """The newest pane that was let go of; None before the first."""
        return self._settled

    def _take(self) -> list[pa.RecordBatch]:
        """What lies in the panes that all partitions have closed since."""
        closed = [lane.closed for lane in self.lanes]
        known = [pane for pane in closed if pane is not None]
        if not known or len(known) < len(closed) or min(known) == self._settled:
            return []
        self._settled = min(known)
        return [rows for lane in self.lanes for rows in lane.take(min(known))]

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
        return {f"{self._source}/{partition}": lane.through(pane) for partition, lane in enumerate(self.lanes)}
