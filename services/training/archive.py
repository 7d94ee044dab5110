"""The leader's side of the archive: what it has read and not stored yet, and when it is stored.

Safe under a kill at any point: the position from which a partition is not archived yet is in the checkpoint, which is
written after the segment. Whoever reads on from there writes the same rows again, perhaps cut elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pyarrow as pa

from runtime.errors import Transient
from runtime.fold import passed
from runtime.stage import Decoded
from services.training.segments import Segments, archived, restored, usable

log = logging.getLogger("headrace.training")

CUT_BYTES = 16 << 20
"""Bytes of columns at which a partition's messages become a segment."""
CUT_AGE_MS = 24 * 3_600_000
"""Age at which they do whatever their size; `examples` is kept thirty times as long."""
BEHIND_MS = 3 * CUT_AGE_MS
"""Age at which something is wrong: that much of the time for which `examples` is kept has gone by in vain."""
MANY = 64
"""Batches of a run that are put together into one."""
MOST_BYTES = 128 << 20
"""Bytes of all partitions together that wait in memory; beyond that the log is read no further."""


class Run:
    """Consecutive messages with the same columns that become one segment; those without rows go with any.

    Args:
        timestamp: When the broker took the first of them, milliseconds.

    Attributes:
        last: Offset of the last one.
        bytes: Of their columns.
    """

    def __init__(self, timestamp: int) -> None:
        self.timestamp = timestamp
        self.last, self.bytes = -1, 0
        self._parts: list[pa.RecordBatch] = []

    def takes(self, rows: pa.RecordBatch) -> bool:
        """Whether there is room for a message with such rows."""
        held = self._parts and self._parts[0].num_rows
        return self.bytes < CUT_BYTES and (not held or not rows.num_rows or self._parts[0].schema.equals(rows.schema))

    def add(self, offset: int, rows: pa.RecordBatch) -> None:
        """Take a message. Small ones are put together: each alone is mostly overhead."""
        if rows.num_rows or not self._parts:
            self._parts = [each for each in self._parts if each.num_rows] + [rows]
        if len(self._parts) > MANY:
            self._parts = [pa.concat_batches(self._parts)]
        self.last, self.bytes = offset, self.bytes + rows.nbytes

    @property
    def rows(self) -> pa.Table:
        """As a segment holds them."""
        return pa.Table.from_batches(self._parts)


class Archive:
    """What one leader archives in one term.

    Args:
        segments: Where it goes.
        lateness: Milliseconds that a partition's time is held back.

    Attributes:
        next: Partition: offset from which nothing is archived.
    """

    def __init__(self, segments: Segments, lateness: int) -> None:
        self.segments, self._lateness = segments, lateness
        self.next: dict[int, int] = {}
        self._waiting: dict[int, list[Run]] = {}
        self._read: dict[int, int] = {}
        self._behind = False
        self._passed: dict[int, int | None] = {}

    def begin(self, partition: int, offset: int, archived_to: int, watermark: int | None) -> None:
        """Reading starts at an offset; up to another one, at or above it, everything is archived."""
        self.next[partition], self._read[partition] = archived_to, offset
        self._waiting[partition] = []
        self._passed[partition] = watermark

    def add(self, partition: int, message: Decoded, timestamp: int) -> None:
        """Take a message; one that was seen changes nothing."""
        if message.offset < self._read[partition]:
            return
        before, now = self._passed[partition], passed(message.headers.through)
        if message.offset >= self.next[partition]:
            self._wait(self._waiting[partition], archived(message.batch, message.offset, before), message, timestamp)
        self._read[partition] = message.offset + 1
        self._passed[partition] = now if before is None else before if now is None else max(before, now)

    @staticmethod
    def _wait(runs: list[Run], rows: pa.RecordBatch, message: Decoded, timestamp: int) -> None:
        if not runs or not runs[-1].takes(rows):
            runs.append(Run(timestamp))
        runs[-1].add(message.offset, rows)

    @property
    def full(self) -> bool:
        """Whether more waits than memory should hold."""
        return sum(run.bytes for runs in self._waiting.values() for run in runs) > MOST_BYTES

    def age(self, now: int) -> int:
        """Milliseconds since the broker took the oldest message that is not archived, 0 where all are."""
        return max(0, now - min((runs[0].timestamp for runs in self._waiting.values() if runs), default=now))

    def keep_up(self, now: int) -> int:
        """Store what is due; the age of the oldest message that is not stored, milliseconds.

        A store that is away changes nothing yet: messages wait in memory, and the log keeps them for weeks.
        """
        try:
            self.write(now)
        except Transient as error:
            log.warning("archive_postponed", extra={"error": str(error)})
        behind, was = self.age(now) > BEHIND_MS, self._behind
        self._behind = behind
        if behind and not was:
            log.error("archive_behind", extra={"seconds": self.age(now) // 1000})
        return self.age(now)

    def write(self, now: int | None = None) -> None:
        """Store what is large or old enough; everything without a time.

        Raises:
            Transient: The store is away; what was stored before is not lost.
        """
        for partition, runs in self._waiting.items():
            while runs and (now is None or len(runs) > 1 or _due(runs[0], now)):
                self._store(partition, runs[0])
                del runs[0]

    def _store(self, partition: int, run: Run) -> None:
        path = self.segments.write(partition, self.next[partition], run.last, rows := run.rows)
        log.info("archived", extra={"path": path, "rows": rows.num_rows})
        self.next[partition] = run.last + 1

    def pieces(self, features: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows so far as they are remembered: from the store, and what waits.

        Raises:
            SegmentDamaged: A segment is not what was written.
            Transient: The store is away.
        """
        for partition, stop in self.next.items():
            for span in self.segments.spans(partition, 0, stop):
                if span.segment is not None:
                    yield from self.segments.read(partition, span, features, self._lateness)
                elif span.start > 0:  # what was there before the archive began is nobody's loss
                    extra = {"partition": partition, "first": span.start, "last": span.stop - 1}
                    log.warning("archive_incomplete", extra=extra)
            for run in self._waiting[partition]:
                if usable(run.rows.schema.names, features):
                    yield from (restored(each, partition, features, self._lateness) for each in run.rows.to_batches())


def _due(run: Run, now: int) -> bool:
    return run.bytes >= CUT_BYTES or now - run.timestamp >= CUT_AGE_MS
