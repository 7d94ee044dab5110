"""The map (architecture: rules of the log): what one partition of a stage has seen, a pure fold of its input log.

Whoever wrote the input, however often it was repeated: the fold lets each row through once, in order, and finds holes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runtime.errors import NEW_GENERATION, HoleFound, WrongSetup
from schemas import batch as b


class Fold:
    """State of one partition.

    Attributes:
        marks: Own inputs: the last offset that is covered, -1 at the very beginning.
    """

    def __init__(self, inputs: tuple[str, ...], through: b.Through | None = None) -> None:
        through = through or b.Through()
        self.marks = dict.fromkeys(inputs, -1)
        self._upstream = dict(through.marks)
        self._begins = dict(through.begins)
        self.tops = {stream: dict(tops) for stream, tops in through.tops.items()}
        self.watermarks = {stream: dict(marks) for stream, marks in through.watermarks.items()}
        self.highest = dict(through.highest)
        self.topic_ids = dict(through.topic_ids)

    def seen(self, topic: str, offset: int) -> bool:
        """Whether a message of an own input is covered already."""
        return offset <= self.marks[topic]

    def take(
        self, topic: str, offset: int, batch: pa.RecordBatch, headers: b.Headers
    ) -> tuple[pa.RecordBatch, Rejects]:
        """The rows and rejects of a message that were not seen before; the fold moves on.

        Raises:
            HoleFound: Rows that its writer wrote before are missing.
            WrongSetup: Its rows come from another topic than those before: it was deleted and made again.
        """
        self._check_generation(topic, offset, headers)
        self._begins.setdefault(topic, offset)
        self._check(topic, offset, headers)
        stream = b.STREAM.get(topic, topic)
        rows, rejects = self.novel(stream, batch, headers)
        self._merge(stream, rows, headers)
        self.marks[topic] = offset
        return rows, rejects

    def novel(self, stream: str, batch: pa.RecordBatch, headers: b.Headers) -> tuple[pa.RecordBatch, Rejects]:
        """The rows and rejects that were not seen before, and no more: for messages that were taken once before."""
        tops = self.tops.setdefault(stream, {})
        rejects = _novel_rejects(tops, headers.rejects)
        rows = _novel_rows(tops, batch)
        _raise_tops(tops, headers.rejects)
        return rows, rejects

    def through(self) -> b.Through:
        """The state as it travels in headers."""
        return b.Through(
            marks=dict(self._upstream),
            begins=dict(self._begins),
            tops={stream: dict(tops) for stream, tops in self.tops.items()},
            watermarks={stream: dict(marks) for stream, marks in self.watermarks.items()},
            highest=dict(self.highest),
            topic_ids=dict(self.topic_ids),
        )

    def watermark(self, stream: str) -> int | None:
        """Event time in milliseconds that all sources of the stream have passed, None before the first row."""
        return watermark(self.watermarks.get(stream, {}))

    def passed(self) -> int | None:
        """Event time in milliseconds that both streams have passed, None before both have spoken."""
        return passed(b.Through(watermarks=self.watermarks))

    def _check_generation(self, topic: str, offset: int, headers: b.Headers) -> None:
        for stream, told in _topic_ids(topic, headers).items():
            known = self.topic_ids.setdefault(stream, told)
            if told != known:
                raise WrongSetup(
                    f"{topic} offset {offset} comes from topic {stream!r} with id {told}, all before it from id "
                    f"{known}: {stream!r} was deleted and made again. {NEW_GENERATION}"
                )

    def _check(self, topic: str, offset: int, headers: b.Headers) -> None:
        where = f"{topic} offset {offset}"
        for above, (first, _) in headers.coverage.items():
            mark = self._upstream.get(above)
            if mark is not None and first > mark + 1:
                raise HoleFound(f"{where} covers {above} from {first} on, seen up to {mark}: a message is missing")
        tops = self.tops.get(b.STREAM.get(topic, topic), {})
        for source, order in headers.after.items():
            unknown = source not in tops and self._begins[topic] > 0
            if not unknown and order > tops.get(source, -1):
                position = order >> b.ROW_BITS
                raise HoleFound(f"{where} follows position {position} of source {source}, which never came here")

    def _merge(self, stream: str, rows: pa.RecordBatch, headers: b.Headers) -> None:
        if headers.final:
            for above, (_, last) in headers.coverage.items():
                self._upstream[above] = max(last, self._upstream.get(above, -1))
        if headers.through is not None:
            for name, marks in headers.through.watermarks.items():
                self._merge_watermarks(name, marks)
            for name, time in headers.through.highest.items():
                self.highest[name] = max(time, self.highest.get(name, time))
        self._merge_watermarks(stream, headers.watermarks)
        if rows.num_rows and b.TIME in rows.schema.names:
            newest = int(pc.max(rows.column(b.TIME)).value)
            self.highest[stream] = max(newest, self.highest.get(stream, newest))

    def _merge_watermarks(self, stream: str, marks: Mapping[int, b.Watermark]) -> None:
        known = self.watermarks.setdefault(stream, {})
        for source, (time, idle) in marks.items():
            known[source] = (max(time, known.get(source, (time, idle))[0]), idle)


Rejects = dict[int, list[b.Reject]]

FEW = 32
"""Rows up to which Python is faster than numpy."""


def watermark(sources: Mapping[int, b.Watermark]) -> int | None:
    """Minimum over the sources that are not idle, over all while every one is. Readers keep their own highest.

    None while one that is not idle, or every one, has said nothing yet.
    """
    active = [time for time, idle in sources.values() if not idle]
    known = active or [time for time, _ in sources.values() if time > b.UNHEARD]
    found = min(known, default=b.UNHEARD)
    return found if found > b.UNHEARD else None


def passed(through: b.Through | None) -> int | None:
    """Event time in milliseconds that events and labels have both passed, None before both have spoken."""
    marks = {} if through is None else through.watermarks
    return slowest(watermark(marks.get(stream, {})) for stream in (b.EVENTS, b.LABELS))


def slowest(times: Iterable[int | None]) -> int | None:
    """The least of the times, None where one is unknown or there is none."""
    given = list(times)
    known = [time for time in given if time is not None]
    return min(known) if known and len(known) == len(given) else None


def _topic_ids(topic: str, headers: b.Headers) -> dict[str, str]:
    """What a message says of where its rows come from; examples and what follows them name the id of events."""
    known = {} if headers.through is None else headers.through.topic_ids
    told = {**known, b.STREAM.get(topic, b.EVENTS): headers.topic_id}
    return {stream: each for stream, each in told.items() if each}


def _novel_rejects(tops: Mapping[int, int], rejects: Rejects) -> Rejects:
    novel = {
        source: [each for each in refused if (each[0] << b.ROW_BITS | each[1]) > tops.get(source, -1)]
        for source, refused in rejects.items()
    }
    return {source: refused for source, refused in novel.items() if refused}


def _novel_rows(tops: dict[int, int], batch: pa.RecordBatch) -> pa.RecordBatch:
    if batch.num_rows <= FEW:
        return _few_novel_rows(tops, batch)
    source, order = b.sources(batch), b.orders(batch)
    by_source = np.argsort(source, kind="stable")
    of, ranked = source[by_source], order[by_source]
    starts = np.concatenate(([0], np.flatnonzero(of[1:] != of[:-1]) + 1))
    before = np.concatenate(([-1], ranked[:-1]))
    before[starts] = [tops.get(each, -1) for each in of[starts].tolist()]
    if (ranked <= before).any():
        return _some_novel_rows(tops, batch, source, order)
    ends = np.concatenate((starts[1:], [len(of)])) - 1
    tops.update(zip(of[starts].tolist(), ranked[ends].tolist(), strict=True))
    return batch


def _some_novel_rows(
    tops: dict[int, int], batch: pa.RecordBatch, source: npt.NDArray[np.int16], order: npt.NDArray[np.int64]
) -> pa.RecordBatch:
    """The same where rows come again or out of order: each must be above all of its source before it."""
    keep = np.ones(batch.num_rows, bool)
    for each in np.unique(source).tolist():
        rows = np.flatnonzero(source == each)
        reached = np.maximum.accumulate(np.concatenate(([tops.get(each, -1)], order[rows])))
        keep[rows] = order[rows] > reached[:-1]
        tops[each] = int(reached[-1])
    return batch.filter(pa.array(keep))


def _few_novel_rows(tops: dict[int, int], batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same row by row: a slow stream makes batches of a handful, and vectors pay by the call."""
    keep = []
    columns = [batch.column(name).to_pylist() for name in (b.SOURCE, b.POSITION, b.ROW)]
    for source, position, row in zip(*columns, strict=True):
        order = position << b.ROW_BITS | row
        keep.append(order > tops.get(source, -1))
        tops[source] = max(order, tops.get(source, -1))
    return batch if all(keep) else batch.filter(pa.array(keep))


def _raise_tops(tops: dict[int, int], rejects: Rejects) -> None:
    for source, refused in rejects.items():
        last = max(position << b.ROW_BITS | row for position, row, _ in refused)
        tops[source] = max(last, tops.get(source, -1))
