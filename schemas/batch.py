"""The micro-batch between services: one Kafka message = one Arrow IPC record batch, with its story in the headers.

Columns that every batch of rows has: `_source` (partition of events or labels), `_position` (offset there), `_row`
(row inside a batch message), `_event_id`, `_entity`, `_time`, `_traceparent` (W3C trace context of who produced it, or
null). (`_source`, `_position`, `_row`) is a row's identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

SOURCE, POSITION, ROW = "_source", "_position", "_row"
EVENT_ID, ENTITY, TIME, TRACEPARENT = "_event_id", "_entity", "_time", "_traceparent"
IDENTITY: tuple[tuple[str, pa.DataType], ...] = (
    (SOURCE, pa.int16()),
    (POSITION, pa.int64()),
    (ROW, pa.int32()),
    (EVENT_ID, pa.string()),
    (ENTITY, pa.string()),
    (TIME, pa.timestamp("ms", "UTC")),
    (TRACEPARENT, pa.string()),
)

KEY, VALUE, HEADERS = "_key", "_value", "_headers"
"""What outcomes have besides: the label's own message, for a dead letter; headers as msgpack, null for none."""

PREDICTION, POOL, MEMBERS, OUTPUTS = "_prediction", "_pool", "_members", "_outputs"
PROBABILITIES = "_probabilities"
"""What rows of several classes have besides: the probability of each class."""
SCORED: tuple[tuple[str, pa.DataType], ...] = (
    (PREDICTION, pa.float64()),
    (POOL, pa.int64()),
    (MEMBERS, pa.list_(pa.int32())),
    (OUTPUTS, pa.list_(pa.float64())),
)
"""What serving adds to features, all null while there is no pool: members begin with the anchor, and their outputs, as
many numbers each as the task has (`schemas.task`), lie one behind the other in the same order."""

LABEL, LABEL_TIME = "_label", "_label_time"
LABEL_SOURCE, LABEL_POSITION = "_label_source", "_label_position"
LABELLED: tuple[tuple[str, pa.DataType], ...] = (
    (LABEL, pa.int8()),
    (LABEL_TIME, pa.timestamp("ms", "UTC")),
    (LABEL_SOURCE, pa.int16()),
    (LABEL_POSITION, pa.int64()),
)
"""What features add to scored rows: the index of the class (in regression the value, a float64), and where the label
came from."""

REVISION, CORRECTION = "_revision", "_correction"
REVISED: tuple[tuple[str, pa.DataType], ...] = ((REVISION, pa.int64()), (CORRECTION, pa.bool_()))
"""What examples have besides where labels are revised: the label's revision, and whether it corrects an example."""

MAX_ROWS = 4_000
MAX_BYTES = 512 << 10
ROW_BITS = 20
"""A row's order value is position << ROW_BITS | row: it ascends along a source."""

EVENTS, LABELS = "events", "labels"
STREAM = {"records": EVENTS, "features": EVENTS, "scored": EVENTS, "outcomes": LABELS}
"""Whose sources the rows of a topic come from."""

Watermark = tuple[int, bool]
"""Highest event time of a source in milliseconds, and whether its worker called it idle."""

UNHEARD = -62_135_596_800_000
"""Event time, the year 1, of a source that has said nothing to its worker yet: readers keep what they know."""

Reject = tuple[int, int, str]
"""Position, row and reason code of a row that was refused at the door."""


