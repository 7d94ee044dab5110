"""Where Faust's loop lays messages down and the worker's thread picks them up.

Bounded by asking, not by blocking: the fetching side waits for `room` before it fetches, so what was fetched can always
be laid down, and a stop never waits for the worker. A rebalance does, for a moment: what the worker has in its hands
must be on the log before another member restores from it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable

from runtime.errors import Fatal
from runtime.ports import Message, Place, Poll, Polled

MAX_MESSAGES = 1024
MAX_BYTES = 32 << 20
PAUSE_SECONDS = 0.01
PATIENCE_SECONDS = 0.2


class Inbox:
    """Messages of the partitions that this member owns, and what became of the partitions since the last `take`.

    `room`, `assigned`, `revoked`, `between_polls` and `put` belong to the loop in which it was made, `take` to the
    worker's thread, `fail` to any.

    Args:
        run: Most messages of one partition that `take` returns.
        max_messages: No more is fetched while this many wait.
        max_bytes: Or this many bytes.
        patient: Topics whose messages may wait for 0.2 s, so that nobody is woken for a few of them.
    """

    def __init__(
        self,
        run: int,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        patient: frozenset[str] = frozenset(),
    ) -> None:
        self._run, self._max_messages, self._max_bytes, self._patient = run, max_messages, max_bytes, patient
        self._changed = threading.Condition()
        self._waiting: dict[Place, deque[Message]] = {}
        self._lost: set[Place] = set()
        self._gained: set[Place] = set()
        self._known: frozenset[Place] = frozenset()
        self._messages = self._bytes = 0
        self._asking, self._asked = False, 0
        self._joined = False
        self._timed = self._late = False
        self._failure: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Return when there is room for a fetch."""
        await self._room.wait()

    def assigned(self, places: Iterable[Place]) -> None:
        """The group gave these partitions to us; their messages follow from the committed position on."""
        with self._changed:
            self._joined = True
            for place in places:
                self._waiting[place] = deque()
                self._gained.add(place)
            self._changed.notify_all()

    def revoked(self, places: Iterable[Place]) -> None:
        """The group took them: what waits of them is dropped."""
        with self._changed:
            for place in places:
                for message in self._waiting.pop(place, ()):
                    self._count(message, -1)
                self._gained.discard(place)
                if place in self._known:
                    self._lost.add(place)
            self._changed.notify_all()
        self._make_room()

    async def between_polls(self, seconds: float) -> bool:
        """Whether the worker is through with what it took, or gets through within so many seconds."""
        asked, give_up = self._asked, self._loop.time() + seconds
        while not self._asking and self._asked == asked:
            if self._loop.time() > give_up:
                return False
            await asyncio.sleep(PAUSE_SECONDS)
        return True

    def put(self, fetched: Iterable[Polled]) -> None:
        """Lay down the next messages of partitions and wake the worker, unless all of them may wait."""
        with self._changed:
            urgent = [self._add(each) for each in fetched]
            if full := self._full():
                self._room.clear()
        if any(urgent) or full:
            self._notify()
        if not all(urgent) and not self._timed:
            self._timed = True
            self._loop.call_later(PATIENCE_SECONDS, self._waited)

    def _add(self, fetched: Polled) -> bool:
        """Whether the worker should see it at once; the last messages of a partition that is gone are dropped."""
        place = Place(fetched.topic, fetched.partition)
        if (waiting := self._waiting.get(place)) is None:
            return False
        waiting.extend(fetched.messages)
        for message in fetched.messages:
            self._count(message, 1)
        return place.topic not in self._patient

    def _waited(self) -> None:
        self._timed, self._late = False, True
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def fail(self, failure: BaseException) -> None:
        """Make every `take` from now on raise."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    def check(self) -> None:
        """Raise `Fatal` when the client is beyond repair."""
        if self._failure is not None:
            raise Fatal(f"Faust stopped: {self._failure!r}. The process ends and starts again") from self._failure

    def take(self, timeout: float) -> Poll:
        """What came since the last call; waits for something to come. Raises `Fatal` after `fail`."""
        with self._changed:
            self._asking, self._asked = True, self._asked + 1
            self._changed.wait_for(self._anything, timeout)
            self._asking = False
            self.check()
            poll = Poll(frozenset(self._lost), frozenset(self._gained), list(self._runs()), self._joined)
            self._lost.clear()
            self._gained.clear()
            self._known = frozenset(self._waiting)
        if not self._room.is_set():
            self._loop.call_soon_threadsafe(self._make_room)
        return poll

    def owned(self) -> frozenset[Place]:
        """Partitions that the worker knows it owns and still does; asked in the loop."""
        with self._changed:
            return self._known - self._lost - self._gained

    def _runs(self) -> Iterable[Polled]:
        every = self._late or self._full()
        self._late = False
        for place, waiting in self._waiting.items():
            if waiting and (every or place.topic not in self._patient):
                run = [waiting.popleft() for _ in range(min(self._run, len(waiting)))]
                for message in run:
                    self._count(message, -1)
                self._late = self._late or (bool(waiting) and place.topic in self._patient)
                yield Polled(place.topic, place.partition, run)

    def _anything(self) -> bool:
        if self._lost or self._gained or self._failure:
            return True
        if self._late or self._full():
            return self._messages > 0
        return any(waiting for place, waiting in self._waiting.items() if place.topic not in self._patient)

    def _count(self, message: Message, sign: int) -> None:
        self._messages += sign
        self._bytes += sign * len(message.value or b"")

    def _full(self) -> bool:
        return self._messages >= self._max_messages or self._bytes >= self._max_bytes

    def _make_room(self) -> None:
        with self._changed:
            if not self._full():
                self._room.set()
