"""Ingestion: events to records and labels to outcomes, the only shuffle (architecture: rules of the log).

It reads no tail. It restarts from its commit, which moves only after delivery to all partitions, so a crash can only
repeat rows, never hide one; readers drop what they have seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

import pyarrow as pa

from runtime.dead_letters import dead_letter
from runtime.errors import NEW_GENERATION, WrongSetup
from runtime.metrics import Metrics
from runtime.ports import LogReader, Outgoing, Place, Polled
from schemas import batch as b
from schemas.pipeline import Pipeline
from services.ingestion.domain.forms import Form, event_form, label_form
from services.ingestion.domain.pieces import Chain, Piece, Refusal, cut
from services.ingestion.domain.reading import Read, Reader, Runs
from services.ingestion.domain.routing import route, shares
from services.ingestion.domain.rows import Refused
from services.ingestion.domain.watermarks import Watermarks

PORTION_BYTES = 4 << 20


class Channel:
    """One topic from outside and the internal topic that its rows go to.

    Args:
        form: How its messages are read.
        output: The internal topic.
        spec: The pipeline.
        partitions: Number of partitions of the internal topics and of dead-letters.
        metrics: Where rows and refusals are counted.
    """

    def __init__(self, form: Form, output: str, spec: Pipeline, partitions: int, metrics: Metrics) -> None:
        self._topic, self._output, self._partitions = form.topic, output, partitions
        self._digest, self._metrics = spec.digest, metrics
        self._key = b.ENTITY if form.entity else b.EVENT_ID
        self._reader = Reader(form)
        self._watermarks = Watermarks(spec.drift.pane)
        self._chain = Chain()
        self._topic_id, self._ask = "", True
        self._handled: dict[int, int] = {}
        self._none: pa.RecordBatch = self._reader.read([]).batch

    def restore(self, source: int, log: LogReader) -> None:
        """Begin with a source at its committed position."""
        if self._ask:  # once per rebalance, as each question is a connection
            self._topic_id, self._ask = log.topic_id(self._topic), False
        self._handled.pop(source, None)
        self._chain.forget(source)
        self._watermarks.gain(source, handled_before=bool(log.committed(Place(self._topic, source))))

    def forget(self, source: int) -> None:
        """End with a source."""
        self._ask = True
        self._handled.pop(source, None)
        self._chain.forget(source)
        self._watermarks.lose(source)

    def handle(self, runs: Runs) -> list[Outgoing]:
        """The messages that the rows of a poll become, dead letters included.

        Raises:
            WrongSetup: A source began anew.
        """
        self._refuse_another_log(runs)
        self._ask = True
        read = self._reader.read(runs)
        self._watermarks.move([source for source, _ in runs], read.batch)
        self._count(read)
        return [*map(self._dead_letter, read.refused), *self._messages(read)]

    def tick(self, now: int) -> list[Outgoing]:
        """Tell every partition of sources that fell asleep; `now` in milliseconds."""
        self._watermarks.look(now)
        return list(self._tellings())

    def _refuse_another_log(self, runs: Runs) -> None:
        """Readers would drop what has the offsets of an earlier log, as if they knew it."""
        for source, messages in runs:
            first, handled = messages[0].offset, self._handled.get(source, -1)
            if first <= handled:
                raise WrongSetup(
                    f"{self._topic}/{source} goes on with offset {first}, but offset {handled} was handled before: "
                    f"{self._topic!r} was deleted and made again, or the broker lost data. {NEW_GENERATION}"
                )
            self._handled[source] = messages[-1].offset

    def _messages(self, read: Read) -> Iterator[Outgoing]:
        rows = dict(shares(read.batch, route(read.batch.column(self._key), self._partitions), self._partitions))
        refusals = self._refusals(read.refused)
        for partition in sorted({*rows, *refusals}):
            pieces = cut(rows.get(partition, self._none), refusals.get(partition, []))
            for piece in pieces:
                # The watermark is that of the whole poll: before the last piece it would make the other rows late.
                yield self._message(partition, piece, final=piece is pieces[-1])
        yield from self._tellings()

    def _tellings(self) -> Iterator[Outgoing]:
        for partition in range(self._partitions):
            if self._watermarks.owes(partition):
                yield self._message(partition, Piece(self._none, {}), final=True)

    def _message(self, partition: int, piece: Piece, *, final: bool) -> Outgoing:
        headers = b.Headers(
            pipeline=self._digest,
            topic_id=self._topic_id,
            after=self._chain.follow(partition, piece.lasts),
            watermarks=self._watermarks.tell(partition) if final else {},
            rejects=piece.rejects,
        )
        return Outgoing(self._output, partition, b.encode(piece.rows), None, b.encode_headers(headers))

    def _refusals(self, refused: Sequence[Refused]) -> Mapping[int, list[Refusal]]:
        out: dict[int, list[Refusal]] = {}
        for each in refused:
            reject = (each.message.offset, each.row, str(each.reason.code))
            out.setdefault(each.source % self._partitions, []).append((each.source, reject))
        return out

    def _dead_letter(self, refused: Refused) -> Outgoing:
        message, reason = refused.message, refused.reason
        return dead_letter(
            Place(self._topic, refused.source),
            message,
            str(reason.code),
            reason.message,
            pipeline=self._digest,
            partitions=self._partitions,
            path=reason.path,
            row=refused.row,
            errors=reason.errors,
        )

    def _count(self, read: Read) -> None:
        self._metrics.rows.labels(self._topic).inc(read.batch.num_rows)
        for code, count in Counter(str(each.reason.code) for each in read.refused).items():
            self._metrics.rejected.labels(code).inc(count)


class Ingestion:
    """The handler.

    Args:
        spec: The pipeline.
        partitions: Number of partitions of records, the same for all internal topics.
        metrics: Where rows and refusals are counted.
    """

    inputs = ("events", "labels")
    follows: tuple[str, ...] = ()
    leads = False

    def __init__(self, spec: Pipeline, partitions: int, metrics: Metrics) -> None:
        self._channels = {
            "events": Channel(event_form(spec), "records", spec, partitions, metrics),
            "labels": Channel(label_form(spec), "outcomes", spec, partitions, metrics),
        }

    def restore(self, place: Place, log: LogReader) -> Sequence[Outgoing]:
        """Begin with a partition from outside; nothing was left unsaid."""
        self._channels[place.topic].restore(place.partition, log)
        return ()

    def follow(self, log: LogReader) -> Mapping[Place, int]:  # noqa: ARG002 - there is nothing to follow
        """Nothing."""
        return {}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """The messages that the poll becomes, in portions: one is on its way while the next is made.

        All are confirmed before anything is committed.
        """
        for portion in portions(polled):
            yield [
                message
                for topic, channel in self._channels.items()
                if (runs := _runs(portion, topic))
                for message in channel.handle(runs)
            ]

    def tick(self, now: int) -> Sequence[Outgoing]:
        """Sources that stood still for ten seconds are idle and hold nobody back."""
        return [message for channel in self._channels.values() for message in channel.tick(now)]

    def forget(self, place: Place) -> None:
        """Say nothing more of a lost partition."""
        self._channels[place.topic].forget(place.partition)


def portions(polled: Sequence[Polled]) -> Iterator[Sequence[Polled]]:
    """The poll in its order, cut behind each message that makes a portion larger than 4 MiB."""
    if sum(_size(run) for run in polled) <= PORTION_BYTES:
        yield polled
        return
    portion: list[Polled] = []
    size = 0
    for run in polled:
        start = 0
        for stop, message in enumerate(run.messages, 1):
            size += len(message.value or b"")
            if size > PORTION_BYTES:
                yield [*portion, run._replace(messages=run.messages[start:stop])]
                portion, size, start = [], 0, stop
        if start < len(run.messages):
            portion.append(run._replace(messages=run.messages[start:]))
    if portion:
        yield portion


_value = attrgetter("value")


def _size(run: Polled) -> int:
    return sum(map(len, filter(None, map(_value, run.messages))))


def _runs(polled: Sequence[Polled], topic: str) -> Runs:
    own = [(each.partition, each.messages) for each in polled if each.topic == topic]
    return sorted(own, key=lambda run: run[0])
