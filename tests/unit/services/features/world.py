"""The way from events and labels to examples, in memory: real ingestion and features, and a serving that scores 0.5."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from runtime.errors import DeliveryFailed
from runtime.memory import MemoryBroker, MemoryCarrier, VirtualClock
from runtime.metrics import Metrics
from runtime.ports import Handler, LogReader, Message, Outgoing, Place, Polled
from runtime.stage import Stage, decode
from runtime.worker import COMMIT_SECONDS, Worker
from schemas import batch as b
from schemas.pipeline import Pipeline, parse
from services.features.domain.waiting import Spill
from services.features.handler import Features
from services.ingestion.handler import Ingestion

P, SOURCES = 2, 2
HORIZON, LATENESS = 60_000, 5_000

TEXT = """
pipeline: shop
task: binary
events:
  id: order
  time: at
  fields:
    at: {type: timestamp}
    amount: {type: number}
    country: {type: category, nullable: true}
labels: {id: order, time: known, field: back, type: boolean, horizon: 60s}
features:
  double: amount * 2
  land: lower(country)
drift: {pane: 10s, lateness: 5s}
"""
SPEC = parse(TEXT)
ABSENT = parse(TEXT.replace("horizon: 60s", "horizon: 60s, absent: false"))
"""No label by the horizon means false."""

REVISED = parse(TEXT.replace("horizon: 60s", "horizon: 60s, revision: revision"))
"""Labels may be corrected."""


class Scoring:
    """Serving without a model: the columns are there, the outputs are not."""

    inputs = ("features",)
    follows: tuple[str, ...] = ()
    leads = False

    def __init__(self) -> None:
        self._stage = Stage("features", "scored", SPEC.digest)

    def restore(self, place: Place, log: LogReader) -> Sequence[Outgoing]:
        self._stage.restore(place.partition, log)
        return ()

    def follow(self, log: LogReader) -> dict[Place, int]:  # noqa: ARG002
        return {}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        for each in polled:
            for taken in self._stage.take(each.partition, decode(each)):
                yield self._stage.emit(each.partition, taken, _scored(taken.batch))

    def tick(self, now: int) -> Sequence[Outgoing]:  # noqa: ARG002
        return ()

    def forget(self, place: Place) -> None:
        self._stage.forget(place.partition)


def _scored(batch: pa.RecordBatch) -> pa.RecordBatch:
    rows = batch.num_rows
    return pa.RecordBatch.from_arrays(
        [
            *batch.columns,
            pa.array([0.5] * rows, pa.float64()),
            pa.nulls(rows, pa.int64()),
            pa.array([[]] * rows, pa.list_(pa.int32())),
            pa.array([[]] * rows, pa.list_(pa.float64())),
        ],
        names=[*batch.schema.names, "_prediction", "_pool", "_members", "_outputs"],
    )


def broker() -> MemoryBroker:
    counts = dict.fromkeys(("records", "outcomes", "features", "scored", "examples", "dead-letters"), P)
    return MemoryBroker({"events": SOURCES, "labels": 1, **counts}, VirtualClock())


@dataclass
class Process:
    """A worker that can be killed at any message that it publishes."""

    on: MemoryBroker
    group: str
    max_messages: int = 50
    fuse: int | None = None
    spec: Pipeline = SPEC
    spill: Spill | None = None
    metrics: Metrics = field(default_factory=Metrics)
    carry: type[MemoryCarrier] = MemoryCarrier

    def __post_init__(self) -> None:
        self.alive = True
        self.carrier = self.carry(self.on, self.group, max_messages=self.max_messages, on_publish=self._burn)
        self.handler = self._handler()
        self.worker = Worker(
            self.handler, self.carrier, pipeline=self.spec.digest, metrics=self.metrics, clock=self.on.clock
        )
        self.worker.start()

    def _handler(self) -> Handler:
        if self.group == "ingestion":
            return Ingestion(self.spec, P, self.metrics)
        return Features(self.spec, P, self.metrics, self.spill) if self.group == "features" else Scoring()

    def _burn(self, outgoing: Outgoing) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise DeliveryFailed(f"killed before a message to {outgoing.topic}")

    def step(self) -> bool:
        """False when there was nothing to do or the process is dead; it is dead for good then."""
        try:
            return self.alive and self.worker.step()
        except DeliveryFailed:
            self.kill()
            return False

    def kill(self) -> None:
        self.alive = False
        self.carrier.close()


def event(number: int | str, at: int, amount: float = 1.0) -> bytes:
    return json.dumps({"order": f"o{number}", "at": at, "amount": amount, "country": "DE"}).encode()


def label(number: int | str, known: int, back: bool = True, revision: int | None = None) -> bytes:
    revised = {} if revision is None else {"revision": revision}
    return json.dumps({"order": f"o{number}", "known": known, **revised, "back": back}).encode()


def drain(*processes: Process) -> bool:
    """Whether anybody had anything to do."""
    moved = False
    while sum(process.step() for process in processes):
        moved = True
    return moved


def rest(*processes: Process) -> None:
    """Drain, and let the second pass in which everybody says what is left."""
    drain(*processes)
    processes[0].on.clock.advance(COMMIT_SECONDS)
    drain(*processes)


def everybody(on: MemoryBroker, max_messages: int = 50, spec: Pipeline = SPEC) -> list[Process]:
    return [Process(on, group, max_messages, spec=spec) for group in ("ingestion", "features", "serving")]


def messages(on: MemoryBroker, topic: str) -> Iterator[tuple[int, Message, b.Headers]]:
    for partition in range(on.partitions(topic)):
        for message in on.log(Place(topic, partition)):
            assert message is not None
            yield partition, message, b.decode_headers(message.headers)


def rows(on: MemoryBroker, topic: str) -> list[dict[str, object]]:
    return [row for _, m, _ in messages(on, topic) for row in b.decode(m.value).to_pylist()]


def letters(on: MemoryBroker) -> list[dict[str, str]]:
    return [
        {name.removeprefix("headrace-"): value.decode() for name, value in message.headers}
        | {"value": (message.value or b"").decode(), "key": (message.key or b"").decode()}
        for partition in range(P)
        for message in on.log(Place("dead-letters", partition))
        if message is not None
    ]
