"""The worker: poll, handle, publish, confirm, commit. The only loop of the system, the same under every carrier.

Three fates of a message: invalid → dead letter, go on; transient → again, in place, with back-off; anything else → the
error leaves `run`, nothing of the poll was committed, and the supervisor starts the process again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TypeVar

from runtime.clock import SystemClock
from runtime.dead_letters import TOPIC as DEAD_LETTERS
from runtime.dead_letters import refused
from runtime.errors import InvalidMessage, Transient
from runtime.lease import Lease
from runtime.metrics import Metrics
from runtime.ports import Carrier, Clock, Handler, Outgoing, Place, Poll, Polled
from runtime.progress import Progress
from runtime.pulse import Pulse

log = logging.getLogger("headrace.worker")

Answer = TypeVar("Answer")
Resume = Callable[[], Iterator[Sequence[Outgoing]]]

POLL_SECONDS = 0.2
COMMIT_SECONDS = 1.0
BACK_OFF_SECONDS = (0.1, 0.3, 1.0, 3.0, 5.0)


class Worker:
    """Drives one handler on one carrier.

    Args:
        handler: What to do.
        carrier: What moves the messages. The worker closes it.
        pipeline: Digest of the pipeline, for dead letters.
        metrics: Where counts go.
        clock: Time.
        lease: The check against zombies; None leaves it out (tests of what holds without it).
        overlap: Poll while the last list of the poll before is on its way. Only for a handler that restores nothing
            from its output: the next owner of a lost partition would not see what is on its way.
        resume: What becomes due without a message, such as work that ended elsewhere; asked whenever none came.
    """

    def __init__(
        self,
        handler: Handler,
        carrier: Carrier,
        *,
        pipeline: str = "",
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        lease: Lease | None = None,
        overlap: bool = False,
        resume: Resume | None = None,
    ) -> None:
        self._resume = resume
        self._handler, self._carrier, self._pipeline = handler, carrier, pipeline
        self._overlap = overlap
        self._metrics = metrics or Metrics()
        self._clock = clock or SystemClock()
        self._lease = lease
        self._stopping = False
        self._handled: dict[Place, int] = {}
        self._committed_at = self._clock.monotonic()
        self._failures = 0
        self._held: list[Polled] = []
        self._followed: Mapping[Place, int] = {}
        self.owned: set[Place] = set()
        self._joined = not handler.inputs
        self._catching_up = bool(handler.follows) and not handler.leads
        self._pulse = Pulse(self._clock)
        self._progress = Progress(carrier, self._clock, self._metrics)

    @property
    def live(self) -> bool:
        """Whether it gets on, or waits for something outside: a restart would not help then."""
        return self._pulse.live

    @property
    def ready(self) -> bool:
        """Whether it is in its group, has caught up, finished a step a moment ago, and no partition is stuck."""
        return self._pulse.steps and self._joined and not self._catching_up and not self._progress.stuck

    @property
    def stuck(self) -> list[str]:
        """Its partitions that have not moved for a minute while they have lag, with their positions."""
        return self._progress.stuck

    def start(self) -> None:
        """Join the group and catch up with what is followed from the start."""
        if not self._handler.leads:
            self._follow()
        if self._handler.inputs:
            self._retry(lambda: self._carrier.subscribe(self._handler.inputs))

    def run(self) -> None:
        """Work until `stop`, then commit and leave the group. Any error of fate three leaves from here."""
        try:
            self.start()
            while not self._stopping:
                self.step()
            self._settle(wait=True)
        finally:
            self._carrier.close()

    def stop(self) -> None:
        """End `run` after the step in progress; sets a flag, no more: signal handlers call it, and other threads."""
        self._stopping = True

    def beat(self) -> None:
        """Say that the process runs; called four times a second from a thread, since a step may take minutes.

        Raises:
            LeaseLost: It stood still: the process must end at once.
        """
        if self._lease is not None:
            self._lease.check()

    def step(self, timeout: float = POLL_SECONDS) -> bool:
        """One round; True when there was something to do."""
        poll = self._carrier.poll(timeout)
        self._take(poll)
        polled, self._held = self._held, []
        if polled and not self._stopping:
            self._process(polled)
        elif self._resume is not None and not self._stopping:
            self._go_on(self._resume())
        if self._clock.monotonic() - self._committed_at >= COMMIT_SECONDS:
            self._settle()
        self._pulse.stepped()
        self._progress.look()
        return bool(poll.polled or poll.gained or poll.lost)

    def _take(self, poll: Poll) -> None:
        """Note what a poll brought. Held messages of lost partitions go: another member handles them."""
        self._joined = self._joined or poll.joined or bool(poll.gained)
        self._held = [run for run in self._held if _place(run) not in poll.lost] + [*poll.polled]
        self._rebalance(poll)

    def _follow(self) -> None:
        carrier, self._catching_up = self._carrier, True
        positions = self._retry(lambda: self._handler.follow(carrier.log)) if self._handler.follows else {}
        ends = self._retry(lambda: {place: carrier.log.end(place) for place in positions})
        self._followed = positions
        self._retry(lambda: carrier.follow(positions))
        while self._followed is positions and self._behind(ends) and not self._stopping:
            self._catch_up()
        self._catching_up = False

    def _behind(self, ends: Mapping[Place, int]) -> bool:
        following = self._retry(self._carrier.following)
        return any(following.get(place, 0) < end for place, end in ends.items())

    def _catch_up(self) -> None:
        """Handle what is followed; a leader's inputs, which come along, are held back until it has caught up."""
        self._take(self._carrier.poll(POLL_SECONDS))
        followed = [run for run in self._held if _place(run) in self._followed]
        self._held = [run for run in self._held if _place(run) not in self._followed]
        if followed:
            self._process(followed)
        self._pulse.moved()

    def _rebalance(self, poll: Poll) -> None:
        if not (poll.lost or poll.gained):
            return
        for place in sorted(poll.lost):
            self._handler.forget(place)
            self._handled.pop(place, None)
        self.owned = (self.owned - poll.lost) | poll.gained
        log.info("rebalanced", extra={"lost": sorted(poll.lost), "gained": sorted(poll.gained)})
        for place in sorted(poll.gained):
            self._publish(self._restored(place))
            self._confirm()
        if self._handler.leads:
            self._lead(poll)

    def _lead(self, poll: Poll) -> None:
        seat = Place(self._handler.inputs[0], 0)
        if seat in poll.lost:  # what was followed is another leader's now, or will be read again
            self._held = [run for run in self._held if _place(run) not in self._followed]
            self._followed = {}
            self._carrier.follow({})
        if seat in poll.gained:
            self._follow()

    def _restored(self, place: Place) -> list[Outgoing]:
        return self._retry(lambda: list(self._handler.restore(place, self._carrier.log)))

    def _retry(self, call: Callable[[], Answer]) -> Answer:
        while True:
            try:
                answer = call()
            except Transient as error:
                self._back_off(error)
            else:
                self._failures = 0
                return answer

    def _process(self, polled: Sequence[Polled]) -> None:
        began = self._clock.monotonic()
        handled, steps = self._begin(polled)
        for outgoing in steps:  # while one list is on its way, the handler works on the next
            self._confirm()
            self._publish(outgoing)
        if not self._overlap:
            self._confirm()
        # A refused message at the end stays uncommitted: no output covers it yet, and a commit above them is a hole.
        for topic, partition, messages in handled:
            self._handled[Place(topic, partition)] = messages[-1].offset + 1
            self._metrics.messages(topic, len(messages))
        self._metrics.handled(self._clock.monotonic() - began)

    def _go_on(self, steps: Iterator[Sequence[Outgoing]]) -> None:
        for outgoing in steps:
            self._publish(outgoing)
            self._confirm()

    def _begin(self, polled: Sequence[Polled]) -> tuple[Sequence[Polled], Iterator[Sequence[Outgoing]]]:
        """What the handler took, and its lists; the first one is asked for until it neither dead-letters nor waits."""
        while polled:
            try:
                steps = iter(self._handler.handle(polled))
                first = next(steps, ())
            except InvalidMessage as error:
                polled = self._refuse(polled, error)
            except Transient as error:
                self._back_off(error)
            else:
                self._failures = 0
                return polled, chain((first,), steps)
        return (), iter(())

    def _refuse(self, polled: Sequence[Polled], error: InvalidMessage) -> list[Polled]:
        partitions = self._carrier.log.partitions(DEAD_LETTERS)
        letter, rest = refused(polled, error, pipeline=self._pipeline, partitions=partitions)
        self._publish([letter])
        self._confirm()
        place = Place(error.topic, error.partition)
        log.warning("message_refused", extra={"place": place, "offset": error.offset, "reason": error.reason})
        return rest

    def _back_off(self, error: Transient) -> None:
        seconds = BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS) - 1)]
        self._failures += 1
        log.warning("retrying", extra={"error": str(error), "seconds": seconds})
        if self._stopping:
            raise error
        with self._pulse.outside():
            self._clock.sleep(seconds)

    def _publish(self, outgoing: Sequence[Outgoing]) -> None:
        if self._lease is not None:
            self._lease.check()
        if outgoing:
            with self._pulse.outside():
                self._carrier.publish(outgoing)
            self._metrics.published(outgoing)
        self._pulse.moved()

    def _confirm(self) -> None:
        with self._pulse.outside():
            self._carrier.confirm()
        self._pulse.moved()

    def _settle(self, *, wait: bool = False) -> None:
        """Let the handler say what it has kept back, then commit: a commit above all output would be a hole."""
        self._committed_at = self._clock.monotonic()
        self._publish(self._handler.tick(self._clock.now()))
        self._confirm()
        if positions := self._committable():
            self._carrier.commit(positions, wait=wait)

    def _committable(self) -> Mapping[Place, int]:
        return {place: offset for place, offset in self._handled.items() if place in self.owned}


def _place(run: Polled) -> Place:
    return Place(run.topic, run.partition)
