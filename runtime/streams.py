"""The carrier on Faust: its agents move the messages, the worker's loop decides what happens to them.

Faust runs in an asyncio loop in a thread of its own, without its worker, web server, tables and signal handlers. Its
one agent lays every message into the inbox, from which `poll` takes them; what the worker commits is all that Faust may
commit. The transport that makes this safe is in `runtime/streams_transport.py`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError
from faust.types import TP
from mode import CrashingSupervisor

from runtime.errors import DeliveryFailed, Fatal, WrongSetup
from runtime.ports import LogReader, Outgoing, Place, Poll, Stored
from runtime.streams_inbox import Inbox
from runtime.streams_transport import Consumer, Producer, Transport
from schemas.topics import MAX_MESSAGE_BYTES, physical

log = logging.getLogger("headrace.streams")

START_SECONDS = 60.0
STOP_SECONDS = 4.0
COMMIT_SECONDS = 5.0
FETCH_MESSAGES = 64
LARGEST_BYTES = MAX_MESSAGE_BYTES + (1 << 20)


class App(faust.App):
    """A Faust app with an inbox, that says so when it crashes."""

    inbox: Inbox

    def _crash(self, reason: BaseException) -> None:
        super()._crash(reason)
        self.inbox.fail(reason)


def _app(brokers: str, pipeline: str, group: str, datadir: Path) -> App:
    app = App(
        physical_group(pipeline, group),
        broker=[f"kafka://{broker.strip()}" for broker in brokers.split(",")],
        datadir=str(datadir),
        autodiscover=False,
        agent_supervisor=CrashingSupervisor,
        key_serializer="raw",
        value_serializer="raw",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_commit_interval=1.0,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.0,
        broker_request_timeout=40.0,
        broker_rebalance_timeout=10.0,
        broker_max_poll_records=FETCH_MESSAGES,
        consumer_max_fetch_size=LARGEST_BYTES,
        producer_linger=0,
        producer_max_batch_size=1 << 20,
        producer_max_request_size=LARGEST_BYTES,
        producer_request_timeout=40.0,
        stream_wait_empty=False,
    )
    app.transport = Transport(app.conf.broker_consumer, app)
    app.producer_transport = Transport(app.conf.broker_producer, app)
    return app


def physical_group(pipeline: str, group: str) -> str:
    """The broker's name of a group of a pipeline."""
    return f"{pipeline}.{group}"


