"""The newest labelled rows of all partitions, and how far each partition has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.artefact import Quarantine
from schemas.batch import CORRECTION
from services.training.domain.quarantine import clean, held
from services.training.domain.rows import (
    BEGINNING,
    OFFSET,
    ORDER,
    PARTITION,
    Known,
    newest,
    novel,
    numbers,
    remembered,
    times,
    unseen,
)

FEW = 1 / 8
"""Newest rows stay apart from all others while they are no greater part of them."""


class Window:
    """What a controller remembers of `examples`.

    Args:
        features: Names of the features.
        partitions: Number of partitions of `examples`.
        size: Most rows that a fit takes; twice as many are kept, so that a late trigger finds its rows.
        lateness: Milliseconds that a partition's time is held back.

    Attributes:
        size: How many rows it always has, where there are so many.
        quarantined: Bad data: such rows count for nothing, and as long as it goes on the newest of them are kept.
        next: Partition: offset from which its messages are new.
        judged: Time up to which every drift episode is known; None before a judge has spoken.
        until: Time to which decisions have come, while what happened is gone through; None: as far as is known.
    """

    def __init__(self, features: Sequence[str], partitions: int, size: int, lateness: int) -> None:
        self._features, self.size, self._lateness = tuple(features), size, lateness
        self._parts: list[pa.RecordBatch] = []
        self._known: Known = {}
        self._passed = dict.fromkeys(range(partitions), BEGINNING)
        self.quarantined: tuple[Quarantine, ...] = ()
        self.next = dict.fromkeys(range(partitions), 0)
        self.judged: int | None = None
        self.until: int | None = None

    @property
    def frontier(self) -> int:
        """Highest order up to which every row and episode is here; below every time before all partitions have spoken.

        So whatever is decided about a time is decided with the same knowledge, however far each reader has come.
        """
        rows = min(self._passed.values()) - 1
        return min([rows, *(each - 1 for each in (self.judged, self.until) if each is not None)])

    def passed(self, partition: int) -> int:
        """Time that a partition has passed, less the lateness."""
        return self._passed[partition]

    def begin(self, partition: int, offset: int, watermark: int | None) -> None:
        """Reading starts at an offset; the message before it has this watermark, None where there is none."""
        self.next[partition] = offset
        self._pass(partition, watermark)

    def add(self, partition: int, offset: int, batch: pa.RecordBatch, watermark: int | None) -> npt.NDArray[np.bool_]:
        """Remember the rows of a message; which of them are new. A message that was seen changes nothing."""
        if offset < self.next[partition]:
            return np.zeros(batch.num_rows, bool)
        rows = remembered(batch, self._features, partition, offset, self._passed[partition])
        fresh = novel(rows, self._known)
        if fresh.any():
            self._parts.append(rows if fresh.all() else rows.filter(pa.array(fresh)))
        self._pass(partition, watermark)
        self.next[partition] = offset + 1
        return fresh

    def _pass(self, partition: int, watermark: int | None) -> None:
        if watermark is not None:
            self._passed[partition] = max(self._passed[partition], watermark - self._lateness)

    @property
    def rows(self) -> pa.RecordBatch | None:
        """All rows that are remembered, unsorted; None for none."""
        if len(self._parts) > 1:
            self._parts = [pa.concat_batches(self._parts)]
        return self._parts[0] if self._parts else None

    @property
    def parts(self) -> list[pa.RecordBatch]:
        """The same in one batch or two: to put a message's rows to all others would copy those again each time."""
        if len(self._parts) > 2:  # noqa: PLR2004
            first, recent = self._parts[0], pa.concat_batches(self._parts[1:])
            few = recent.num_rows < FEW * first.num_rows
            self._parts = [first, recent] if few else [pa.concat_batches([first, recent])]
        return self._parts

    def ready(
        self, need: int, since: int = BEGINNING, after: int = BEGINNING, *, quarantined: bool = False
    ) -> int | None:
        """The order at which so many rows are there, None where they are not.

        Args:
            need: How many.
            since: Least label time that counts.
            after: Orders above this one count.
            quarantined: Whether rows in quarantine count, too.
        """
        held_back = () if quarantined else self.quarantined
        found = [_orders(rows, after, since, held_back) for rows in self.parts]
        if sum(map(len, found)) < need:
            return None
        return int(np.partition(np.concatenate(found), need - 1)[need - 1])

    def count(self, after: int, until: int) -> int:
        """How many labelled rows have an order in (after, until], corrections aside, those in quarantine included."""
        return sum(int((_orders(rows, after) <= until).sum()) for rows in self.parts)

    def pieces(self, features: Sequence[str]) -> Iterator[pa.RecordBatch]:  # noqa: ARG002 - all are at hand
        """The rows that are remembered; every cut of the newest `size` among them is the log's own."""
        if (rows := self.rows) is not None:
            yield rows

    def left_out(self, cutoff: int, since: int = BEGINNING) -> int:
        """How many rows up to a cut-off are no part of any dataset because they are in quarantine."""
        if (rows := self.rows) is None:
            return 0
        wanted = (numbers(rows, ORDER) <= cutoff) & (times(rows) >= since)
        return int((wanted & held(rows, self.quarantined)).sum())

    def begins(self) -> dict[int, int]:
        """Per partition the offset from which reading again restores what is remembered."""
        begins = dict(self.next)
        if (rows := self.rows) is not None:
            partition, offset = numbers(rows, PARTITION), numbers(rows, OFFSET)
            for each in np.unique(partition).tolist():
                begins[each] = int(offset[partition == each].min())
        return begins

    def trim(self) -> bool:
        """Forget the oldest rows when there are too many; whether there were."""
        going_on = [each for each in self.quarantined if each.stop is None]
        size = sum(part.num_rows for part in self._parts)
        if size <= (3 if going_on else 2) * self.size or (rows := self.rows) is None:
            return False
        order, frontier = numbers(rows, ORDER), self.frontier
        waiting = rows.filter(pa.array(order > frontier))
        settled = pa.concat_batches(
            [
                self._settled(clean(rows, self.quarantined), frontier),
                newest(rows.filter(pa.array(held(rows, going_on))), frontier, self.size, corrected=False),
            ]
        )
        if waiting.num_rows + settled.num_rows == rows.num_rows:
            return False
        self._parts = [part for part in (settled, waiting) if part.num_rows]
        self._known = {}
        for part in self._parts:
            unseen(part, self._known)
        return True

    def _settled(self, rows: pa.RecordBatch, frontier: int) -> pa.RecordBatch:
        """The rows of the largest dataset, and with them what its corrections correct."""
        largest = newest(rows, frontier, self.size)
        if not largest.num_rows:
            return largest
        return newest(rows, frontier, rows.num_rows, int(times(largest)[0]), corrected=False)


def _orders(
    rows: pa.RecordBatch, after: int, since: int = BEGINNING, quarantined: Sequence[Quarantine] = ()
) -> npt.NDArray[np.int64]:
    """The orders above `after` of rows with a label time from `since` on that are neither corrections nor bad."""
    order = numbers(rows, ORDER)
    counts = ~rows.column(CORRECTION).to_numpy(zero_copy_only=False)
    if after > BEGINNING:
        counts &= order > after
    if since > BEGINNING:
        counts &= times(rows) >= since
    if quarantined:
        counts &= ~held(rows, quarantined)
    found: npt.NDArray[np.int64] = order[counts]
    return found
