"""Sends a file's messages to Kafka, at a rate or as fast as they are taken."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

from headrace.rows import Input
from runtime.kafka import KafkaCarrier
from runtime.ports import Clock, Outgoing

TOPICS = ("events", "labels")
BATCH = 500
SLICES_PER_S = 100
"""How finely a rate is kept: in steps of ten milliseconds."""
OnProgress = Callable[[int, int], None]
"""Called with the events and labels sent so far, many times a second."""


class Publisher(Protocol):
    """The part of a carrier that sends."""

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Hand messages over."""

    def confirm(self) -> None:
        """Return when everything is on the log."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What is on the log."""

    events: int
    labels: int
    seconds: float


class Sender:
    """Sends in order; the labels of a partition never overtake the events before them in the file.

    Args:
        publisher: The way out.
        partitions: Number of partitions of `events` and `labels`.
        clock: Time.
        rate: Events per second; None for flat out.
        by_key: Whether the key chooses the partition, which keeps an entity's events in order; else they take turns.
    """

    def __init__(
        self,
        publisher: Publisher,
        partitions: Mapping[str, int],
        clock: Clock,
        *,
        rate: float | None = None,
        by_key: bool = True,
    ) -> None:
        self._publisher, self._partitions, self._clock = publisher, partitions, clock
        self._rate, self._by_key = rate, by_key
        self._slice = max(1, int((rate or 0) / SLICES_PER_S))
        self._counts = dict.fromkeys(TOPICS, 0)
        self._batch: list[Outgoing] = []

    def send(self, inputs: Iterable[Input], on_progress: OnProgress = lambda *_: None) -> Sent:
        """Send all and wait until everything is on the log.

        Raises:
            DeliveryFailed: The broker refused a message.
        """
        start = self._clock.monotonic()
        for each in inputs:
            if each.kind == "events":
                self._pace(start, on_progress)
            self._batch.append(Outgoing(each.kind, self._partition(each), each.value, each.key))
            self._counts[each.kind] += 1
            if len(self._batch) >= BATCH:
                self._flush(on_progress)
        self._flush(on_progress)
        self._publisher.confirm()
        return Sent(self._counts["events"], self._counts["labels"], self._clock.monotonic() - start)

    def _partition(self, each: Input) -> int:
        turn = crc32(each.key) if self._by_key else self._counts[each.kind]
        return turn % self._partitions[each.kind]

    def _pace(self, start: float, on_progress: OnProgress) -> None:
        events = self._counts["events"]
        if self._rate is None or events % self._slice:
            return
        ahead = start + events / self._rate - self._clock.monotonic()
        if ahead > 0:
            self._flush(on_progress)
            self._clock.sleep(ahead)

    def _flush(self, on_progress: OnProgress) -> None:
        if self._batch:
            self._publisher.publish(self._batch)
            self._batch = []
        on_progress(self._counts["events"], self._counts["labels"])


def carrier(brokers: str, pipeline: str) -> KafkaCarrier:
    """The way to a broker, through librdkafka where it is installed: a tenth of the cost per message.

    Raises:
        WrongSetup: No broker answers.
    """
    fast = importlib.util.find_spec("confluent_kafka") is not None
    return KafkaCarrier(brokers, pipeline, "replay", fan_out=frozenset(TOPICS if fast else ()))


def partitions(of: KafkaCarrier) -> dict[str, int]:
    """Number of partitions of the topics that are written; WrongSetup where one is missing."""
    return {topic: of.log.partitions(topic) for topic in TOPICS}