class StreamsCarrier:
    """A member of a group on Faust; several in one process are fine, each has its own loop and thread.

    Args:
        brokers: Addresses, ``host:port`` with commas between.
        pipeline: Name of the pipeline: topics and groups begin with it.
        group: Logical name of the group.
        max_messages: Most messages of one partition that a poll returns.
        datadir: Where Faust makes its directories; nothing of value is kept there.
    """

    def __init__(self, brokers: str, pipeline: str, group: str, *, max_messages: int = 64, datadir: Path) -> None:
        self._brokers, self._pipeline, self._group = brokers, pipeline, group
        self._run, self._datadir = max_messages, datadir
        self._logical: dict[str, str] = {}
        self._pending: deque[concurrent.futures.Future[None]] = deque()
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._log: LogReader | None = None

    @property
    def log(self) -> LogReader:
        """The log, read with kafka-python."""
        if self._log is None:
            from runtime.kafka import KafkaLog  # noqa: PLC0415

            self._log = KafkaLog(self._brokers, self._pipeline, self._group)
        return self._log

    def subscribe(self, topics: Sequence[str]) -> None:
        """Start Faust and join the group. Raises `Fatal` when it does not start within a minute."""
        if self._thread is not None or self._closed:
            raise WrongSetup("a carrier subscribes once: make a new one")
        self._datadir.mkdir(parents=True, exist_ok=True)
        self._logical = {physical(self._pipeline, topic): topic for topic in topics}
        self._thread = threading.Thread(target=self._live, name=f"streams-{self._group}", daemon=True)
        self._thread.start()
        try:
            self._started.result(START_SECONDS)
        except concurrent.futures.TimeoutError:
            raise Fatal(f"Faust did not start within {START_SECONDS:.0f} s: is {self._brokers} reachable?") from None

    def follow(self, positions: Mapping[Place, int]) -> None:
        """Faust has no reading without a group: only an empty mapping is taken."""
        if positions:
            raise WrongSetup("following topics needs the kafka carrier: give this handler a KafkaCarrier")

    def following(self) -> Mapping[Place, int]:
        """Nothing."""
        return {}

    def poll(self, timeout: float) -> Poll:
        """What came in, at most `max_messages` per partition. Raises `Fatal` when Faust has stopped."""
        return self._running().take(timeout)

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Hand messages over to Faust's producer."""
        self._running().check()
        self._pending.append(self._submit(self._send(outgoing)))

    def confirm(self) -> None:
        """Return when all of them are on the log and replicated, or raise `DeliveryFailed`."""
        while self._pending:
            self._await_delivery(self._pending[0])
            self._pending.popleft()

    def _await_delivery(self, sent: concurrent.futures.Future[None]) -> None:
        while True:
            try:
                return sent.result(1.0)
            except concurrent.futures.TimeoutError:
                self._inbox.check()
            except concurrent.futures.CancelledError:
                raise DeliveryFailed("the carrier was closed before a message was on the log") from None
            except KafkaError as error:
                raise DeliveryFailed(f"the broker did not take a message: {error!r}") from error

    def commit(self, positions: Mapping[Place, int], *, wait: bool = False) -> None:
        """Let Faust commit up to these positions; with `wait`, now."""
        committed = self._submit(self._commit(dict(positions), now=wait))
        if wait:
            try:
                committed.result(COMMIT_SECONDS)
            except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError, KafkaError) as error:
                log.warning("commit_failed", extra={"error": repr(error)})

    def close(self) -> None:
        """Leave the group and end the thread; five seconds at most, however the broker fares."""
        self._closed = True
        if self._thread is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(STOP_SECONDS + 1)

    def _running(self) -> Inbox:
        if self._closed:
            raise DeliveryFailed("the carrier is closed")
        if self._thread is None:
            raise WrongSetup("the Faust carrier starts with subscribe: give the handler an input, or use KafkaCarrier")
        return self._inbox

    def _submit(self, work: Coroutine[Any, Any, None]) -> concurrent.futures.Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    # From here on: in Faust's loop.

    def _live(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - handed over to the worker's thread, which raises it
            if not self._started.done():
                self._started.set_exception(Fatal(f"Faust did not start: {error!r}"))
            else:
                self._inbox.fail(error)

    async def _main(self) -> None:
        self._loop, self._stopping, self._order = asyncio.get_running_loop(), asyncio.Event(), asyncio.Lock()
        self._app = _app(self._brokers, self._pipeline, self._group, self._datadir)
        self._inbox = self._app.inbox = Inbox(self._run)
        self._wire(self._app)
        try:
            await self._app.start()
            self._started.set_result(None)
            await self._stopping.wait()
        finally:
            await asyncio.wait_for(self._app.stop(), STOP_SECONDS)

    def _wire(self, app: App) -> None:
        channel = app.topic(*self._logical, key_type=bytes, value_type=bytes)
        app.agent(channel, name=self._group)(self._carry)
        app.on_partitions_assigned.connect(self._assigned, weak=False)  # type: ignore[arg-type]
        app.on_partitions_revoked.connect(self._revoked, weak=False)  # type: ignore[arg-type]

    async def _carry(self, stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            place = Place(self._logical[message.topic], message.partition)
            milliseconds = round(message.timestamp * 1000)
            self._inbox.put(
                place, Stored(message.offset, milliseconds, message.key, message.value, tuple(message.headers))
            )

    def _assigned(self, _: App, assigned: set[TP], **__: Any) -> None:
        self._inbox.assigned(self._places(assigned))

    def _revoked(self, _: App, revoked: set[TP], **__: Any) -> None:
        self._inbox.revoked(self._places(revoked))

    def _places(self, partitions: set[TP]) -> list[Place]:
        return sorted(Place(self._logical[tp.topic], tp.partition) for tp in partitions)

    async def _send(self, outgoing: Sequence[Outgoing]) -> None:
        producer = cast(Producer, self._app.producer)
        async with self._order:  # one list after the other, so that each partition gets its messages in order
            sent = [
                await producer.enqueue(
                    physical(self._pipeline, each.topic), each.partition, each.key, each.value, list(each.headers)
                )
                for each in outgoing
            ]
        await asyncio.gather(*sent)

    async def _commit(self, positions: Mapping[Place, int], *, now: bool) -> None:
        consumer = cast(Consumer, self._app.consumer)
        owned = self._inbox.owned()
        consumer.handled(
            {
                TP(physical(self._pipeline, place.topic), place.partition): offset
                for place, offset in positions.items()
                if place in owned
            }
        )
        if now:
            await consumer.maybe_wait_for_commit_to_finish()
            await consumer.commit()
