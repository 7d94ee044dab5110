"""Finds one scored row, and the example that its label made of it: newest messages first, partition by partition."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc

from headrace.following import places
from runtime.ports import LogReader, Message, Place
from schemas import batch as b

SCORED, EXAMPLES = "scored", "examples"
CHUNK = 64
"""Messages that are read at once, backwards."""

_IDENTITY = re.compile(r"(\d{1,5})-(\d{1,18})-(\d{1,9})")

OnProgress = Callable[[int], None]
"""Called with how many messages more were read."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row where it lies.

    Attributes:
        place: Its partition.
        offset: Of its message.
        headers: What the batch says of itself.
        values: The row's columns by name.
    """

    place: Place
    offset: int
    headers: b.Headers
    values: dict[str, Any]

    @property
    def position(self) -> dict[str, int]:
        """Where it lies, as the ledger writes it."""
        return {f"{self.place.topic}/{self.place.partition}": self.offset}

    @property
    def id(self) -> str:
        """The prediction's id."""
        return f"{self.values[b.SOURCE]}-{self.values[b.POSITION]}-{self.values[b.ROW]}"


def messages(log: LogReader) -> int:
    """Messages of scored rows, the most that a search reads."""
    return sum(log.end(place) - log.begin(place) for place in places(log, SCORED))


def scored(log: LogReader, name: str, on_progress: OnProgress = lambda _: None) -> Row | None:
    """The newest scored row of an event id, or of a prediction's id; None where none is kept."""
    wanted = _wanted(name)
    for place in _likeliest(log, name):
        for message in _backwards(log, place, on_progress):
            row = _row(place, message, wanted)
            if row is not None:
                return row
    return None


def labelled(log: LogReader, row: Row) -> Row | None:
    """The example that a scored row became, None where its label has not come."""
    wanted = _wanted(row.id)
    place = Place(EXAMPLES, row.place.partition)
    for message in log.read(place, log.begin(place), log.end(place)):
        _, last = b.decode_headers(message.headers).coverage.get(SCORED, (0, row.offset))
        if last >= row.offset and (found := _row(place, message, wanted)) is not None:
            return found
    return None


def newest_ids(log: LogReader) -> list[str]:
    """Event ids of the newest batches, for whoever mistyped one."""
    found: list[str] = []
    for place in places(log, SCORED):
        start, end = log.begin(place), log.end(place)
        for message in log.read(place, max(start, end - 1), end):
            found += b.decode(message.value).column(b.EVENT_ID).to_pylist()
    return found


def _likeliest(log: LogReader, name: str) -> list[Place]:
    """All partitions, first the one in which an event id without an entity lies."""
    found = places(log, SCORED)
    first = crc32(name.encode()) % len(found)
    return [found[first], *found[:first], *found[first + 1 :]]


def _backwards(log: LogReader, place: Place, on_progress: OnProgress) -> Iterator[Message]:
    begin, stop = log.begin(place), log.end(place)
    while stop > begin:
        start = max(begin, stop - CHUNK)
        yield from reversed(list(log.read(place, start, stop)))
        on_progress(stop - start)
        stop = start


Find = Callable[[pa.RecordBatch], int]
"""Index of the wanted row in a batch, -1 for none."""


def _wanted(name: str) -> Find:
    """How to find a row: an event may have a name that looks like a prediction's id, so both are tried."""
    told = _IDENTITY.fullmatch(name)

    def find(batch: pa.RecordBatch) -> int:
        index = int(pc.index(batch.column(b.EVENT_ID), name).as_py())
        if index >= 0 or told is None:
            return index
        same = pc.equal(batch.column(b.SOURCE), int(told[1]))
        for column, number in ((b.POSITION, told[2]), (b.ROW, told[3])):
            same = pc.and_(same, pc.equal(batch.column(column), int(number)))
        return int(pc.index(same, True).as_py())

    return find


def _row(place: Place, message: Message, find: Find) -> Row | None:
    batch = b.decode(message.value)
    index = find(batch)
    if index < 0:
        return None
    values = batch.slice(index, 1).to_pylist()[0]
    return Row(place, message.offset, b.decode_headers(message.headers), values)
