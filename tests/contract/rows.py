"""Builders of batch messages, and what a reader of an output makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from runtime.fold import Fold
from runtime.ports import Header, Message
from schemas import batch as b

Row = tuple[int, int]
"""Source and position."""


def rows_of(rows: Sequence[Row]) -> pa.RecordBatch:
    """A batch with nothing but identity columns."""
    columns = [
        pa.array([source for source, _ in rows], pa.int16()),
        pa.array([position for _, position in rows], pa.int64()),
        pa.array([0] * len(rows), pa.int32()),
        pa.array([f"{source}/{position}" for source, position in rows], pa.string()),
        pa.array([None] * len(rows), pa.string()),
        pa.array([position for _, position in rows], pa.timestamp("ms", "UTC")),
        pa.nulls(len(rows), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, names=[name for name, _ in b.IDENTITY])


def record(source: int, positions: Iterable[int], *, after: int | None = None) -> tuple[bytes, list[Header]]:
    """Value and headers of a message as ingestion writes it; `after` is the position that it sent here before."""
    rows = [(source, position) for position in positions]
    headers = b.Headers(
        pipeline="contract",
        topic_id="events",
        after={} if after is None else {source: after << b.ROW_BITS},
        watermarks={source: (rows[-1][1], False)},
    )
    return b.encode(rows_of(rows)), b.encode_headers(headers)


def rows_in(messages: Iterable[Message]) -> list[Row]:
    """All rows of an output, in the order of the log, repeats included."""
    found: list[Row] = []
    for message in messages:
        batch = b.decode(message.value)
        found += zip(batch.column(b.SOURCE).to_pylist(), batch.column(b.POSITION).to_pylist(), strict=True)
    return found


def rows_seen(topic: str, messages: Iterable[Message]) -> list[Row]:
    """The rows that the next stage lets through; raises `HoleFound` where it would."""
    fold = Fold((topic,))
    found: list[Row] = []
    for message in messages:
        rows, _ = fold.take(topic, message.offset, b.decode(message.value), b.decode_headers(message.headers))
        found += zip(rows.column(b.SOURCE).to_pylist(), rows.column(b.POSITION).to_pylist(), strict=True)
    return found


def covered(topic: str, messages: Iterable[Message]) -> int:
    """The last offset of an input that final pieces of an output cover, -1 for none."""
    headers = [b.decode_headers(message.headers) for message in messages]
    return max((each.coverage[topic][1] for each in headers if each.final and topic in each.coverage), default=-1)
