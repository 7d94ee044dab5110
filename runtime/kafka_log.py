"""The log reader on Kafka: any partition, whole or from its end, whatever group this process is in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from runtime import kafka_clients as clients
from runtime.clock import SystemClock
from runtime.errors import Transient, WrongSetup
from runtime.ports import Clock, Message, Place
from schemas.topics import physical

log = logging.getLogger("headrace.kafka")

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.3
POLL_MS = 200
CALL_MS = 5_000
TOPIC_SECONDS = 3.0
"""How long a topic may be unknown: one that was made a moment ago takes a while to be known to every broker."""

Answer = TypeVar("Answer")


class KafkaLog:
    """The `LogReader` of a pipeline on a broker.

    Each read in progress has a consumer of its own, so reads may be interleaved; idle consumers are kept for the next.

    Args:
        brokers: ``host:port``, several with commas.
        pipeline: Name of the pipeline, the prefix of its topics.
        group: Logical name of the group whose commits `committed` tells.
        clock: Whose time limits the patience.
    """

    def __init__(self, brokers: str, pipeline: str, group: str, *, clock: Clock | None = None) -> None:
        self._brokers, self._pipeline = brokers, pipeline
        self._group = physical(pipeline, group)
        self._clock = clock or SystemClock()
        self._idle: list[KafkaConsumer] = []
        self._counts: dict[str, int] = {}

    def partitions(self, topic: str) -> int:
        """Number of partitions of a topic; fixed while this process lives.

        Raises:
            WrongSetup: There is no such topic.
            Transient: The broker is away.
        """
        if topic not in self._counts:
            self._counts[topic] = self._patiently(lambda consumer: self._count(consumer, topic))
        return self._counts[topic]

    def topic_id(self, topic: str) -> str:
        """The broker's id of the topic."""
        self.partitions(topic)
        name = physical(self._pipeline, topic)

        def ask(_: KafkaConsumer) -> str:
            admin = clients.admin(self._brokers)
            try:
                return str(admin.describe_topics([name])[0]["topic_id"])
            finally:
                admin.close()

        return self._patiently(ask)

    def begin(self, place: Place) -> int:
        """Offset of the first message still kept."""
        partition = self._partition(place)
        return self._patiently(lambda consumer: int(consumer.beginning_offsets([partition], CALL_MS)[partition]))

    def end(self, place: Place) -> int:
        """Offset behind the last message that may be read."""
        partition = self._partition(place)
        return self._patiently(lambda consumer: int(consumer.end_offsets([partition], CALL_MS)[partition]))

    def committed(self, place: Place) -> int | None:
        """Offset that the group would restart at."""
        partition = self._partition(place)

        def ask(consumer: KafkaConsumer) -> int | None:
            offset: int | None = consumer.committed(partition, timeout_ms=CALL_MS)
            return offset

        return self._patiently(ask)

    def read(self, place: Place, start: int, stop: int) -> Iterator[Message]:
        """Messages with start <= offset < stop, until the position reaches `stop`."""
        partition = self._partition(place)
        position, give_up = start, self._clock.monotonic() + PATIENCE_SECONDS
        while position < stop:
            try:
                with self._client() as consumer:
                    consumer.assign([partition])
                    consumer.seek(partition, position)
                    while position < stop:
                        for record in consumer.poll(POLL_MS).get(partition, ()):
                            if start <= record.offset < stop:
                                yield record
                        reached = consumer.position(partition, timeout_ms=CALL_MS)
                        if reached is not None and reached > position:
                            position, give_up = reached, self._clock.monotonic() + PATIENCE_SECONDS
                        self._still_patient(give_up, f"{place.topic}/{place.partition} at {position} of {stop}")
            except (KafkaError, Transient) as error:
                self._wait(give_up, error)

    def close(self) -> None:
        """Let go of the connections. A later call makes new ones."""
        while self._idle:
            _close(self._idle.pop())

    def _partition(self, place: Place) -> TopicPartition:
        if place.partition >= self.partitions(place.topic):
            raise WrongSetup(
                f"topic {physical(self._pipeline, place.topic)} has {self.partitions(place.topic)} partitions, no "
                f"partition {place.partition}: partition counts are fixed for the life of a log, see `headrace up`."
            )
        return TopicPartition(physical(self._pipeline, place.topic), place.partition)

    def _count(self, consumer: KafkaConsumer, topic: str) -> int:
        name = physical(self._pipeline, topic)
        deadline = self._clock.monotonic() + TOPIC_SECONDS
        while not (found := consumer.partitions_for_topic(name)):
            if self._clock.monotonic() > deadline:
                raise WrongSetup(
                    f"there is no topic {name} at {self._brokers}: "
                    "run `headrace up` or `python -m runtime.bootstrap`, which make the topics of a pipeline."
                )
            self._clock.sleep(PAUSE_SECONDS)
        return len(found)

    @contextmanager
    def _client(self) -> Iterator[KafkaConsumer]:
        consumer = self._idle.pop() if self._idle else clients.consumer(self._brokers, self._group, max_messages=2_000)
        try:
            yield consumer
        except KafkaError:  # a client that failed is not used again
            _close(consumer)
            raise
        except BaseException:
            self._idle.append(consumer)
            raise
        self._idle.append(consumer)

    def _patiently(self, call: Callable[[KafkaConsumer], Answer]) -> Answer:
        give_up = self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with self._client() as consumer:
                    return call(consumer)
            except (KafkaError, Transient) as error:
                self._wait(give_up, error)

    def _wait(self, give_up: float, error: Exception) -> None:
        log.warning("log_unreadable", extra={"error": repr(error)})
        self._still_patient(give_up, repr(error))
        self._clock.sleep(PAUSE_SECONDS)

    def _still_patient(self, give_up: float, what: str) -> None:
        if self._clock.monotonic() > give_up:
            raise Transient(f"Kafka at {self._brokers} has been away for {PATIENCE_SECONDS:.0f} s: {what}")


def _close(consumer: KafkaConsumer) -> None:
    try:
        consumer.close(autocommit=False, timeout_ms=1_000)
    except KafkaError as error:
        log.info("close_failed", extra={"error": repr(error)})
