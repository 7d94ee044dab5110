"""What is to be checked: a stretch of `scored`, and where in `records` a computation of its rows has to begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from runtime.fold import Fold
from runtime.ports import LogReader, Message, Place
from runtime.tail import story, windows
from schemas import batch as b

SERVED, RECORDS = "scored", "records"


@dataclass(frozen=True, slots=True)
class Range:
    """Which served rows are meant: all that is set has to fit.

    Attributes:
        start: First append time of `scored`, epoch milliseconds.
        stop: First append time that is too late.
        last: Only the newest rows, so many, and what came with them in a message.
    """

    start: int | None = None
    stop: int | None = None
    last: int | None = None

    def of_each(self, partitions: int) -> Range:
        """What it means for one partition."""
        return self if self.last is None else replace(self, last=-(-self.last // partitions))


@dataclass(frozen=True, slots=True)
class Span:
    """The part of one partition.

    Attributes:
        partition: Which one.
        start: First offset of `scored`.
        stop: Offset behind the last one.
        served: The fold of `scored` before it, so that copies of earlier rows are left out.
        records: The fold of `records` from which all that its rows rest on is read.
        end: Offset in `records` behind everything that was there.
        deleted: Why its rows cannot be computed: the offset at which `records` begins; None: they can.
        expected: About how many messages of `records` there are to read.
    """

    partition: int
    start: int
    stop: int
    served: Fold
    records: Fold
    end: int
    deleted: int | None
    expected: int


def spans(log: LogReader, wanted: Range, reach: int) -> Iterator[Span]:
    """Every partition with something to check; `reach` is how far windows look back, milliseconds, 0 for none."""
    for partition in range(log.partitions(SERVED)):
        place = Place(SERVED, partition)
        start, stop = _bounds(log, place, wanted)
        first = _first_row(log, place, start, stop)
        if first is not None:
            yield _span(log, place, start, stop, first, reach)


def earliest(log: LogReader, partition: int, reach: int) -> int | None:
    """Append time of the first message of `scored` whose rows can still be computed, None where there is none."""
    place, records = Place(SERVED, partition), Place(RECORDS, partition)
    begin = log.begin(records)
    newest = _newest_time(log, records)
    if newest is None:
        return None

    def whole(message: Message) -> bool:
        headers = story(message)
        through = b.Through() if headers is None or headers.through is None else headers.through
        if reach:
            return through.highest.get(b.EVENTS, newest) - reach > newest
        return through.marks.get(RECORDS, -1) >= begin

    offset = seek(log, place, whole)
    found = next(iter(log.read(place, offset + 1, log.end(place))), None)
    return None if found is None else found.timestamp


def seek(log: LogReader, place: Place, holds: Callable[[Message], bool]) -> int:
    """The first offset whose message has what all behind it have; the end where none has it."""
    low, high = log.begin(place), log.end(place)
    while low < high:
        middle = (low + high) // 2
        message = next(iter(log.read(place, middle, high)), None)
        if message is None or holds(message):
            high = middle
        else:
            low = message.offset + 1
    return low


def _bounds(log: LogReader, place: Place, wanted: Range) -> tuple[int, int]:
    start, stop = log.begin(place), log.end(place)
    if (since := wanted.start) is not None:
        start = seek(log, place, lambda message: message.timestamp >= since)
    if (until := wanted.stop) is not None:
        stop = seek(log, place, lambda message: message.timestamp >= until)
    if wanted.last is not None:
        start = max(start, _newest(log, place, stop, wanted.last))
    return start, max(start, stop)


def _newest(log: LogReader, place: Place, stop: int, rows: int) -> int:
    """Where so many rows before an offset begin."""
    for window in windows(log, place, stop):
        counts = [(message.offset, b.decode(message.value).num_rows) for message in window]
        for offset, count in reversed(counts):
            rows -= count
            if rows <= 0:
                return int(offset)
    return log.begin(place)


def _first_row(log: LogReader, place: Place, start: int, stop: int) -> pa.RecordBatch | None:
    for message in log.read(place, start, stop):
        if story(message) is not None and (rows := b.decode(message.value)).num_rows:
            return rows.slice(0, 1)
    return None


def _span(log: LogReader, place: Place, start: int, stop: int, first: pa.RecordBatch, reach: int) -> Span:
    records = Place(RECORDS, place.partition)
    seen, time = _seen(log, place, start), int(first.column(b.TIME)[0].value)
    oldest = max(time, seen.highest.get(b.EVENTS, time)) - reach if reach else None
    fold = _begin(log, place, start, oldest)
    begin = log.begin(records)
    deleted = fold.marks[RECORDS] + 1 < begin
    if deleted and fold.marks[RECORDS] < 0:  # nothing older was kept on `scored` either: what is kept may suffice
        deleted = not _reaches(log, records, first, oldest)
    end = log.end(records)
    expected = _mark(log, place, stop, end) - max(fold.marks[RECORDS], begin - 1)
    return Span(place.partition, start, stop, seen, fold, end, begin if deleted else None, expected)


def _mark(log: LogReader, place: Place, stop: int, end: int) -> int:
    for message in log.read(place, stop - 1, stop):
        headers = story(message)
        if headers is not None and headers.through is not None:
            return int(headers.through.marks.get(RECORDS, end - 1))
    return end - 1


def _begin(log: LogReader, place: Place, start: int, oldest: int | None) -> Fold:
    """The fold of records as a message of `scored` tells it, at which no row was as young as `oldest`."""

    def young(message: Message) -> bool:
        headers = story(message)
        highest = {} if headers is None or headers.through is None else headers.through.highest
        return oldest is not None and highest.get(b.EVENTS, oldest - 1) >= oldest

    stop = start if oldest is None else min(start, seek(log, place, young))
    for window in windows(log, place, stop):
        told = [story(message) for message in window if not young(message)]
        throughs = [each.through for each in told if each is not None and each.final and each.through is not None]
        known = [each for each in throughs if RECORDS in each.marks]
        if known:
            fold = Fold((RECORDS,), known[-1])
            fold.marks[RECORDS] = known[-1].marks[RECORDS]
            return fold
    return Fold((RECORDS,))


def _seen(log: LogReader, place: Place, start: int) -> Fold:
    """The fold of `scored` before an offset. The last message may be a zombie's, who had seen less than others."""
    for window in windows(log, place, start):
        told = [each.through for each in map(story, window) if each is not None and each.through is not None]
        tops: dict[int, int] = {}
        for source, top in (top for each in told for top in each.tops.get(b.EVENTS, {}).items()):
            tops[source] = max(top, tops.get(source, -1))
        highest = max((each.highest[b.EVENTS] for each in told if b.EVENTS in each.highest), default=None)
        if tops:
            known = {} if highest is None else {b.EVENTS: highest}
            return Fold((SERVED,), b.Through(tops={b.EVENTS: tops}, highest=known))
    return Fold((SERVED,))


def _reaches(log: LogReader, records: Place, first: pa.RecordBatch, oldest: int | None) -> bool:
    """Whether records are kept from before the first row; for windows, from before all that they hold."""
    if oldest is not None:
        newest = _newest_time(log, records)
        return newest is not None and newest < oldest
    source, order = int(b.sources(first)[0]), int(b.orders(first)[0])
    for message in log.read(records, log.begin(records), log.end(records)):
        rows = b.decode(message.value)
        own = b.orders(rows)[b.sources(rows) == source]
        if len(own):
            return bool(own[0] <= order)
    return False


def _newest_time(log: LogReader, records: Place) -> int | None:
    """Event time up to which records may have been deleted, milliseconds: that of the first kept message with rows.

    None where none is kept.
    """
    for message in log.read(records, log.begin(records), log.end(records)):
        rows, headers = b.decode(message.value), b.decode_headers(message.headers)
        if rows.num_rows:
            return max([int(pc.max(rows.column(b.TIME)).value), *(time for time, _ in headers.watermarks.values())])
    return None
