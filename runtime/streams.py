"""The carrier on Faust: Faust moves the messages, the worker's loop decides what happens to them.

`poll` takes what Faust laid into the inbox; what the worker commits is all that Faust may commit. Reading the log and
following topics, which Faust does in groups only, is done with kafka-python.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path

from aiokafka.errors import KafkaError

from runtime.errors import DeliveryFailed, WrongSetup
from runtime.kafka import KafkaCarrier, KafkaLog
from runtime.ports import Outgoing, Place, Poll
from runtime.streams_engine import Engine

log = logging.getLogger("headrace.streams")

COMMIT_SECONDS = 5.0
FOLLOW_SECONDS = 0.05
"""How long a followed message may wait while nothing else comes."""


class StreamsCarrier:
    """A member of a group on Faust. Several in one process are fine: each has its own loop and thread.

    Args:
        brokers: Addresses, ``host:port`` with commas between.
        pipeline: Name of the pipeline: topics and groups begin with it.
        group: Logical name of the group.
        max_messages: Most messages of one partition that a poll returns.
        datadir: Where Faust makes its directories; nothing of value is kept there.
        patient: Topics whose messages may wait for 0.2 s, so that a few of them are not a round of their own.
    """

    def __init__(
        self,
        brokers: str,
        pipeline: str,
        group: str,
        *,
        max_messages: int = 64,
        datadir: Path,
        patient: frozenset[str] = frozenset(),
    ) -> None:
        self._brokers, self._pipeline, self._group = brokers, pipeline, group
        self._run, self._datadir, self._patient = max_messages, datadir, patient
        self._engine: Engine | None = None
        self._follower: KafkaCarrier | None = None
        self._sent: deque[Future[None]] = deque()
        self._known: set[str] = set()
        self._closed = False
        self.log = KafkaLog(brokers, pipeline, group)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Start Faust and join the group.

        Raises:
            WrongSetup: A topic is missing.
            Fatal: Faust did not start within a minute.
        """
        if self._engine is not None or self._closed:
            raise WrongSetup("a carrier subscribes once: make a new one")
        for topic in topics:
            self.log.partitions(topic)
        self._engine = Engine(
            self._brokers,
            self._pipeline,
            self._group,
            topics,
            run=self._run,
            datadir=self._datadir,
            patient=self._patient,
        )
        self._engine.start()

    def follow(self, positions: Mapping[Place, int]) -> None:
        """Replace what is followed."""
        if self._follower is None and positions:
            self._follower = KafkaCarrier(self._brokers, self._pipeline, self._group, max_messages=self._run)
        if self._follower is not None:
            self._follower.follow(positions)

    def following(self) -> Mapping[Place, int]:
        """Positions of what is followed."""
        return self._follower.following() if self._follower is not None else {}

    def poll(self, timeout: float) -> Poll:
        """What came in, followed messages first. Raises `Fatal` when Faust has stopped."""
        if self._follower is None:
            return self._running().inbox.take(timeout)
        if self._engine is None:  # a follower catches up before it joins
            return self._follower.poll(timeout)
        followed = self._follower.poll(0).polled
        poll = self._running().inbox.take(0 if followed else min(timeout, FOLLOW_SECONDS))
        return poll._replace(polled=[*followed, *poll.polled])

    def positions(self) -> Mapping[Place, int]:
        """How far Faust has fetched each partition of the group's share."""
        return self._engine.positions() if self._engine is not None and not self._closed else {}

    def ends(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Where partitions end, as the broker last said."""
        return self._engine.ends(places) if self._engine is not None and not self._closed else {}

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Hand messages over to Faust's producer.

        Raises:
            WrongSetup: A topic is missing.
            DeliveryFailed: The carrier is closed.
        """
        engine = self._running()
        engine.inbox.check()
        for topic in {each.topic for each in outgoing} - self._known:
            self.log.partitions(topic)  # the client would wait for a missing topic for ever
            self._known.add(topic)
        self._sent.append(engine.send(outgoing))

    def confirm(self) -> None:
        """Wait for everything that is under way, as long as it takes.

        Raises:
            DeliveryFailed: A message was refused.
        """
        while self._sent:
            self._delivered(self._sent[0])
            self._sent.popleft()

    def _delivered(self, sent: Future[None]) -> None:
        while True:
            try:
                return sent.result(1.0)
            except TimeoutError:
                self._running().inbox.check()
            except CancelledError:
                raise DeliveryFailed("Faust ended before a message was on the log") from None

    def commit(self, positions: Mapping[Place, int], *, wait: bool = False) -> None:
        """Let Faust commit up to these positions; with `wait`, now."""
        if self._engine is None or self._closed:
            return
        committed = self._engine.commit(positions, now=wait)
        if wait:
            try:
                committed.result(COMMIT_SECONDS)
            except (TimeoutError, CancelledError, KafkaError) as error:
                log.warning("commit_failed", extra={"error": repr(error)})

    def close(self) -> None:
        """Leave the group at once and let go of every connection; five seconds for Faust at most."""
        self._closed = True
        if self._engine is not None:
            self._engine.stop()
        if self._follower is not None:
            self._follower.close()
        self.log.close()

    def _running(self) -> Engine:
        if self._closed:
            raise DeliveryFailed("the carrier is closed")
        if self._engine is None:
            raise WrongSetup("the Faust carrier starts when it subscribes: give the handler an input")
        return self._engine
