"""How kafka-python's clients are made here: every setting in one place, and the mend of two of its weaknesses."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaConnectionError, KafkaTimeoutError
from kafka.net.transport import KafkaTCPTransport
from kafka.protocol.frame import KafkaBytes
from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch

from runtime.errors import Transient, WrongSetup
from schemas.topics import MAX_MESSAGE_BYTES

log = logging.getLogger("headrace.kafka")

SESSION_MS = 6_000
HEARTBEAT_MS = 1_000
MAX_POLL_INTERVAL_MS = 600_000
"""A fit may take minutes; a process that is alive keeps its partitions meanwhile."""
BOOTSTRAP_MS = 15_000
FETCH_WAIT_MS = 100
LINGER_MS = 1
"""What a handler publishes at once goes out in one request, and its readers find it in one fetch."""
TRANSACTION_MS = 20_000
"""How long a transaction may take before the broker gives it up."""
READ_BYTES = 64 << 10
LARGEST = MAX_MESSAGE_BYTES + (2 << 20)
"""Above the largest message that any topic takes (dead-letters: one MiB more), with room for its headers."""
GATHER = {"fetch_min_bytes": 64 << 10, "fetch_max_wait_ms": 20, "fetch_max_bytes": 8 << 20}
"""Let the broker gather small messages for up to 20 ms: our code has no timer, and batches must not be of one row.
Of large ones no more than fit the processor's cache."""

_COMMON = {"reconnect_backoff_max_ms": 1_000, "bootstrap_timeout_ms": BOOTSTRAP_MS}

_reached: set[str] = set()
"""Addresses where a broker has answered this process: if none does later, it is away, and the address is right."""

Client = TypeVar("Client")


def consumer(brokers: str, group: str | None, max_messages: int, *, gather: bool = False) -> KafkaConsumer:
    """A consumer that commits only when told, sees only committed data and starts at the beginning.

    Raises:
        WrongSetup: No broker answers.
    """
    settings: dict[str, Any] = {
        "group_id": group,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        # Range gives the owner of partition p of one topic partition p of all: the join needs that.
        "partition_assignment_strategy": (RangePartitionAssignor,),
        "session_timeout_ms": SESSION_MS,
        "heartbeat_interval_ms": HEARTBEAT_MS,
        "max_poll_interval_ms": MAX_POLL_INTERVAL_MS,
        "max_poll_records": max_messages,
        "max_partition_fetch_bytes": LARGEST,
        "metrics_enabled": False,
        **(GATHER if gather else {"fetch_max_wait_ms": FETCH_WAIT_MS}),
    }
    made = connect(brokers, lambda: KafkaConsumer(bootstrap_servers=brokers, **settings, **_COMMON))
    return _cured(made)


def producer(brokers: str) -> KafkaProducer:
    """An idempotent producer whose batches never expire: an expired batch before a delivered one would be a hole.

    Raises:
        WrongSetup: No broker answers.
    """
    return _producer(brokers, delivery_timeout_ms=2**31 - 1)


def transactional_producer(brokers: str, name: str) -> KafkaProducer:
    """A producer of transactions; the newest one of a name shuts the others out.

    A transaction that its writer abandons holds back the readers of its partitions until the broker gives it up.

    Raises:
        WrongSetup: No broker answers.
    """
    return _producer(brokers, transactional_id=name, transaction_timeout_ms=TRANSACTION_MS)


def _producer(brokers: str, **more: Any) -> KafkaProducer:
    settings: dict[str, Any] = {
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": LINGER_MS,
        "batch_size": 1 << 20,  # far below the topics' limits: a batch that the client has to split confuses its flush
        "max_request_size": LARGEST,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
        **more,
    }
    return connect(brokers, lambda: KafkaProducer(bootstrap_servers=brokers, **settings, **_COMMON))


def admin(brokers: str) -> KafkaAdminClient:
    """A client that makes and describes topics.

    Raises:
        WrongSetup: No broker answers.
    """
    return connect(brokers, lambda: KafkaAdminClient(bootstrap_servers=brokers, **_COMMON))


