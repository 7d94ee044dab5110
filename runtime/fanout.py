"""The way out for one message per event: librdkafka, whose send costs a tenth of kafka-python's.

Only topics with very many small messages go through here (predictions); everything else through the carrier's producer.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from runtime.errors import DeliveryFailed
from runtime.ports import Outgoing
from schemas.topics import MAX_MESSAGE_BYTES, physical

log = logging.getLogger("headrace.fanout")

LINGER_MS = 2
QUEUE_MESSAGES = 500_000
QUEUE_KIB = 256 << 10
CLOSE_SECONDS = 3.0
_SLICE_SECONDS = 0.1


class Fanout:
    """Publishes messages of one pipeline, each to its partition, in order per partition.

    Args:
        brokers: ``host:port``, several with commas.
        pipeline: Name of the pipeline, the prefix of its topics.
        queue_messages: Most messages under way; `publish` waits when there are more.
    """

    def __init__(self, brokers: str, pipeline: str, *, queue_messages: int = QUEUE_MESSAGES) -> None:
        self._pipeline = pipeline
        self._failed: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": brokers,
                "enable.idempotence": True,
                "enable.gapless.guarantee": True,  # what comes behind a refused message would be a hole
                "linger.ms": LINGER_MS,
                "message.timeout.ms": 0,  # never expire: an expired message before a delivered one would be a hole
                "message.max.bytes": MAX_MESSAGE_BYTES + (2 << 20),
                "queue.buffering.max.messages": queue_messages,
                "queue.buffering.max.kbytes": QUEUE_KIB,
                "reconnect.backoff.max.ms": 1_000,
                "allow.auto.create.topics": False,
                "delivery.report.only.error": True,  # a call back per delivered message costs as much as sending it
            },
            logger=log,
        )

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Hand messages over; waits while the queue is full.

        Raises:
            DeliveryFailed: An earlier message was refused, or the client refuses this one.
        """
        produce, refused = self._producer.produce, self._refused
        names = {topic: physical(self._pipeline, topic) for topic in {each.topic for each in outgoing}}
        for topic, partition, value, key, headers in outgoing:
            while True:
                try:
                    produce(names[topic], value, key, partition, refused, headers=list(headers))
                except BufferError:
                    self._ask(self._producer.poll, _SLICE_SECONDS)
                except (KafkaException, ValueError, TypeError) as error:
                    raise DeliveryFailed(f"{topic}/{partition} did not take a message: {error}") from error
                else:
                    break
        self._ask(self._producer.poll, 0)

    def confirm(self) -> None:
        """Return when everything is on the log, as long as it takes.

        Raises:
            DeliveryFailed: A message was refused.
        """
        while self._ask(self._producer.flush, _SLICE_SECONDS):
            pass

    def close(self) -> None:
        """Give what is under way a moment, then drop it; at once after a refusal."""
        with contextlib.suppress(DeliveryFailed):
            if not self._failed:
                self._ask(self._producer.flush, CLOSE_SECONDS)
        self._producer.purge()
        with contextlib.suppress(DeliveryFailed):
            self._ask(self._producer.poll, 0)

    def _ask(self, call: Callable[[float], int], seconds: float) -> int:
        answer = 0
        try:
            answer = call(seconds)
        except KafkaException as error:  # the client gave up: it says which batch was refused
            self._failed.append(str(error.args[0]))
        if self._failed:
            raise DeliveryFailed(f"the log did not take a message: {self._failed[0]}")
        return answer

    def _refused(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(f"{message.topic()}/{message.partition()}: {error.str()}")
