"""The rig in memory: `until` steps the workers one after the other, and time is virtual."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runtime.lease import Lease
from runtime.memory import Group, MemoryBroker, MemoryCarrier, MemoryLog, VirtualClock
from runtime.ports import Carrier, Header, LogReader, Message, Place
from runtime.worker import Worker
from tests.contract.crashing import Crashing
from tests.contract.handlers import DIGEST, HANDLERS, Surroundings
from tests.contract.rig import GROUP, KILLED, Ending, Said

STEP_SECONDS = 0.05
FROZEN_SECONDS = 9.0


class Killed(BaseException):
    """What `kill -9` is to a worker in memory."""


def _die() -> None:
    raise Killed


class MemoryMember:
    """A worker that is stepped. Each step runs in a thread, which stays where it is while the worker is frozen."""

    def __init__(self, broker: MemoryBroker, handler: str, options: Mapping[str, Any]) -> None:
        self._broker = broker
        self._carrier = MemoryCarrier(broker, GROUP, max_messages=64)
        carrier: Carrier = self._carrier
        if "crash_after" in options:
            carrier = Crashing(carrier, options["crash_topic"], options["crash_after"], _die)
        self._all: list[Said] = []
        around = Surroundings(self._all.append, self._pause, options)
        self._life = VirtualClock()  # moves only while this member stands still: no thread beats in memory
        lease = Lease(self._life) if options.get("lease", True) else None
        self.worker = Worker(HANDLERS[handler](around), carrier, pipeline=DIGEST, clock=broker.clock, lease=lease)
        self._started = False
        self._ending: Ending | None = None
        self._thread: threading.Thread | None = None
        self._still, self._thawed = threading.Event(), threading.Event()
        self._paused = False

    def step(self) -> None:
        """One step, unless it has ended or is frozen."""
        if self._ending is None and self._thread is None:
            self._thread = threading.Thread(target=self._step, daemon=True)
            self._thread.start()
            self._wait()

    def _step(self) -> None:
        try:
            if not self._started:
                self._started = True
                self.worker.start()
            self.worker.step()
        except Killed:
            self.kill()
        except BaseException as error:  # noqa: BLE001 - what a process would die of
            self._end(Ending(1, type(error).__name__, str(error)))
        finally:
            self._still.set()

    def _wait(self) -> None:
        self._still.wait()
        self._still.clear()
        if self._thread is not None and not self.frozen():
            self._thread.join()
            self._thread = None

    def _pause(self) -> None:
        """Called in the step's thread: the session ends while we stand still."""
        self._broker.leave(GROUP, self._carrier)
        self._paused = True
        self._still.set()
        self._thawed.wait()
        self._paused = False

    def frozen(self) -> bool:
        return self._paused

    def thaw(self) -> None:
        self._broker.clock.advance(FROZEN_SECONDS)
        self._life.advance(FROZEN_SECONDS)
        self._paused = False
        self._thawed.set()
        self._wait()

    def said(self, event: str) -> list[Said]:
        return [each for each in self._all if each["event"] == event]

    def ended(self) -> Ending | None:
        return self._ending

    def kill(self) -> None:
        if self._ending is None:
            self._ending = KILLED
            self._broker.leave(GROUP, self._carrier)

    def drain(self) -> Ending:
        if self._ending is None:
            self.worker.stop()
            self.worker._settle(wait=True)
            self._end(Ending(0))
        return self._ending or Ending(0)

    def _end(self, ending: Ending) -> None:
        self._ending = ending
        self._carrier.close()

    def release(self) -> None:
        """Let a thread that is still frozen end."""
        if self._paused:
            self._ending = KILLED
            self.thaw()


class MemoryRig:
    """A broker in memory."""

    name = "memory"

    def __init__(self) -> None:
        self._clock = VirtualClock(now=1_000_000)
        self._broker = MemoryBroker({}, self._clock)
        self._members: list[MemoryMember] = []

    def make(self, partitions: Mapping[str, int]) -> None:
        assert not self._members
        self._broker = MemoryBroker(partitions, self._clock)

    def append(
        self, place: Place, value: bytes | None, headers: Sequence[Header] = (), key: bytes | None = None
    ) -> None:
        self._broker.append(place, value, key, headers)

    def marker(self, place: Place) -> None:
        self._broker.skip(place)
        self._broker.skip(place)

    def read(self, place: Place) -> list[Message]:
        return list(self.log().read(place, 0, self.log().end(place)))

    def log(self) -> LogReader:
        return MemoryLog(self._broker, GROUP)

    def commit(self, positions: Mapping[Place, int]) -> None:
        self._broker.groups.setdefault(GROUP, Group()).committed.update(positions)

    def start(self, handler: str, **options: Any) -> MemoryMember:
        member = MemoryMember(self._broker, handler, options)
        self._members.append(member)
        return member

    def until(self, condition: Callable[[], object], what: str, seconds: float = 45) -> None:
        for _ in range(int(seconds / STEP_SECONDS)):
            if condition():
                return
            for member in self._members:
                member.step()
            self._clock.advance(STEP_SECONDS)
        raise AssertionError(f"not within {seconds} virtual seconds: {what}")

    def close(self) -> None:
        for member in self._members:
            member.release()
