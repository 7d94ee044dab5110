"""Faust's Kafka transport, hardened: it commits what the worker handled, and nothing else.

Faust 0.15 guesses commits from gaps between acknowledged offsets, forgets acknowledgements in every rebalance, sleeps
for a second under back-pressure, and lets two coroutines seek at once. Here the worker names the positions, they are
committed before a rebalance drops them, the one coroutine that fetches is also the one that seeks, and it fetches only
while the inbox has room. It reaches into Faust and aiokafka, so their versions are pinned and every promise is a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, cast

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, KafkaTimeoutError
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from runtime.errors import Fatal
from runtime.streams_inbox import Inbox

log = logging.getLogger("headrace.streams")

FETCH_WAIT_MS = 20
"""How long the broker holds an empty fetch. While it does, nobody fetches what was emptied meanwhile."""

IDLE_SECONDS = 0.05
BUFFER_BYTES = 64 << 20


NOTHING = object()
"""Stands for None until aiokafka has asserted that a message has a key or a value: a dead letter may have neither."""


def _stored(value: Any) -> bytes | None:
    return None if value is NOTHING else cast(bytes, value)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread with the client: range assignment, stable reads, and no crash because a commit failed."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        conf = self.app.conf
        self._assignor = RangePartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[RangePartitionAssignor],
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_bytes=BUFFER_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Whether the broker took them. A failed commit repeats messages after a restart; that is no error."""
        consumer = self._ensure_consumer()
        try:
            await consumer.commit({driver.ensure_aiokafka_TP(tp): offset for tp, offset in offsets.items()})
        except KafkaError as error:
            log.warning("commit_failed", extra={"error": repr(error)})
            return False
        return True

    async def rewind(self) -> Mapping[TP, int | None]:
        """Go to where the group is, to the beginning of the log where it has committed nothing."""
        found: Mapping[TP, int | None] = await self.call_thread(self._rewind)
        return found

    async def _rewind(self) -> Mapping[TP, int | None]:
        consumer = self._ensure_consumer()
        committed = {tp: await consumer.committed(tp) for tp in consumer.assignment()}
        for tp, offset in committed.items():
            if offset is not None:
                consumer.seek(tp, offset)
        if fresh := [tp for tp, offset in committed.items() if offset is None]:
            await consumer.seek_to_beginning(*fresh)
        return {ensure_TP(tp): offset for tp, offset in committed.items()}

    def positions(self) -> Mapping[TP, int]:
        """How far each partition was fetched, -1 while that is unknown. For any thread."""
        subscription = self._ensure_consumer()._subscription.subscription  # noqa: SLF001 - the client's call may wait
        assignment = subscription and subscription.assignment
        if not assignment:
            return {}
        found = {tp: assignment.state_value(tp)._position for tp in assignment.tps}  # noqa: SLF001
        return {ensure_TP(tp): -1 if position is None else position for tp, position in found.items()}

    def ends(self, partitions: Sequence[TP]) -> Future[Mapping[Any, int]]:
        """Ask where partitions end, beside the calls that fetch and commit. For any thread."""
        wanted = [driver.ensure_aiokafka_TP(tp) for tp in partitions]
        work = self._ensure_consumer().end_offsets(wanted)
        try:
            return asyncio.run_coroutine_threadsafe(work, self.thread_loop)
        except RuntimeError as error:  # the loop is closed
            work.close()
            raise Fatal(f"Faust has ended: {error}") from error

    async def on_thread_stop(self) -> None:
        """Close the client. While the broker is away, aiokafka lets the end of its own fetch escape."""
        with contextlib.suppress(asyncio.CancelledError):
            await super().on_thread_stop()

    def on_crash(self, msg: str, *fmt: Any, **_: Any) -> None:
        """Log; the base class prints to the terminal."""
        log.error("client_crashed", extra={"error": msg.format(*fmt)})

    def close(self) -> None:
        """Nothing: `on_thread_stop` closes the client, in the loop that it belongs to."""


