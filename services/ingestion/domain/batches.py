"""Arrow messages of a poll: neighbours with the same columns are looked at together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.ingestion.domain.forms import Part, Raw

MAX_ROWS = 1 << 15
MAX_BYTES = 8 << 20
"""Most that is looked at together: a column of it still fits the processor's cache."""


@dataclass(frozen=True, slots=True)
class Batch:
    """An Arrow message.

    Attributes:
        source: Partition that it came from.
        message: The message.
        traceparent: W3C trace context of whoever produced it.
        rows: Its rows as they came.
    """

    source: int
    message: Raw
    traceparent: str | None
    rows: pa.RecordBatch

    def part(self, value: bytes) -> Part:
        """One of its rows as if it had come alone."""
        message = self.message
        return Part(message.offset, message.timestamp, message.key, value, message.headers)


class Group:
    """Arrow messages with the same columns, and their rows one behind the other.

    Args:
        batches: The messages, ascending by (source, position).
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches
        sizes = [each.rows.num_rows for each in batches]
        self._starts = np.cumsum([0, *sizes[:-1]])
        self.rows = batches[0].rows if len(batches) == 1 else pa.concat_batches([each.rows for each in batches])

    def places(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Index of the message of each row, and the row's number in that message."""
        which = np.searchsorted(self._starts, rows, side="right") - 1
        return which, (rows - self._starts[which]).astype(np.int32)


def grouped(batches: Sequence[Batch]) -> Iterator[Group]:
    """The messages in their order, cut where columns change or enough has come together."""
    group: list[Batch] = []
    rows = size = 0
    for each in batches:
        rows += each.rows.num_rows
        size += each.rows.get_total_buffer_size()
        if group and (rows > MAX_ROWS or size > MAX_BYTES or not _alike(group[0], each)):
            yield Group(group)
            group, rows, size = [], each.rows.num_rows, each.rows.get_total_buffer_size()
        group.append(each)
    if group:
        yield Group(group)


def _alike(one: Batch, other: Batch) -> bool:
    return one.rows.schema.equals(other.rows.schema, check_metadata=True)  # type: ignore[no-any-return]
