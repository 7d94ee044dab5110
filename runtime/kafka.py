"""The carrier on kafka-python: one consumer in the group, one by assignment for what is followed, one producer."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, RetriableError
from kafka.structs import OffsetAndMetadata

from runtime import kafka_clients as clients
from runtime.errors import DeliveryFailed, Fatal, Transient
from runtime.kafka_log import KafkaLog
from runtime.kafka_moves import Ends, Moves, Names
from runtime.ports import Outgoing, Place, Poll, Polled
from schemas.topics import physical

if TYPE_CHECKING:
    from runtime.fanout import Fanout

__all__ = ["KafkaCarrier", "KafkaLog"]

log = logging.getLogger("headrace.kafka")

Records = Mapping[TopicPartition, Sequence[Any]]

TURN_SECONDS = 0.05
"""With two consumers, how long one is waited for before the other is asked."""
LARGE_BYTES = 64 << 10
"""With messages of this size the next fetch runs while a poll is handled; with small ones it would gather less."""
CLOSE_SECONDS = 3.0
COMMIT_MS = 5_000


class KafkaCarrier:
    """A member of a group on a broker. Connects at once.

    Args:
        brokers: ``host:port``, several with commas.
        pipeline: Name of the pipeline, the prefix of topics and groups.
        group: Logical name of the consumer group.
        max_messages: Most messages that a poll returns, of all partitions together.
        fan_out: Topics that are published through librdkafka.
        gather: Let the broker wait up to 20 ms for 64 KiB, so that small messages come in batches.

    Raises:
        WrongSetup: No broker answers.
    """

    def __init__(
        self,
        brokers: str,
        pipeline: str,
        group: str,
        *,
        max_messages: int = 64,
        fan_out: frozenset[str] = frozenset(),
        gather: bool = False,
    ) -> None:
        self._brokers, self._pipeline, self._group = brokers, pipeline, group
        self._max, self._gather, self._fan_topics = max_messages, gather, fan_out
        self._names = Names(pipeline)
        self.log = KafkaLog(brokers, pipeline, group)
        self._producer = clients.producer(brokers)
        self._fan_out = _fan_out(brokers, pipeline) if fan_out else None
        self._moves, self._ends = Moves(self._names), Ends(self._names, COMMIT_MS)
        self._member: KafkaConsumer | None = None
        self._follower: KafkaConsumer | None = None
        self._follows = False
        self._ask = 0.0
        self._pending: list[Any] = []
        self._known: set[str] = set()
        self._refusal: DeliveryFailed | None = None
        self._closed = False

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group at the next poll.

        Raises:
            WrongSetup: A topic is missing.
        """
        for topic in topics:
            self.log.partitions(topic)
        group = physical(self._pipeline, self._group)
        member = self._member = clients.consumer(self._brokers, group, self._max, gather=self._gather)
        names = [physical(self._pipeline, topic) for topic in topics]
        member.subscribe(names, listener=self._moves)
        for name in names:  # with the metadata there first, the first assignment is not an empty one
            member.partitions_for_topic(name)

    def follow(self, positions: Mapping[Place, int]) -> None:
        """Replace what is followed.

        Raises:
            Transient: The broker is away; nothing is followed meanwhile.
        """
        if self._follower is not None:
            _close(self._follower)
            self._follower = None
        if positions:
            self._follower = clients.consumer(self._brokers, None, self._max)
            self._follower.assign([self._names.physical(place) for place in positions])
            for place, offset in positions.items():
                self._follower.seek(self._names.physical(place), offset)

    def following(self) -> Mapping[Place, int]:
        """Positions of what is followed.

        Raises:
            Transient: The broker is away.
        """
        if (follower := self._follower) is None:
            return {}
        try:
            positions = {each: follower.position(each, timeout_ms=COMMIT_MS) for each in follower.assignment()}
        except RetriableError as error:
            raise Transient(f"the positions of what is followed are unknown: {error!r}") from error
        return {self._names.logical(each): offset or 0 for each, offset in positions.items()}

    def poll(self, timeout: float) -> Poll:
        """What happened; followed messages come before those of the group."""
        records = self._records(timeout)
        if self._gather and self._member and any(map(_large, records)):
            self._member._fetcher.send_fetches()  # noqa: SLF001 - a poll that had to wait leaves that to the next one
        lost, gained = self._moves.take()
        polled = [each for found in records for each in self._polled(found)]
        return Poll(lost, gained, polled, self._moves.joined)

    def _records(self, timeout: float) -> Sequence[Records]:
        """What the follower has, then what the member has. The one that had something last is waited for.

        The other is asked every 50 ms at most: a poll that finds nothing passes through two threads and an exception.
        """
        if self._follower is None or self._member is None:
            return [_poll(self._follower or self._member, timeout)]
        end = time.monotonic() + timeout
        while True:
            found = self._turn(min(TURN_SECONDS, end - time.monotonic()))
            if any(found) or self._moves.any() or time.monotonic() >= end:
                return found

    def _turn(self, seconds: float) -> Sequence[Records]:
        waited, other = (self._follower, self._member) if self._follows else (self._member, self._follower)
        quiet: Records = {}
        if time.monotonic() >= self._ask:
            quiet = _poll(other, 0)
            self._ask = 0.0 if quiet else time.monotonic() + TURN_SECONDS
        busy = _poll(waited, 0 if quiet else max(0.0, seconds))
        found = [busy, quiet] if self._follows else [quiet, busy]
        self._follows = bool(found[0]) and not found[1]  # a member that is joining must be waited for
        return found

    def _polled(self, records: Records) -> Iterable[Polled]:
        for partition, messages in records.items():
            place = self._names.logical(partition)
            yield Polled(place.topic, place.partition, messages)

    def positions(self) -> Mapping[Place, int]:
        """How far each partition of the group's share has been read."""
        if (member := self._member) is None:
            return {}
        states = member._subscription.assignment  # noqa: SLF001 - the client's own call may ask the broker
        found = {each: states.get(each) for each in member.assignment()}
        return {
            self._names.logical(each): state.position.offset if state.position else -1
            for each, state in found.items()
            if state is not None
        }

    def ends(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Where partitions end, as the broker last said."""
        return self._ends.ask(self._member, places) if self._member is not None else {}

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Hand messages over.

        Raises:
            DeliveryFailed: The carrier is closed, or a message was refused.
            WrongSetup: A topic is missing.
        """
        if self._closed:
            raise DeliveryFailed("the carrier is closed: nothing can be published")
        if self._refusal is not None:
            raise self._refusal
        for topic in {each.topic for each in outgoing} - self._known:
            self.log.partitions(topic)  # the client would look for a missing topic for a minute
            self._known.add(topic)
        if self._fan_out is not None:
            self._fan_out.publish([each for each in outgoing if each.topic in self._fan_topics])
        for each in outgoing:
            if each.topic not in self._fan_topics:
                self._send(each)

    def _send(self, each: Outgoing) -> None:
        name = physical(self._pipeline, each.topic)
        headers, key = list(each.headers), each.key
        if each.value is None and key is None:  # kafka-python refuses it, and a dead letter may well be one
            key = b""
        try:
            future = self._producer.send(name, each.value, key, headers, partition=each.partition)
        except (KafkaError, ValueError, TypeError, AssertionError) as error:
            raise _refused(each, error) from error
        future.add_errback(partial(self._abandon, each))
        self._pending.append(future)

    def _abandon(self, each: Outgoing, error: Exception) -> None:
        """Let nothing land that came behind a refused message: it would be a hole. Called in the client's thread."""
        self._refusal = self._refusal or _refused(each, error)
        self._producer._sender.force_close()  # noqa: SLF001 - closing the producer would deliver the rest first

    def confirm(self) -> None:
        """Wait for every message that is under way, as long as it takes.

        Raises:
            DeliveryFailed: One was refused.
        """
        pending, self._pending = self._pending, []
        for future in pending:
            try:
                future.get()
            except KafkaError as error:
                raise self._refusal or DeliveryFailed(f"a message is not on the log: {error!r}") from error
        if self._fan_out is not None:
            self._fan_out.confirm()

    def commit(self, positions: Mapping[Place, int], *, wait: bool = False) -> None:
        """Move the group's positions of what is still owned."""
        if self._member is None:
            return
        owned = self._member.assignment()
        wanted = {self._names.physical(place): offset for place, offset in positions.items()}
        offsets = {each: OffsetAndMetadata(offset, "", -1) for each, offset in wanted.items() if each in owned}
        if not offsets:
            return
        try:
            if wait:
                self._member.commit(offsets, timeout_ms=COMMIT_MS)
            else:
                self._member.commit_async(offsets, callback=_committed)
        except KafkaError as error:
            _committed(offsets, error)

    def close(self) -> None:
        """Leave the group at once and let go of every connection; what came behind a refused message is dropped."""
        self._closed = True
        for each in (self._member, self._follower):
            if each is not None:
                _close(each)
        self._member = self._follower = None
        if self._fan_out is not None:
            self._fan_out.close()
        if self._refusal is not None:
            self._producer._sender.join(CLOSE_SECONDS)  # noqa: SLF001
        try:
            self._producer.close(CLOSE_SECONDS)
        except KafkaError as error:
            log.info("close_failed", extra={"error": repr(error)})
        self.log.close()


def _large(records: Records) -> bool:
    return any(len(messages[0].value or b"") > LARGE_BYTES for messages in records.values())


def _poll(consumer: KafkaConsumer | None, timeout: float) -> Records:
    if consumer is None:
        time.sleep(timeout)
        return {}
    try:
        return consumer.poll(int(timeout * 1000))  # type: ignore[no-any-return]
    except RetriableError as error:  # the broker is away for a while; the next poll tries again
        log.warning("poll_failed", extra={"error": repr(error)})
        return {}
    except KafkaError as error:
        raise Fatal(f"the Kafka client gave up: {error!r}") from error


def _committed(offsets: Mapping[TopicPartition, OffsetAndMetadata], answer: object) -> None:
    if isinstance(answer, BaseException):
        log.warning("commit_failed", extra={"error": repr(answer), "partitions": len(offsets)})


def _refused(each: Outgoing, error: Exception) -> DeliveryFailed:
    size = len(each.value or b"")
    return DeliveryFailed(f"{each.topic}/{each.partition} did not take a message of {size} bytes: {error!r}")


def _close(consumer: KafkaConsumer) -> None:
    try:
        consumer.close(autocommit=False, timeout_ms=int(CLOSE_SECONDS * 1000))
    except KafkaError as error:
        log.info("close_failed", extra={"error": repr(error)})


def _fan_out(brokers: str, pipeline: str) -> Fanout:
    from runtime.fanout import Fanout  # noqa: PLC0415 - only serving has librdkafka installed

    return Fanout(brokers, pipeline)