class Consumer(driver.Consumer):
    """Reads for the inbox and commits the positions that `handled` was told."""

    _thread: ConsumerThread
    inbox: Inbox

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._handled: dict[TP, int] = {}
        self._asked: Future[Mapping[Any, int]] | None = None
        self._ends: Mapping[TP, int] = {}
        self._epoch = self._sought = 0  # of assignments; unequal: the positions are those of an earlier one
        super().__init__(*args, **kwargs)
        self.inbox = cast("Any", self.app).inbox

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def positions(self) -> Mapping[TP, int]:
        """How far each partition was fetched."""
        return self._thread.positions()

    def ends(self, partitions: Sequence[TP]) -> Mapping[TP, int]:
        """Where partitions end, as far as it was told by now. Asks anew, one question at a time, without waiting."""
        if partitions and (self._asked is None or self._asked.done()):
            self._asked = self._thread.ends(partitions)
            self._asked.add_done_callback(self._answered)
        return self._ends

    def _answered(self, asked: Future[Mapping[Any, int]]) -> None:
        if not asked.cancelled() and asked.exception() is None:
            self._ends = {**self._ends, **{ensure_TP(tp): end for tp, end in asked.result().items()}}

    def handled(self, positions: Mapping[TP, int]) -> None:
        """Take over positions (offset of the next message) of partitions that this member still owns."""
        self._handled.update(positions)

    def ack(self, message: Any) -> bool:  # noqa: ARG002
        """Faust's own acknowledgements count for nothing."""
        return False

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        return iter(self._handled if topics is None else [tp for tp in self._handled if tp.topic in topics])

    def _new_offset(self, tp: TP) -> int | None:
        return self._handled.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps (markers, compaction, aborted messages) mean nothing here."""

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: ARG002
        owned = self.assignment()
        wanted = {tp: offset for tp, offset in offsets.items() if tp in owned}
        if not wanted or not await self._commit(wanted):
            return False
        self._committed_offset.update(wanted)
        return True

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let the worker finish what it has, commit what was handled while the group still lets us, then forget."""
        await cast("Any", self.app).hand_over(revoked)
        if revoked and not self.app.should_stop:
            await self.maybe_wait_for_commit_to_finish()
            await self.commit()
        self._epoch += 1
        self._buffered_partitions.difference_update(revoked)
        for tp in revoked:
            self._handled.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Make the fetching coroutine seek before it fetches."""
        self._epoch += 1
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Nothing: seeking while a fetch is under way skips messages. `_wait_next_records` seeks."""

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's signature
        """Lay down records of the present assignment, from its committed positions on; there are none for agents."""
        if not self.flow_active:
            await self.can_resume_flow.wait()
        await self.inbox.room()
        epoch, active = self._epoch, self._get_active_partitions()
        if self.flow_active and await self._rewound(epoch):
            if not active:
                await self.sleep(IDLE_SECONDS)
            elif (records := await self._getmany(active, timeout)) and epoch == self._epoch:
                cast("Any", self.app).lay_down(records)
        return None, active

    async def _rewound(self, epoch: int) -> bool:
        if self._sought == epoch:
            return True
        try:
            committed = await self._thread.rewind()
        except (KafkaError, AssertionError):
            if epoch == self._epoch:
                raise
            return False  # the assignment went away under the call: the next one seeks again
        self._committed_offset.update(committed)
        self._sought = epoch
        return epoch == self._epoch

    async def verify_all_partitions_active(self) -> None:
        """Nothing: the check looks for Faust's own acknowledgements and would cry wolf."""


class Producer(driver.Producer):
    """Idempotent, confirmed by all replicas, and a batch never expires: one that did would be a hole in the log."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True, "value_serializer": _stored}

    def _new_producer(self, transactional_id: str | None = None) -> Any:
        producer = super()._new_producer(transactional_id)
        producer._message_accumulator._batch_ttl = math.inf  # noqa: SLF001 - or it is the request time-out
        return producer

    async def enqueue(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> asyncio.Future[Any]:
        """Put a message into its partition's buffer, waiting for room for as long as it takes."""
        while True:
            try:
                sent: asyncio.Future[Any] = await self._ensure_producer().send(
                    topic, NOTHING if value is None else value, key=key, partition=partition, headers=headers
                )
            except KafkaTimeoutError:
                log.warning("producer_buffer_full", extra={"topic": topic, "partition": partition})
            else:
                sent.add_done_callback(self._abandon_behind)
                return sent

    def _abandon_behind(self, sent: asyncio.Future[Any]) -> None:
        """Let nothing land that came behind a refused message, not even when the producer stops: it would be a hole."""
        if sent.cancelled() or (error := sent.exception()) is None:
            return
        accumulator = self._ensure_producer()._message_accumulator  # noqa: SLF001
        accumulator.fail_all(error)
        accumulator._batches.clear()  # noqa: SLF001


class Transport(driver.Transport):
    """Faust's aiokafka transport with these clients."""

    Consumer = Consumer
    Producer = Producer
