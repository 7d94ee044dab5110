"""What every stage behind the shuffle does with a micro-batch: decode, let new rows through once, write with coverage.

A stage keeps the partition number; its handler adds the computation in the middle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import msgspec
import numpy as np
import pyarrow as pa

from runtime.errors import InvalidMessage
from runtime.fold import Fold, Rejects, slowest
from runtime.ports import LogReader, Message, Outgoing, Place, Polled
from runtime.tail import restore
from schemas import batch as b
from schemas.columns import together


@dataclass(frozen=True, slots=True)
class Decoded:
    """A message of a batch topic, parsed."""

    offset: int
    batch: pa.RecordBatch
    headers: b.Headers


@dataclass(frozen=True, slots=True)
class Taken:
    """New rows of consecutive messages, and what a message that holds their results has to say.

    Attributes:
        batch: The new rows, as many as fit one message unless one input was larger.
        coverage: Input topic: first and last offset covered.
        before: The fold's state before these rows: what all pieces but the last one carry.
        through: The fold's state behind them.
        rejects: Rows refused at the door.
        topic_id: The broker's id of the source topic.
    """

    batch: pa.RecordBatch
    coverage: dict[str, tuple[int, int]]
    before: b.Through
    through: b.Through
    rejects: Rejects
    topic_id: str


def decode(polled: Polled) -> list[Decoded]:
    """All messages of a poll, parsed before any state is touched.

    Raises:
        InvalidMessage: One of them is not a batch.
    """
    return [_decode(polled, message) for message in polled.messages]


def _decode(polled: Polled, message: Message) -> Decoded:
    try:
        return Decoded(message.offset, b.decode(message.value), b.decode_headers(message.headers))
    except b.BatchError as error:
        raise InvalidMessage(polled.topic, polled.partition, message.offset, "undecodable_batch", str(error)) from error


class Stage:
    """One input, one output, same partition: a fold per partition.

    Args:
        source: The input topic.
        output: The output topic.
        pipeline: Digest that goes into the headers.
    """

    def __init__(self, source: str, output: str, pipeline: str) -> None:
        self._source, self._output, self._pipeline = source, output, pipeline
        self._folds: dict[int, Fold] = {}

    def restore(self, partition: int, log: LogReader) -> Message | None:
        """Take mark and map from the output's tail; return the output message that they are from."""
        fold, message = restore(log, Place(self._output, partition), (self._source,))
        self._folds[partition] = fold
        return message

    def forget(self, partition: int) -> None:
        """Drop the fold of a partition."""
        self._folds.pop(partition, None)

    def watermark(self, stream: str) -> int | None:
        """Event time in milliseconds that all own partitions have passed, None while one has said nothing."""
        return slowest(fold.watermark(stream) for fold in self._folds.values())

    def take(self, partition: int, messages: Sequence[Decoded]) -> Iterator[Taken]:
        """New rows of the messages, gathered to at most MAX_ROWS rows."""
        fold = self._folds[partition]
        fresh = [message for message in messages if not fold.seen(self._source, message.offset)]
        for group in _groups(fresh):
            yield self._take(fold, group)

    def _take(self, fold: Fold, group: Sequence[Decoded]) -> Taken:
        before, first = fold.through(), fold.marks[self._source] + 1
        rejects: Rejects = {}
        parts = []
        for each in group:
            rows, refused = fold.take(self._source, each.offset, each.batch, each.headers)
            parts.append(rows)
            for source, rejected in refused.items():
                rejects.setdefault(source, []).extend(rejected)
        batch = together(parts)
        coverage = {self._source: (first, fold.marks[self._source])}
        return Taken(batch, coverage, before, fold.through(), rejects, group[-1].headers.topic_id)

    def emit(
        self, partition: int, taken: Taken, rows: pa.RecordBatch, *, pool: int = 0, weights: int = 0
    ) -> list[Outgoing]:
        """The output messages for taken rows, cut to size.

        Args:
            partition: The partition that the rows came from.
            taken: What the rows were computed from.
            rows: The computed rows, in the same order.
            pool: Version of the pool that scored them.
            weights: Number of the checkpoint that ruled.
        """
        pieces = list(b.cut(rows))
        headers = b.Headers(
            pipeline=self._pipeline,
            topic_id=taken.topic_id,
            coverage=taken.coverage,
            pieces=len(pieces),
            through=taken.through,
            rejects=taken.rejects,
            pool=pool,
            weights=weights,
        )
        return [
            Outgoing(self._output, partition, b.encode(piece), None, b.encode_headers(story))
            for piece, story in zip(pieces, split(headers, taken.before, pieces), strict=True)
        ]


