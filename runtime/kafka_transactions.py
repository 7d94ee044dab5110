"""Messages that land together or not at all, on kafka-python, written by one process of a name at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from kafka.errors import InvalidProducerEpochError, KafkaError, ProducerFencedError

from runtime import kafka_clients as clients
from runtime.errors import DeliveryFailed, Fenced
from runtime.ports import Outgoing
from schemas.topics import physical

log = logging.getLogger("headrace.kafka")

SHUT_OUT = (ProducerFencedError, InvalidProducerEpochError)
ABORT_MS = 3_000
CLOSE_SECONDS = 3.0


class KafkaTransactions:
    """The only writer of a name: who opens it shuts out the one before.

    When the constructor returns, everything that an earlier writer of the name had committed can be read, and nothing
    else of it will ever land. What is read from then on stays true until `publish` returns or raises.

    Args:
        brokers: ``host:port``, several with commas.
        pipeline: Name of the pipeline, the prefix of its topics.
        name: Logical name of the writer.

    Raises:
        WrongSetup: No broker answers.
        DeliveryFailed: The broker gives no transactions.
    """

    def __init__(self, brokers: str, pipeline: str, name: str) -> None:
        self._pipeline = pipeline
        self._producer = clients.transactional_producer(brokers, physical(pipeline, name))
        try:
            self._producer.init_transactions()
        except KafkaError as error:
            self.close()
            raise DeliveryFailed(f"Kafka at {brokers} gives no transactions: {error!r}") from error

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Write all messages or none; return when it is certain that readers of committed data will see them.

        Raises:
            Fenced: Another writer of the name has begun, or the broker gave the transaction up.
            DeliveryFailed: A message was refused, or the broker went away.

        After either nothing of the transaction lands any more. Whether it had landed already (its confirmation may be
        what was lost) can be read by the next writer of the name.
        """
        if not outgoing:
            return
        try:
            self._producer.begin_transaction()
            for future in [self._send(each) for each in outgoing]:
                future.get()
            self._producer.commit_transaction()
        except (KafkaError, ValueError, TypeError) as error:
            told = self._told(error, outgoing)
            self._abort()
            raise told from error
        except BaseException:  # a signal: nobody has to wait for the transaction that it cut off
            self._abort()
            raise

    def close(self) -> None:
        """Let go of the connections."""
        try:
            self._producer.close(CLOSE_SECONDS)
        except KafkaError as error:
            log.info("close_failed", extra={"error": repr(error)})

    def _send(self, each: Outgoing) -> Any:
        key = b"" if each.value is None and each.key is None else each.key  # kafka-python refuses to send neither
        name = physical(self._pipeline, each.topic)
        return self._producer.send(name, each.value, key, list(each.headers), partition=each.partition)

    def _abort(self) -> None:
        """Let waiting readers go on; where that fails the broker does it after TRANSACTION_MS."""
        try:
            # The public call would wait for as long as the broker is away.
            ended = self._producer._transaction_manager.begin_abort()  # noqa: SLF001
            self._producer._sender.wakeup()  # noqa: SLF001
            ended.wait(timeout_ms=ABORT_MS)
        except KafkaError as error:
            log.info("close_failed", extra={"error": repr(error)})

    def _told(self, error: Exception, outgoing: Sequence[Outgoing]) -> Exception:
        last = self._producer._transaction_manager.last_error  # noqa: SLF001 - the client wraps it in a plain error
        if isinstance(error, SHUT_OUT) or isinstance(last, SHUT_OUT):
            return Fenced(f"another writer has taken over, or a transaction took too long: {last or error!r}")
        largest = max(outgoing, key=lambda each: len(each.value or b""))
        return DeliveryFailed(
            f"a transaction of {len(outgoing)} messages did not land, the largest one of {len(largest.value or b'')} "
            f"bytes for {physical(self._pipeline, largest.topic)}/{largest.partition}: {error!r}"
        )
