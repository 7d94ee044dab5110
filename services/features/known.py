"""The labels that the windows of one partition know, and what the output says of them.

Which labels were there when rows were computed is the only thing that the rows and labels themselves do not tell. So
each message of `features` covers `outcomes` as well: its rows know exactly the labels up to there. Who reads the log
again, and who goes on after a crash, lets in the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec
import pyarrow as pa

from runtime.fold import Fold
from runtime.ports import LogReader, Message, Place
from runtime.stage import Decoded, Taken
from runtime.tail import story
from schemas import batch as b
from services.features.rewind import inputs_again
from services.features.windowing import begin

Value = TypeVar("Value")

RECORDS, INPUT, OUTPUT = "records", "outcomes", "features"


class Known:
    """One partition.

    Args:
        partition: Which one.
    """

    def __init__(self, partition: int) -> None:
        self._partition, self._fold = partition, Fold((INPUT,))
        self._said = self._fold.through(), -1
        self._owed = -1
        self._new: list[Decoded] = []

    def restore(self, restored: Message | None, log: LogReader, reach: int) -> Iterator[pa.RecordBatch]:
        """The labels that windows may reach, up to what the own output covers and what the group has committed.

        No output covers labels behind which no rows came: the next rows know them. But a crash amid the pieces of a
        message leaves rows that must know what those of the first pieces knew: until they are computed, nothing new is
        let in.

        Args:
            restored: The message of the own output that the stage goes on behind.
            log: The log.
            reach: How much older than the newest row a label may be and still count, milliseconds.
        """
        mark = self._covered(restored, log, reach)
        committed = (log.committed(Place(INPUT, self._partition)) or 0) - 1
        last = mark if self._owed >= 0 else max(mark, committed)
        for _, each in inputs_again(log, self._fold, {INPUT: last}, self._partition):
            yield self._take(each)
        self._fold.marks[INPUT] = last
        self._new = [each for _, each in inputs_again(log, self._fold, {INPUT: committed}, self._partition)]

    def _covered(self, restored: Message | None, log: LogReader, reach: int) -> int:
        """Begin with what a message of the own output says; the last offset of the labels that its rows knew."""
        headers = None if restored is None else story(restored)
        if headers is None or headers.through is None or INPUT not in headers.coverage:
            return -1
        first, last = headers.coverage[INPUT]
        newest = headers.through.highest.get(b.EVENTS)
        self._said = headers.through, last if headers.final else first - 1
        self._owed = -1 if headers.final else headers.coverage[RECORDS][1]
        if newest is not None:
            self._fold = begin(log, Place(OUTPUT, self._partition), INPUT, newest - reach)
        return last

    def add(self, messages: Sequence[Decoded]) -> None:
        """These came."""
        self._new += messages

    def let_in(self) -> Iterator[pa.RecordBatch]:
        """The labels that came, each once, when rows may know them."""
        if self._owed >= 0:
            return
        new, self._new = self._new, []
        for each in new:
            if not self._fold.seen(INPUT, each.offset):
                yield self._take(each)

    def _take(self, message: Decoded) -> pa.RecordBatch:
        return self._fold.take(INPUT, message.offset, message.batch, message.headers)[0]

    def parts(self, messages: Sequence[Decoded]) -> Iterator[Sequence[Decoded]]:
        """Messages of records: first those whose rows may know nothing new, then the others."""
        owed = [each for each in messages if each.offset <= self._owed]
        if owed:
            yield owed
        if len(owed) < len(messages):
            self._owed = -1
            yield messages[len(owed) :]

    def told(self, taken: Taken) -> Taken:
        """What a message with the results of the rows has to say, the labels that they know included."""
        (before, mark), self._said = self._said, (self._fold.through(), self._fold.marks[INPUT])
        return replace(
            taken,
            coverage={**taken.coverage, INPUT: (mark + 1, self._said[1])},
            before=_with_labels(taken.before, before),
            through=_with_labels(taken.through, self._said[0]),
        )


def _with_labels(rows: b.Through, labels: b.Through) -> b.Through:
    """The state of the rows with that of the labels.

    The labels' watermarks stay out: who reads both streams must not believe labels to be passed that it has not read.
    """
    return msgspec.structs.replace(
        rows,
        begins={**rows.begins, **_of(labels.begins, INPUT)},
        tops={**rows.tops, **_of(labels.tops, b.LABELS)},
        highest={**rows.highest, **_of(labels.highest, b.LABELS)},
        topic_ids={**rows.topic_ids, **_of(labels.topic_ids, b.LABELS)},
    )


def _of(state: dict[str, Value], name: str) -> dict[str, Value]:
    return {name: state[name]} if name in state else {}