class Through(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a writer had seen when it wrote: the state that a restart begins with.

    Attributes:
        marks: Topics further up: offset up to which the rows are in here.
        begins: Inputs: the first offset that was ever seen (above 0 where retention was faster).
        tops: Stream: per source the highest order value seen.
        watermarks: Stream: per source the watermark.
        highest: Stream: highest event time in milliseconds among the rows.
        topic_ids: Stream: the broker's id of its topic.
    """

    marks: dict[str, int] = {}
    begins: dict[str, int] = {}
    tops: dict[str, dict[int, int]] = {}
    watermarks: dict[str, dict[int, Watermark]] = {}
    highest: dict[str, int] = {}
    topic_ids: dict[str, str] = {}


class Headers(msgspec.Struct, frozen=True, omit_defaults=True):
    """The headers of a batch; each field is one Kafka header, JSON unless it is text.

    Attributes:
        pipeline: Digest of the pipeline.yaml that the writer ran.
        topic_id: The broker's id of events or labels: another one is another generation.
        coverage: Input topic: first and last offset that this batch covers, rows or not.
        piece: Index of this piece; the coverage counts with the last one.
        pieces: Into how many messages the rows were cut.
        through: The writer's state after this message.
        after: Source: order value that this writer sent to this partition before; ingestion's kind of coverage.
        watermarks: Source: what this writer says of its own sources.
        rejects: Source: the rows refused at the door.
        pool: Version of the model pool that scored the rows, 0 for none.
        weights: Number of the checkpoint on `weights` that ruled, 0 for the pool's own.
        panes: Drift counts: panes up to which the counts are complete, first and last index.
    """

    pipeline: str = ""
    topic_id: str = ""
    coverage: dict[str, tuple[int, int]] = {}
    piece: int = 0
    pieces: int = 1
    through: Through | None = None
    after: dict[int, int] = {}
    watermarks: dict[int, Watermark] = {}
    rejects: dict[int, list[Reject]] = {}
    pool: int = 0
    weights: int = 0
    panes: tuple[int, int] | None = None

    @property
    def final(self) -> bool:
        """Whether the coverage counts with this message."""
        return self.piece == self.pieces - 1


_FIELDS = {field.name: field for field in msgspec.structs.fields(Headers)}
_DECODERS = {name: msgspec.json.Decoder(field.type) for name, field in _FIELDS.items() if field.type is not str}
_DEFAULT = Headers()
_encode = msgspec.json.Encoder().encode


_END = b"\xff\xff\xff\xff\0\0\0\0"
"""What an Arrow IPC stream ends with. A stream writer would copy the columns once more."""


class BatchError(ValueError):
    """The bytes or headers are not a batch of ours."""


def encode_headers(headers: Headers) -> list[tuple[str, bytes]]:
    """Kafka headers; fields at their default are left out."""
    out = []
    for name in _FIELDS:
        value = getattr(headers, name)
        if value != getattr(_DEFAULT, name):
            out.append((name, value.encode() if isinstance(value, str) else _encode(value)))
    return out


def decode_headers(headers: Sequence[tuple[str, bytes]]) -> Headers:
    """The headers of a batch; foreign ones are ignored.

    Raises:
        BatchError: One of ours has the wrong form.
    """
    return Headers(**{name: _decode_header(name, value) for name, value in headers if name in _FIELDS})


def _decode_header(name: str, value: bytes | None) -> Any:
    if value is None:
        raise BatchError(f"header {name!r} is null")
    try:
        return _DECODERS[name].decode(value) if name in _DECODERS else value.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BatchError(f"header {name!r}: {error}") from error


def encode(batch: pa.RecordBatch) -> bytes:
    """Arrow IPC stream of one record batch."""
    return b"".join((memoryview(batch.schema.serialize()), memoryview(batch.serialize()), _END))


def decode(value: bytes | None) -> pa.RecordBatch:
    """The record batch of a message.

    Raises:
        BatchError: Not an Arrow IPC stream of one batch.
    """
    try:
        return pa.ipc.open_stream(value or b"").read_next_batch()
    except (pa.ArrowException, StopIteration) as error:
        raise BatchError(f"not an Arrow batch: {error}") from error


def _small(batch: pa.RecordBatch) -> bool:
    """Whether the rows fit MAX_BYTES; the size of the buffers that they share with others is a cheap upper bound."""
    shared = batch.get_total_buffer_size()
    return bool(shared <= MAX_BYTES or pa.ipc.get_record_batch_size(batch) <= MAX_BYTES)


def orders(batch: pa.RecordBatch, at: slice | npt.NDArray[np.int64] = slice(None)) -> npt.NDArray[np.int64]:
    """Order value of each row, shape (rows,), or of those at some indices."""
    position = batch.column(POSITION).to_numpy(zero_copy_only=False)[at]
    row = batch.column(ROW).to_numpy(zero_copy_only=False)[at]
    order: npt.NDArray[np.int64] = (position.astype(np.int64) << ROW_BITS) | row
    return order


def sources(batch: pa.RecordBatch) -> npt.NDArray[np.int16]:
    """Source of each row, shape (rows,)."""
    return batch.column(SOURCE).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in pieces of at most MAX_ROWS rows and MAX_BYTES bytes; one empty piece for no rows.

    A single row above MAX_BYTES stays whole: the topics take messages of sixteen times that.
    """
    if batch.num_rows <= 1 or (batch.num_rows <= MAX_ROWS and _small(batch)):
        yield batch
    else:
        half = batch.num_rows // 2
        yield from cut(batch.slice(0, half))
        yield from cut(batch.slice(half))
