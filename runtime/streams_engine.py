"""Faust in a thread of its own: an asyncio loop with one app, without its worker, web server, tables and signals.

What its consumer fetches goes into the inbox as a whole and past Faust's agents, which take a millisecond and several
turns of the loop per message; what may be committed, and when, is told to `commit`. Methods are called from another
thread; what is `async` runs in the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError
from faust.types import TP

from runtime.errors import DeliveryFailed, Fatal
from runtime.ports import Outgoing, Place, Polled
from runtime.streams_inbox import Inbox
from runtime.streams_transport import Consumer, Producer, Transport
from schemas.topics import MAX_MESSAGE_BYTES, physical

log = logging.getLogger("headrace.streams")

START_SECONDS = 60.0
STOP_SECONDS = 4.0
HAND_OVER_SECONDS = 5.0
"""How long a rebalance waits for the worker; below the rebalance time-out, behind which the group does not wait."""
COMMIT_SECONDS = 1.0
FETCH_MESSAGES = 64
LARGEST_BYTES = MAX_MESSAGE_BYTES + (2 << 20)
"""Above the largest message that any topic takes (dead-letters: one MiB more), with room for its headers."""


class App(faust.App):
    """A Faust app that lays down its messages, and its last words, in an inbox."""

    inbox: Inbox
    lay_down: Callable[[Mapping[TP, Sequence[Any]]], None]
    """Called with what a fetch brought."""
    hand_over: Callable[[set[TP]], Awaitable[None]]
    """Called when partitions are taken away, before another member gets them."""

    def _crash(self, reason: BaseException) -> None:
        super()._crash(reason)
        self.inbox.fail(reason)


class Engine:
    """One member of one group.

    Args:
        brokers: Addresses, ``host:port`` with commas between.
        pipeline: Name of the pipeline: topics and groups begin with it.
        group: Logical name of the group.
        topics: Logical names of the topics to read.
        run: Most messages of one partition that the inbox gives out at once.
        datadir: Where Faust makes its directories.
    """

    inbox: Inbox

    def __init__(
        self,
        brokers: str,
        pipeline: str,
        group: str,
        topics: Sequence[str],
        *,
        run: int,
        datadir: Path,
        patient: frozenset[str],
    ) -> None:
        self._brokers, self._pipeline, self._group = brokers, pipeline, group
        self._logical = {physical(pipeline, topic): topic for topic in topics}
        self._run, self._datadir, self._patient = run, datadir, patient
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._live, name=f"faust-{group}", daemon=True)

    def start(self) -> None:
        """Return when the clients are connected. Raises `Fatal` when that fails or takes longer than a minute."""
        self._datadir.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        try:
            self._started.result(START_SECONDS)
        except TimeoutError:
            raise Fatal(f"Faust did not start within {START_SECONDS:.0f} s: is {self._brokers} reachable?") from None

    def stop(self) -> None:
        """Leave the group and end the thread; five seconds at most, however the broker fares."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop ended by itself meanwhile
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(STOP_SECONDS + 1)

    def send(self, outgoing: Sequence[Outgoing]) -> Future[None]:
        """Publish; done when all of them are on the log. Lists land in the order of the calls."""
        return self._submit(self._send(outgoing))

    def positions(self) -> Mapping[Place, int]:
        """How far each partition of this member has been fetched, -1 while that is unknown."""
        found = cast(Consumer, self._app.consumer).positions()
        return {self._place(tp): offset for tp, offset in found.items()}

    def ends(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Where partitions end, as far as the broker has told by now; it is asked anew."""
        wanted = [TP(physical(self._pipeline, place.topic), place.partition) for place in places]
        found = cast(Consumer, self._app.consumer).ends(wanted)
        return {self._place(tp): offset for tp, offset in found.items()}

    def commit(self, positions: Mapping[Place, int], *, now: bool) -> Future[None]:
        """Allow Faust to commit these positions; done when it did (with `now`) or knows them."""
        return self._submit(self._commit(positions, now=now))

    def _submit(self, work: Any) -> Future[None]:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:  # the loop is closed
            work.close()
            raise DeliveryFailed(f"Faust has ended: {error}") from error

    def _live(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - handed over to the thread that uses this one, which raises it
            if not self._started.done():
                self._started.set_exception(Fatal(f"Faust did not start on {self._brokers}: {error!r}"))
            else:
                self.inbox.fail(error)

    async def _main(self) -> None:
        self._loop, self._stopping, self._order = asyncio.get_running_loop(), asyncio.Event(), asyncio.Lock()
        self.inbox = Inbox(self._run, patient=self._patient)
        self._app = self._wired(_app(self._brokers, physical(self._pipeline, self._group), self._datadir))
        try:
            await self._app.start()
            self._started.set_result(None)
            await self._stopping.wait()
        finally:
            await self._end()

    async def _end(self) -> None:
        try:
            await asyncio.wait_for(self._app.stop(), STOP_SECONDS)
        except (TimeoutError, KafkaError) as error:
            log.warning("stop_failed", extra={"error": repr(error)})

    def _wired(self, app: App) -> App:
        app.inbox, app.lay_down, app.hand_over = self.inbox, self._lay_down, self._hand_over
        app.topics.add(app.topic(*self._logical, key_type=bytes, value_type=bytes))
        app.on_partitions_assigned.connect(self._assigned, weak=False)  # type: ignore[arg-type]
        return app

    def _lay_down(self, records: Mapping[TP, Sequence[Any]]) -> None:
        self.inbox.put([Polled(self._logical[tp.topic], tp.partition, found) for tp, found in records.items()])

    def _assigned(self, _: App, assigned: set[TP], **__: Any) -> None:
        self.inbox.assigned(self._places(assigned))

    async def _hand_over(self, revoked: set[TP]) -> None:
        self.inbox.revoked(self._places(revoked))
        waits = revoked and not self._stopping.is_set()
        if waits and not await self.inbox.between_polls(HAND_OVER_SECONDS):
            log.warning("handed_over_unfinished", extra={"seconds": HAND_OVER_SECONDS})

    def _places(self, partitions: set[TP]) -> list[Place]:
        return sorted(map(self._place, partitions))

    def _place(self, partition: TP) -> Place:
        return Place(self._logical[partition.topic], partition.partition)

    async def _send(self, outgoing: Sequence[Outgoing]) -> None:
        async with self._order:
            sent = [await self._enqueue(each) for each in outgoing]
        for each, answer in zip(outgoing, await asyncio.gather(*sent, return_exceptions=True), strict=True):
            if isinstance(answer, BaseException):
                raise _refused(each, answer) from answer

    async def _enqueue(self, each: Outgoing) -> asyncio.Future[Any]:
        producer, topic = cast(Producer, self._app.producer), physical(self._pipeline, each.topic)
        try:
            return await producer.enqueue(topic, each.partition, each.key, each.value, list(each.headers))
        except (
            KafkaError,
            AssertionError,
            TypeError,
            ValueError,
        ) as error:  # aiokafka asserts that the partition exists
            raise _refused(each, error) from error

    async def _commit(self, positions: Mapping[Place, int], *, now: bool) -> None:
        consumer, owned = cast(Consumer, self._app.consumer), self.inbox.owned()
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


def _refused(each: Outgoing, error: BaseException) -> DeliveryFailed:
    size = len(each.value or b"")
    return DeliveryFailed(f"{each.topic}/{each.partition} did not take a message of {size} bytes: {error!r}")


def _app(brokers: str, group: str, datadir: Path) -> App:
    app = App(
        group,
        broker=[f"kafka://{broker.strip()}" for broker in brokers.split(",")],
        datadir=str(datadir),
        autodiscover=False,
        key_serializer="raw",
        value_serializer="raw",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_commit_interval=COMMIT_SECONDS,
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