def rounds(lanes: Iterable[tuple[int, Iterable[Taken]]]) -> Iterator[list[tuple[int, Taken]]]:
    """One of each partition at a time: what is costly per call and not per row is then paid once for all of them."""
    turns = ([(partition, taken) for taken in lane] for partition, lane in lanes)
    for turn in zip_longest(*turns):
        yield [each for each in turn if each is not None]


def gathered(turn: Sequence[tuple[int, Taken]]) -> pa.RecordBatch:
    """All rows of a round, partition by partition."""
    return together([taken.batch for _, taken in turn])


def parted(turn: Sequence[tuple[int, Taken]], rows: pa.RecordBatch) -> Iterator[tuple[int, Taken, pa.RecordBatch]]:
    """What was computed from the rows of a round, partition by partition."""
    start = 0
    for partition, taken in turn:
        yield partition, taken, rows.slice(start, taken.batch.num_rows)
        start += taken.batch.num_rows


def _groups(messages: Sequence[Decoded]) -> Iterator[list[Decoded]]:
    group: list[Decoded] = []
    rows = 0
    for message in messages:
        if group and rows + message.batch.num_rows > b.MAX_ROWS:
            yield group
            group, rows = [], 0
        group.append(message)
        rows += message.batch.num_rows
    if group:
        yield group


def split(headers: b.Headers, before: b.Through, pieces: Sequence[pa.RecordBatch]) -> Iterator[b.Headers]:
    """Headers of each piece: until the last one, the map says exactly what the pieces so far held."""
    stream = b.EVENTS
    tops = dict(before.tops.get(stream, {}))
    left = {source: list(refused) for source, refused in headers.rejects.items()}
    for index, piece in enumerate(pieces[:-1]):
        sources, orders = b.sources(piece), b.orders(piece)
        for source in np.unique(sources).tolist():
            tops[source] = max(int(orders[sources == source].max()), tops.get(source, -1))
        now, left = _up_to(tops, left)
        through = msgspec.structs.replace(before, tops={**before.tops, stream: dict(tops)})
        yield msgspec.structs.replace(headers, piece=index, through=through, rejects=now)
    yield msgspec.structs.replace(headers, piece=len(pieces) - 1, rejects=left)


def pieces(output: Place, rows: pa.RecordBatch, headers: b.Headers, before: b.Through) -> list[Outgoing]:
    """Rows cut to size, for a stage that after a crash amid the pieces says all of them again.

    All pieces but the last one carry the state before them. See `split` for a stage that goes on behind the last piece.
    """
    parts = list(b.cut(rows))
    replace = msgspec.structs.replace
    told = [replace(headers, piece=index, pieces=len(parts), through=before) for index in range(len(parts))]
    told[-1] = replace(told[-1], through=headers.through)
    return [
        Outgoing(output.topic, output.partition, b.encode(part), None, b.encode_headers(each))
        for part, each in zip(parts, told, strict=True)
    ]


def _up_to(tops: dict[int, int], rejects: Rejects) -> tuple[Rejects, Rejects]:
    def passed(source: int, each: b.Reject) -> bool:
        return (each[0] << b.ROW_BITS | each[1]) <= tops.get(source, -1)

    now = {source: [each for each in refused if passed(source, each)] for source, refused in rejects.items()}
    later = {source: [each for each in refused if not passed(source, each)] for source, refused in rejects.items()}
    return {s: refused for s, refused in now.items() if refused}, {s: r for s, r in later.items() if r}
