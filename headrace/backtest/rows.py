"""The recorded features and outcomes of a stretch of event time, in the order of event time.

Features and not events: which features there are may not differ between two policies, so what was computed of them is
right for both, windows over rows and labels included, and nothing before the stretch is needed. Event time and not the
broker's: a log that was written in a rush, or caught up after a pause, is heard at the pace at which it happened.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from headrace.following import places
from runtime.memory import MemoryBroker
from runtime.ports import LogReader, Message, Place
from schemas import batch as b

TOPICS = ("features", "outcomes")
"""What is replayed."""

CHUNK = 100
"""Messages of a partition that are read at once."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded message.

    Attributes:
        time: Highest event time in its partition so far, milliseconds; UNHEARD while there is none.
        place: Its partition.
        message: As it lies there.
        rows: How many it holds.
    """

    time: int
    place: Place
    message: Message
    rows: int


def recorded(log: LogReader, start: int, stop: int | None = None) -> Iterator[Recorded]:
    """The messages with rows of [start, stop), of every partition from the first one on whose time is within."""
    lanes = [_lane(log, place, start, stop) for topic in TOPICS for place in places(log, topic)]
    yield from heapq.merge(*lanes, key=lambda each: each.time)


def _lane(log: LogReader, place: Place, start: int, stop: int | None) -> Iterator[Recorded]:
    begun, time = False, b.UNHEARD
    for message in _chunks(log, place):
        batch, headers = b.decode(message.value), b.decode_headers(message.headers)
        time = max(time, _newest(batch, headers))
        if stop is not None and time >= stop and headers.piece == 0:
            return
        begun = begun or (time >= start and headers.piece == 0)
        if begun:
            yield Recorded(time, place, message, batch.num_rows)


def _chunks(log: LogReader, place: Place) -> Iterator[Message]:
    """A partition bit by bit: all are read beside one another, and none shall hold a connection meanwhile."""
    begin, end = log.begin(place), log.end(place)
    for start in range(begin, end, CHUNK):
        yield from list(log.read(place, start, min(start + CHUNK, end)))


def _newest(batch: pa.RecordBatch, headers: b.Headers) -> int:
    """Event time of a message: that of its rows, or without any the watermark that it carries."""
    if batch.num_rows:
        return int(pc.max(batch.column(b.TIME).cast(pa.timestamp("ms", "UTC"))).value)
    return max((time for time, _ in headers.watermarks.values()), default=b.UNHEARD)


def write(broker: MemoryBroker, each: Recorded, *, first: bool) -> None:
    """Write a message behind those before it. The offset of the first one is not 0: rows came before it."""
    if first:
        broker.skip(each.place)
    broker.append(each.place, each.message.value, each.message.key, each.message.headers)
