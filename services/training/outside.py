"""Fits in a process of their own: what becomes of it leaves the controller as it is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe

import msgspec
import pyarrow as pa

from runtime.estimators import loads
from runtime.metrics import Metrics
from runtime.ports import Clock
from services.training import child
from services.training.domain.estimators import Refused
from services.training.domain.fitting import Fit, parts
from services.training.domain.work import Result, Work, packed
from services.training.fits import Failed, Pending

END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fit may take.

    Attributes:
        seconds: From its order on.
        megabytes: Resident memory of its process.
    """

    seconds: float
    megabytes: int


class Outside:
    """One child process, started ahead, for its imports take seconds; another one where that did not end well.

    Args:
        limits: What a fit may take.
        metrics: Where processor time is counted.
        clock: Time.
        trusted: Types that a model may hold besides those of the list.
    """

    def __init__(self, limits: Limits, metrics: Metrics, clock: Clock, trusted: Sequence[str] = ()) -> None:
        self._limits, self._metrics, self._clock, self._trusted = limits, metrics, clock, tuple(trusted)
        self._waiter = ThreadPoolExecutor(1, "fit")
        self._child: Child | None = None
        self._asked: _Asked | None = None
        self._made: Fit | None = None

    def prepare(self) -> None:
        """Start the process of the next fit."""
        if self._child is None:
            self._child = Child(self._limits, self._clock)

    def fit(self, key: Hashable, work: Work) -> Fit:
        """As there."""
        if self._asked is None or self._asked.key != key:
            self._ask(key, work)
        if self._made is None:
            self._made = self._answer(work)
        return self._made

    def drop(self) -> None:
        """End the process at once."""
        if self._child is not None:
            self._child.end()
        self._child = self._asked = self._made = None

    @property
    def pid(self) -> int | None:
        """The process of the fits."""
        return None if self._child is None else self._child.pid

    def _ask(self, key: Hashable, work: Work) -> None:
        if self._asked is not None and not self._asked.answer.done():
            self.drop()
        self._made = None
        self.prepare()
        order, rows = packed(work)
        if (child := self._child) is not None:  # as `prepare` has seen to
            self._asked = _Asked(key, child, self._waiter.submit(child.ask, order, rows))

    def _answer(self, work: Work) -> Fit:
        if self._asked is None or not self._asked.answer.done():
            raise Pending
        if self._asked.answer.exception() is not None and self._child is self._asked.child:  # it has ended
            self._child = None
            self.prepare()
        result = msgspec.msgpack.decode(self._asked.answer.result(), type=Result)
        self._metrics.fit_seconds.observe(result.cpu_seconds)
        return _fit(result, work, self._trusted)


@dataclass(frozen=True, slots=True)
class _Asked:
    key: Hashable
    child: Child
    answer: Future[bytes]


class Child:
    """A process that makes fits, one after the other.

    Args:
        limits: What each may take.
        clock: Time.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._ours, theirs = Pipe()
        arguments = [json.dumps(sys.path), str(theirs.fileno()), str(limits.megabytes << 20)]
        with theirs:
            self._popen = subprocess.Popen(  # noqa: S603 - our own code, on our own interpreter
                [sys.executable, "-P", "-c", child.BOOT, *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C is for the controller
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def ask(self, order: bytes, rows: pa.Buffer) -> bytes:
        """The packed result.

        Raises:
            Failed: It came to no end; the process has ended.
        """
        began = self._clock.monotonic()
        try:
            self._ours.send_bytes(order)
            self._ours.send_bytes(rows)
            if not self._ours.poll(self._limits.seconds):
                self.end()
                reason = f"it was ended after {self._limits.seconds:.0f} s, all that HEADRACE_FIT_LIMIT_S allows"
                raise Failed(reason, self._figures(began))
            return self._ours.recv_bytes()
        except (EOFError, OSError) as error:
            failed = Failed(self._ended(), self._figures(began))
            self.end()
            raise failed from error

    def end(self) -> None:
        """Kill it, if it is still there; who waits for its answer hears that."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.kill()
            self._popen.wait(END_SECONDS)

    def _figures(self, began: float) -> dict[str, float]:
        limits = self._limits
        taken = round(self._clock.monotonic() - began, 3)
        return {"seconds": taken, "most_seconds": limits.seconds, "most_megabytes": limits.megabytes}

    def _ended(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(END_SECONDS)
        code = self._popen.returncode
        if code == child.TOO_LARGE:
            return f"it needed more than {self._limits.megabytes} MB, all that HEADRACE_FIT_MEMORY_MB allows"
        if code is not None and code < 0:
            told = signal.Signals(-code).name
            return f"its process was ended by {told}; where nobody sent that, the system was short of memory"
        return f"its process ended with exit code {code}; what it said last is in the log of training"


def _fit(result: Result, work: Work, trusted: Sequence[str]) -> Fit:
    if result.encoding is None or result.verdict is None or result.outputs is None:
        raise Refused(result.refused)
    spent = {"fit_seconds": round(result.seconds, 3), "fit_megabytes": float(result.peak_bytes >> 20)}
    estimator = loads(result.estimator, trusted)
    held_out = parts(work.rows)[1]
    outputs = result.outputs.array
    return Fit(estimator, result.encoding, work.seed, held_out, result.verdict, outputs, result.learnt, spent)