def connect(brokers: str, make: Callable[[], Client]) -> Client:
    """What `make` returns, once a broker answers.

    Raises:
        WrongSetup: None answers within 15 seconds, or kafka-python lacks its checksum in C.
        Transient: None answers any more.
    """
    if importlib.util.find_spec("crc32c") is None:
        raise WrongSetup("kafka-python runs without crc32c, 50 times slower: pip install 'kafka-python[crc32c]'")
    _copy_less()
    try:
        made = make()
    except (KafkaTimeoutError, KafkaConnectionError, OSError) as error:
        if brokers in _reached:
            raise Transient(f"Kafka at {brokers} does not answer any more: {error}") from error
        raise WrongSetup(
            f"no Kafka answers at {brokers} within {BOOTSTRAP_MS // 1000} s ({error}). Start one (`headrace kafka "
            "start` or `docker compose up kafka`), or say where it is with HEADRACE_BROKERS=host:port."
        ) from error
    _reached.add(brokers)
    return made


def _cured(made: KafkaConsumer) -> KafkaConsumer:
    """Mend two weaknesses of kafka-python 3.0.12.

    A join that outlives one poll: when changed metadata caused the join, `need_rejoin` turns False as soon as the
    leader has shared the partitions out. If a poll times out at that moment, nobody ever collects the finished join:
    the consumer has no partitions and no heartbeat, and no error says so. A join under way therefore counts as needed.

    A poll that times out: its exception and the frame that raises it hold each other, and by way of its callers what
    was polled last, tens of megabytes, until the garbage is collected. Without its frames it goes at once.
    """
    coordinator, net = made._coordinator, made._fetcher._net  # noqa: SLF001
    need_rejoin, run = coordinator.need_rejoin, net.run

    def run_without_frames(*args: Any) -> Any:
        try:
            return run(*args)
        except KafkaTimeoutError as error:
            raise error.with_traceback(None) from None

    coordinator.need_rejoin = lambda: coordinator._join_task is not None or need_rejoin()  # noqa: SLF001
    net.run = run_without_frames
    return made


class _Batch(DefaultRecordBatch):  # type: ignore[misc]  # kafka-python is not typed
    """A batch that was fetched, as bytes: of kafka-python's own bytearray each value is a copy of a copy."""

    __slots__ = ()

    def __init__(self, buffer: memoryview) -> None:
        super().__init__(buffer[: self.HEADER_STRUCT.size])
        self._buffer = bytes(buffer)  # type: ignore[misc]  # a slot of the base


def _copy_less() -> None:
    """Have kafka-python 3.0.12 copy what it receives less often: ten times as it comes, six with these."""
    KafkaTCPTransport._sock_recv = _received  # noqa: SLF001
    KafkaBytes.write = _written
    memory_records.DefaultRecordBatch = _Batch


def _written(whole: KafkaBytes, data: bytes) -> None:
    """Put data behind what is there; assigned to a slice it would be made a bytearray first."""
    start, stop = whole.tell(), whole.tell() + len(data)
    memoryview(whole)[start:stop] = data
    whole.seek(stop)


def _received(transport: KafkaTCPTransport) -> tuple[bytes, Exception | None]:
    """All that lies in a socket, and why nothing more will come, if so.

    kafka-python 3.0.12 takes 4 KiB at a time, and each time another thread gets the interpreter: with 64 KiB a consumer
    of small messages takes a tenth to a fifth less CPU.
    """
    parts: list[bytes] = []
    error: Exception | None = None
    while error is None:
        try:
            data = transport._sock.recv(READ_BYTES)  # noqa: SLF001
        except (BlockingIOError, InterruptedError):
            break
        except (OSError, AttributeError) as failure:  # the socket is None once it is closed
            error = KafkaConnectionError(failure)
        else:
            parts.append(data)
            error = None if data else KafkaConnectionError("socket disconnected")
    return b"".join(parts), error
