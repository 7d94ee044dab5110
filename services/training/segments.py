"""Segments: the messages of `examples` as Parquet files in the artefact store, and how they are read back.

A segment is named by its partition, the offsets that it covers, and the SHA-256 of its bytes:
`archive/<pipeline>/examples/<log>/<partition>/<first>-<last>-<sha256>.parquet`. It holds whole messages with all their
columns, and of each row the message's offset and what its partition had passed before it. Segments may overlap: each
leader cuts where it happens to be. Their messages are the same, so whoever reads takes each offset once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runtime.errors import HeadraceError
from runtime.store import Store
from schemas import batch as b
from schemas.artefact import sha256
from services.training.domain.rows import BEGINNING, KEPT, OFFSET, Int64, numbers, remembered

PASSED: Final = "_passed"
"""Time in milliseconds that the partition had passed before the row's message, null where it had not said any."""

SEGMENT_BYTES = 256 << 20
"""No segment is larger: messages are below 8 MB, and a segment is cut at twice that."""

_NAME = re.compile(r"(\d{20})-(\d{20})-([0-9a-f]{64})\.parquet")


class SegmentDamaged(HeadraceError):
    """A segment is not what was written."""


class Segment(NamedTuple):
    """A segment of a partition.

    Attributes:
        first: First offset that it covers.
        last: Last one.
        sha256: Of its bytes.
    """

    first: int
    last: int
    sha256: str

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.first:020d}-{self.last:020d}-{self.sha256}.parquet"

    @classmethod
    def named(cls, path: str) -> Self | None:
        """The segment of a path, None for any other file."""
        found = _NAME.fullmatch(path.rpartition("/")[2])
        return None if found is None else cls(int(found[1]), int(found[2]), found[3])


class Span(NamedTuple):
    """Offsets [start, stop) of a partition, and the segment that holds them, None for none."""

    start: int
    stop: int
    segment: Segment | None


class Segments:
    """The segments of one log.

    Args:
        store: Where they lie.
        pipeline: Name of the pipeline.
        log: Id of the topic `examples`, or name of a history: offsets mean nothing without it.

    Attributes:
        store: The same.
        log: The same.
    """

    def __init__(self, store: Store, pipeline: str, log: str) -> None:
        self.store, self.log = store, log
        self._folder = f"archive/{pipeline}/examples/log-{log}"

    def write(self, partition: int, first: int, last: int, rows: pa.Table) -> str:
        """Store messages; the path. The same messages give the same object.

        Args:
            partition: Of the messages.
            first: First offset.
            last: Last offset.
            rows: As `archived` makes them.

        Raises:
            Transient: The store is away.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        value = sink.getvalue().to_pybytes()
        path = self._path(partition, Segment(first, last, sha256(value)))
        self.store.put(path, value)
        return path

    def of(self, partition: int) -> list[Segment]:
        """The segments of a partition, by first offset, the longest one first.

        Raises:
            Transient: The store is away.
        """
        found = [Segment.named(path) for path in self.store.names(f"{self._folder}/{partition}")]
        return sorted((each for each in found if each is not None), key=lambda each: (each.first, -each.last))

    def spans(self, partition: int, start: int, stop: int) -> Iterator[Span]:
        """What covers the offsets [start, stop), each offset once, in order."""
        at = start
        for segment in self.of(partition):
            if segment.last < at or segment.first >= stop:
                continue
            if segment.first > at:
                yield Span(at, segment.first, None)
            upto = min(segment.last + 1, stop)
            yield Span(max(at, segment.first), upto, segment)
            at = upto
        if at < stop:
            yield Span(at, stop, None)

    def read(self, partition: int, span: Span, features: Sequence[str], lateness: int) -> Iterator[pa.RecordBatch]:
        """The rows of a span as they are remembered.

        Args:
            partition: Of the segment.
            span: Offsets within a segment.
            features: Names of the features; a segment that lacks one was written for another definition.
            lateness: Milliseconds that a partition's time is held back.

        Raises:
            SegmentDamaged: The segment is not what was written.
            NotStored: It is gone.
            Transient: The store is away.
        """
        if span.segment is None:
            raise ValueError("a span without a segment cannot be read from the archive")
        file = pq.ParquetFile(pa.BufferReader(self._bytes(partition, span.segment)))
        if usable(names := file.schema_arrow.names, features):
            wanted = {*KEPT, *features, *(name for name, _ in b.REVISED), OFFSET, PASSED}
            table = file.read([each for each in names if each in wanted])
            yield from (restored(each, partition, features, lateness) for each in _within(table, span))

    def _bytes(self, partition: int, segment: Segment) -> bytes:
        path = self._path(partition, segment)
        value = self.store.get(path, SEGMENT_BYTES)
        if sha256(value) != segment.sha256:
            raise SegmentDamaged(f"{path} is not what was written: its SHA-256 differs; restore it from a backup")
        return value

    def _path(self, partition: int, segment: Segment) -> str:
        return f"{self._folder}/{partition}/{segment.name}"


def usable(names: Sequence[str], features: Sequence[str]) -> bool:
    """Whether rows with these columns have what a dataset needs; others were written for another definition."""
    return {*KEPT, *features} <= set(names)


def archived(batch: pa.RecordBatch, offset: int, passed: int | None) -> pa.RecordBatch:
    """A message's rows as a segment holds them."""
    rows = batch.replace_schema_metadata(None)
    rows = rows.append_column(OFFSET, pa.array(np.full(batch.num_rows, offset, np.int64)))
    return rows.append_column(PASSED, pa.repeat(pa.scalar(passed, pa.int64()), batch.num_rows))


def _within(table: pa.Table, span: Span) -> list[pa.RecordBatch]:
    offsets = table.column(OFFSET).to_numpy()
    within = (offsets >= span.start) & (offsets < span.stop)
    rows = table if within.all() else table.filter(pa.array(within))
    return rows.combine_chunks().to_batches()  # type: ignore[no-any-return]


def restored(batch: pa.RecordBatch, partition: int, features: Sequence[str], lateness: int) -> pa.RecordBatch:
    """Archived rows as they are remembered."""
    passed = batch.column(PASSED)
    late: Int64 = passed.fill_null(BEGINNING + lateness).to_numpy(zero_copy_only=False) - lateness
    return remembered(batch, features, partition, numbers(batch, OFFSET), late)
