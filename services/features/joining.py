"""The join on the log: scored and outcomes of a partition to examples, with coverage of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from runtime.dead_letters import dead_letter
from runtime.fold import Fold
from runtime.metrics import Metrics
from runtime.ports import LogReader, Outgoing, Place, Stored
from runtime.stage import Decoded, pieces
from runtime.tail import story
from schemas import batch as b
from schemas.events import Reason
from schemas.pipeline import Pipeline
from schemas.task import Target
from services.features.domain.join import Join, Outcome
from services.features.domain.labelled import arrange
from services.features.domain.waiting import Spill
from services.features.rewind import inputs_again, read_tail, rewind

INPUTS = ("scored", "outcomes")
OUTPUT = "examples"

_MENDS = {
    Reason.UNKNOWN_EVENT: "no event with this id came, or its row had stopped waiting: send labels with the id of "
    "their event, or give a longer labels.horizon",
    Reason.LATE_LABEL: "the label is later than its event by more than the horizon, or came when the wait for it had "
    "ended: raise labels.horizon",
}


class Joiner:
    """One partition.

    Args:
        spec: The pipeline.
        partition: Which one.
        features: The columns of features, for messages without rows.
        letters: Number of partitions of dead-letters.
        spill: Where the columns of what waits go when it is too much.
    """

    def __init__(
        self, spec: Pipeline, partition: int, features: pa.Schema, letters: int, spill: Spill | None = None
    ) -> None:
        self._digest, self._partition, self._letters = spec.digest, partition, letters
        revised = spec.labels.revision is not None
        self._none = _examples_schema(features, spec.target, revised=revised).empty_table().combine_chunks()
        absent = None if spec.absent_label is None else pa.scalar(spec.absent_label).cast(spec.target.label_type)
        self._join = Join(spec.labels.horizon, spec.drift.lateness, absent, revised=revised, spill=spill)
        self._fold = Fold(INPUTS)
        self._said = self._fold.through(), dict(self._fold.marks)
        self._clock: int | None = None
        self._topic_id = ""

    @property
    def waiting(self) -> tuple[int, int]:
        """Number of rows and of labels that wait."""
        return self._join.waiting

    def watermark(self, stream: str) -> int | None:
        """Event time in milliseconds that a stream has passed, None while it has said nothing."""
        return self._fold.watermark(stream)

    def restore(self, log: LogReader) -> list[Outgoing]:
        """Fold the log again; return the examples that a crash or a change of owner left unsaid."""
        output = Place(OUTPUT, self._partition)
        tail = read_tail(log, output, INPUTS)
        before = None if tail.clock is None else self._join.pointless(tail.clock)
        self._fold, low = rewind(log, output, INPUTS, before)
        self._topic_id = tail.topic_id
        for message in log.read(output, low, log.end(output)):
            if story(message) is not None:
                self._join.remember(b.decode(message.value))
        for topic, each in inputs_again(log, self._fold, tail.marks, self._partition):
            self._take(topic, [each])
        self._fold.marks.update(tail.marks)
        self._expire()
        self._said = self._fold.through(), dict(self._fold.marks)
        owed = self._join.outcome()
        if not owed.examples:
            return self._dead_letters(owed)
        return [*self._dead_letters(owed), *self._examples(owed)]

    def handle(
        self, messages: Mapping[str, Sequence[Decoded]], metrics: Metrics
    ) -> tuple[list[Outgoing], list[Outgoing]]:
        """Dead letters, and the examples that may be published when those are on the log.

        Where nothing came of the messages, `tick` tells that they are covered: most rows wait long for their labels.
        """
        fresh = {
            topic: [each for each in messages.get(topic, ()) if not self._fold.seen(topic, each.offset)]
            for topic in INPUTS
        }
        if not any(fresh.values()):
            return [], []
        for topic, new in fresh.items():
            self._take(topic, new)
        self._expire()
        outcome = self._join.outcome()
        if outcome == Outcome():
            return [], []
        _count(outcome, metrics)
        return self._dead_letters(outcome), self._examples(outcome)

    def tick(self) -> list[Outgoing]:
        """A message without rows that says how far the inputs were read, where no other has said it yet."""
        return [] if self._fold.marks == self._said[1] else self._examples(Outcome())

    def _take(self, topic: str, messages: Sequence[Decoded]) -> None:
        if topic == "scored":
            for rows, tardy in _merged([self._rows(each) for each in messages]):
                self._join.rows(rows, tardy=tardy)
        else:
            parts = [self._fold.take(topic, each.offset, each.batch, each.headers)[0] for each in messages]
            for labels in _together(parts):
                self._join.labels(labels)
        if messages and topic == "scored":
            self._topic_id = messages[-1].headers.topic_id

    def _rows(self, message: Decoded) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """New rows of a message: those that come in time, and the tardy ones."""
        passed = self._fold.watermark(b.EVENTS)
        rows, _ = self._fold.take("scored", message.offset, message.batch, message.headers)
        tardy = self._join.tardy(rows, passed)
        if not len(tardy):
            return rows, rows.slice(0, 0)
        return rows.take(pa.array(np.delete(np.arange(rows.num_rows), tardy))), rows.take(pa.array(tardy))

    def _expire(self) -> None:
        now = self._fold.passed()
        if now is not None:
            self._clock = now if self._clock is None else max(now, self._clock)
            self._join.expire(self._clock)

    def _examples(self, outcome: Outcome) -> list[Outgoing]:
        """An input that did not move has an empty range: `first` is its mark + 1, `last` its mark."""
        (before, marks), self._said = self._said, (self._fold.through(), dict(self._fold.marks))
        rows = arrange(outcome.examples) if outcome.examples else self._empty()
        headers = b.Headers(
            pipeline=self._digest,
            topic_id=self._topic_id,
            coverage={topic: (mark + 1, self._fold.marks[topic]) for topic, mark in marks.items()},
            through=self._fold.through(),
        )
        return pieces(Place(OUTPUT, self._partition), rows, headers, before)

    def _empty(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], schema=self._none.schema)

    def _dead_letters(self, outcome: Outcome) -> list[Outgoing]:
        refused = ((Reason.LATE_LABEL, outcome.late), (Reason.UNKNOWN_EVENT, outcome.unknown))
        return [self._dead_letter(reason, row) for reason, parts in refused for row in _messages(parts)]

    def _dead_letter(self, reason: Reason, row: Mapping[str, object]) -> Outgoing:
        source, position, number = (int(str(row[name])) for name in (b.SOURCE, b.POSITION, b.ROW))
        return dead_letter(
            Place("labels", source),
            Stored(position, 0, row[b.KEY], row[b.VALUE], _headers(row[b.HEADERS])),  # type: ignore[arg-type]  # bytes or None
            str(reason),
            _MENDS[reason],
            pipeline=self._digest,
            partitions=self._letters,
            row=number,
        )


def _messages(parts: Sequence[pa.RecordBatch]) -> Iterable[Mapping[str, object]]:
    for part in parts:
        yield from part.select([b.SOURCE, b.POSITION, b.ROW, b.KEY, b.VALUE, b.HEADERS]).to_pylist()


def _headers(packed: object) -> Sequence[tuple[str, bytes]]:
    return msgspec.msgpack.decode(packed, type=list[tuple[str, bytes]]) if isinstance(packed, bytes) else ()


def _merged(parts: Sequence[tuple[pa.RecordBatch, pa.RecordBatch]]) -> Iterable[tuple[pa.RecordBatch, bool]]:
    """Rows of consecutive messages, and whether they are tardy; in the order of the messages."""
    if not any(tardy.num_rows for _, tardy in parts):
        return [(rows, False) for rows in _together([rows for rows, _ in parts])]
    both = [each for fresh, tardy in parts for each in ((fresh, False), (tardy, True))]
    return [(rows, tardy) for rows, tardy in both if rows.num_rows]


def _together(parts: Sequence[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    """Consecutive batches as one where their columns are the same."""
    filled = [part for part in parts if part.num_rows]
    if len(filled) > 1 and all(part.schema.equals(filled[0].schema) for part in filled):
        return [pa.concat_batches(filled)]
    return filled


def _count(outcome: Outcome, metrics: Metrics) -> None:
    examples = sum(part.num_rows for part in outcome.examples)
    metrics.rows.labels("examples").inc(examples)
    metrics.waited(examples - outcome.absent, outcome.unlabelled)
    for reason, parts in ((Reason.LATE_LABEL, outcome.late), (Reason.UNKNOWN_EVENT, outcome.unknown)):
        if parts:
            metrics.rejected.labels(str(reason)).inc(sum(part.num_rows for part in parts))
    for stream, count in outcome.twice.items():
        metrics.duplicates.labels(stream).inc(count)


def _examples_schema(features: pa.Schema, target: Target, *, revised: bool) -> pa.Schema:
    added = (*target.scored, *target.labelled, *(b.REVISED if revised else ()))
    return pa.schema([*features, *(pa.field(name, kind) for name, kind in added)])
