"""Ingestion as it runs, on a real Kafka, fed by a foreign client; and what it wrote."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from threading import Thread
from typing import Any, NamedTuple

from confluent_kafka import Producer

from runtime.bootstrap import bootstrap
from runtime.kafka import KafkaCarrier, KafkaLog
from runtime.metrics import Metrics
from runtime.ports import Message, Place
from runtime.worker import Worker
from schemas import batch as b
from schemas.messages import DeadLetter
from schemas.pipeline import parse
from schemas.topics import physical
from services.ingestion.handler import Ingestion

PARTITIONS, SOURCES, SECONDS = 2, 2, 90
POLLED = 4_000 * PARTITIONS

PIPELINE = """
pipeline: {name}
task: binary
events:
  id: order
  time: at
  entity: who
  fields:
    order: {{type: text}}
    at: {{type: timestamp}}
    who: {{type: text}}
    amount: {{type: number, min: 0}}
    note: {{type: text, nullable: true, max_length: 100}}{more}
labels: {{id: order, time: known, field: back, type: boolean, horizon: 1h}}
features: {{amount: amount}}
"""

Headers = Sequence[tuple[str, bytes | None]]


class Sent(NamedTuple):
    """A message as a producer gives it; the key finds it again among the dead letters."""

    key: bytes
    value: bytes | None
    headers: Headers = ()


class Letter(NamedTuple):
    """A dead letter: what was sent, and what was said of it."""

    sent: Sent
    story: DeadLetter


class Bench:
    """A pipeline of its own on the broker.

    Args:
        brokers: The broker.
        name: Name of the pipeline.
        numbers: Names of further fields of an event, all numbers.
    """

    def __init__(self, brokers: str, name: str, numbers: Sequence[str] = ()) -> None:
        self.brokers, self.name = brokers, name
        more = "".join(f"\n    {each}: {{type: number}}" for each in numbers)
        self.spec = parse(PIPELINE.format(name=name, more=more))
        bootstrap(brokers, self.spec, partitions=PARTITIONS, event_partitions=SOURCES)
        self.log = KafkaLog(brokers, name, "ingestion")

    def send(self, messages: Iterable[Sent], topic: str = "events", **options: object) -> None:
        """All of them, in turn to the partitions; when it returns the broker has them."""
        settings = {"bootstrap.servers": self.brokers, "message.max.bytes": 9 << 20, "linger.ms": 50, **options}
        failed: list[object] = []
        producer = Producer(settings)
        for number, (key, value, headers) in enumerate(messages):
            producer.produce(
                physical(self.name, topic),
                value,
                key,
                partition=number % SOURCES,
                headers=list(headers),
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            if number % 16 == 0:
                producer.poll(0)
        assert producer.flush(SECONDS) == 0
        assert failed == []

    def work(self) -> float:
        """Run the worker until it has committed all that was sent; the CPU seconds of this process meanwhile."""
        began = time.process_time()
        with self._worker() as thread:
            places = [Place(topic, partition) for topic in ("events", "labels") for partition in range(SOURCES)]
            wanted = {place: self.log.end(place) for place in places}
            deadline = time.monotonic() + SECONDS
            while any(wanted[each] and self.log.committed(each) != wanted[each] for each in places):
                assert thread.is_alive(), "the worker died"
                assert time.monotonic() < deadline, "the worker does not get to the end"
                time.sleep(0.5)  # asking costs CPU, which is measured here
        return time.process_time() - began

    @contextmanager
    def _worker(self) -> Iterator[Thread]:
        carrier = KafkaCarrier(self.brokers, self.name, "ingestion", max_messages=POLLED, gather=True)
        worker = Worker(Ingestion(self.spec, PARTITIONS, Metrics()), carrier, pipeline=self.spec.digest)
        thread = Thread(target=worker.run, daemon=True)
        thread.start()
        try:
            yield thread
        finally:
            worker.stop()
            thread.join(SECONDS)

    def rows(self, topic: str = "records") -> list[dict[str, Any]]:
        return [row for message in self._messages(topic) for row in b.decode(message.value).to_pylist()]

    def ids(self) -> list[str]:
        """Of the events among the records, which is quicker than all of their rows."""
        batches = (b.decode(message.value) for message in self._messages("records"))
        return [name for each in batches for name in each.column(b.EVENT_ID).to_pylist()]

    def letters(self) -> list[Letter]:
        return [_letter(message) for message in self._messages("dead-letters")]

    def _messages(self, topic: str) -> Iterator[Message]:
        for partition in range(self.log.partitions(topic)):
            place = Place(topic, partition)
            yield from self.log.read(place, self.log.begin(place), self.log.end(place))


@contextmanager
def benched(brokers: str, name: str, numbers: Sequence[str] = ()) -> Iterator[Bench]:
    bench = Bench(brokers, name, numbers)
    with closing(bench.log):
        yield bench


def _letter(message: Message) -> Letter:
    own = [(name, value) for name, value in message.headers if not name.startswith(DeadLetter.prefix)]
    return Letter(Sent(message.key or b"", message.value, own), DeadLetter.from_headers(message.headers))


def fields(number: int, **changes: object) -> Mapping[str, object]:
    return {"order": f"o{number}", "at": 1000 * number, "who": f"w{number % 7}", "amount": 1.5} | changes
