"""The handlers that the suite drives: small, but on the real stage, fold and tail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from runtime.fold import Fold
from runtime.ports import Handler, LogReader, Outgoing, Place, Polled
from runtime.stage import Stage, decode
from runtime.tail import restore
from schemas import batch as b

DIGEST = "contract"
TOO_LARGE = 3 << 20
"""Bytes of a message that no topic of the suite takes."""


@dataclass
class Surroundings:
    """What a test handler may do besides handling.

    Attributes:
        say: Report something to the case.
        pause: Stand still until the case thaws this worker.
        options: The case's options.
    """

    say: Callable[[dict[str, Any]], None]
    pause: Callable[[], None]
    options: Mapping[str, Any] = field(default_factory=dict)


class Relay:
    """records → features, row for row. Options: `freeze` and `inflate`, offsets on partition 0."""

    inputs: tuple[str, ...] = ("records",)
    follows: tuple[str, ...] = ()
    leads = False

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._stage = Stage("records", "features", DIGEST)
        self.known = 0

    def restore(self, place: Place, log: LogReader) -> Iterable[Outgoing]:
        self._stage.restore(place.partition, log)
        self._around.say({"event": "restored", "topic": place.topic, "partition": place.partition})
        return ()

    def follow(self, log: LogReader) -> Mapping[Place, int]:
        return {Place(topic, 0): log.begin(Place(topic, 0)) for topic in self.follows}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        decoded = [(run.partition, decode(run)) for run in polled if run.topic == "records"]
        self.known += sum(len(run.messages) for run in polled if run.topic in self.follows)
        for partition, messages in decoded:
            for taken in self._stage.take(partition, messages):
                self._maybe_freeze(partition, taken.coverage["records"])
                yield self._inflated(self._stage.emit(partition, taken, taken.batch, pool=self.known))

    def tick(self, now: int) -> Sequence[Outgoing]:  # noqa: ARG002 - the port's signature
        return ()

    def forget(self, place: Place) -> None:
        self._stage.forget(place.partition)
        self._around.say({"event": "forgotten", "topic": place.topic, "partition": place.partition})

    def _maybe_freeze(self, partition: int, coverage: tuple[int, int]) -> None:
        offset = self._around.options.get("freeze")
        if partition == 0 and offset is not None and coverage[0] <= offset <= coverage[1]:
            self._around.pause()

    def _inflated(self, outgoing: Sequence[Outgoing]) -> Sequence[Outgoing]:
        if not self._around.options.get("inflate"):
            return outgoing
        return [each._replace(value=b"x" * TOO_LARGE) for each in outgoing]


class Follower(Relay):
    """A relay that counts what lies on models: the count is the `pool` of its outputs."""

    follows = ("models",)


class Pair:
    """scored and outcomes, co-partitioned, → examples: each row once."""

    inputs = ("scored", "outcomes")
    follows: tuple[str, ...] = ()
    leads = False

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._folds: dict[int, Fold] = {}

    def restore(self, place: Place, log: LogReader) -> Iterable[Outgoing]:
        if place.topic == self.inputs[0]:
            self._folds[place.partition], _ = restore(log, Place("examples", place.partition), self.inputs)
        self._around.say({"event": "restored", "topic": place.topic, "partition": place.partition})
        return ()

    def follow(self, log: LogReader) -> Mapping[Place, int]:  # noqa: ARG002 - the port's signature
        return {}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        decoded = [(run, decode(run)) for run in polled]
        for run, messages in decoded:
            fold = self._folds[run.partition]
            for each in messages:
                if not fold.seen(run.topic, each.offset):
                    first = fold.marks[run.topic] + 1
                    rows, _ = fold.take(run.topic, each.offset, each.batch, each.headers)
                    coverage = {topic: (mark + 1, mark) for topic, mark in fold.marks.items()}
                    coverage[run.topic] = (first, each.offset)
                    headers = b.Headers(pipeline=DIGEST, coverage=coverage, through=fold.through())
                    yield [Outgoing("examples", run.partition, b.encode(rows), None, b.encode_headers(headers))]

    def tick(self, now: int) -> Sequence[Outgoing]:  # noqa: ARG002 - the port's signature
        return ()

    def forget(self, place: Place) -> None:
        if place.topic == self.inputs[0]:
            self._folds.pop(place.partition, None)
        self._around.say({"event": "forgotten", "topic": place.topic, "partition": place.partition})


class Checkpoint(msgspec.Struct, frozen=True):
    """What the leader has decided so far."""

    epoch: int = 0
    positions: dict[int, int] = {}


class Leader:
    """The one member that owns operator/0 reads all of examples and decides once about each message."""

    inputs = ("operator",)
    follows = ("examples",)
    leads = True

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._known = Checkpoint()

    def restore(self, place: Place, log: LogReader) -> Iterable[Outgoing]:  # noqa: ARG002 - the port's signature
        state = Place("state", 0)
        known = Checkpoint()
        for message in log.read(state, log.begin(state), log.end(state)):
            known = msgspec.json.decode(message.value or b"", type=Checkpoint)
        self._known = Checkpoint(known.epoch + 1, known.positions)
        self._around.say({"event": "leading", "epoch": self._known.epoch})
        return [self._checkpoint()]

    def follow(self, log: LogReader) -> Mapping[Place, int]:
        partitions = range(log.partitions("examples"))
        return {Place("examples", p): self._known.positions.get(p, 0) for p in partitions}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        for run in polled:
            if run.topic == "operator":
                decided = len(self._known.positions)
                self._around.say({"event": "wished", "partitions": decided})
                continue
            positions = {**self._known.positions, run.partition: run.messages[-1].offset + 1}
            self._known = Checkpoint(self._known.epoch, positions)
            epoch = b"%d" % self._known.epoch
            decisions = [Outgoing("decisions", 0, message.value, epoch) for message in run.messages]
            yield [*decisions, self._checkpoint()]

    def tick(self, now: int) -> Sequence[Outgoing]:  # noqa: ARG002 - the port's signature
        return ()

    def forget(self, place: Place) -> None:  # noqa: ARG002 - the port's signature
        self._around.say({"event": "deposed", "epoch": self._known.epoch})

    def _checkpoint(self) -> Outgoing:
        return Outgoing("state", 0, msgspec.json.encode(self._known), b"leader")


HANDLERS: Mapping[str, Callable[[Surroundings], Handler]] = {
    "relay": Relay,
    "follower": Follower,
    "pair": Pair,
    "leader": Leader,
}
