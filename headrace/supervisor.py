"""Runs the services as child processes: starts them, restarts what crashed, stops all in order.

A child that ends with 2 before it was ever ready says that a person has to mend something: everything stops. Any other
end that nobody asked for is a crash, and the child starts again after a pause that grows while it keeps crashing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from headrace.errors import RunFailed
from headrace.process import OnLine, Plan, Process
from runtime.clock import SystemClock
from runtime.errors import WrongSetup
from runtime.ports import Clock

DRAIN_S = 10.0
WATCH_S = 0.1
STEADY_S = 30.0
"""A child that ran for so long has recovered: its next crash counts as the first."""
PAUSES_S = (0.3, 1.0, 2.0, 5.0, 10.0)
WRONG_SETUP = 2
ASK_S = 1.0
"""How often a child is asked whether it is ready, until it is."""
OnCrash = Callable[[str, int, float], None]
"""Called with a child's name, its exit code and the seconds until it starts again."""


class Supervisor:
    """Keeps children running until `stop`, or until one says that its setup is wrong.

    All methods may be called from any thread. As a context it starts on entry and stops on exit.

    Args:
        plans: What to run, upstream first.
        on_line: Who hears what the children write.
        on_crash: Who hears of crashes.
        clock: Time.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        on_line: OnLine = lambda *_: None,
        on_crash: OnCrash = lambda *_: None,
        clock: Clock | None = None,
    ) -> None:
        self._processes = {plan.name: Process(plan, on_line) for plan in plans}
        self._on_crash, self._clock = on_crash, clock or SystemClock()
        self._lock = threading.RLock()
        self._wanted: set[str] = set()
        self._crashes: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._proven: set[str] = set()  # was ready once: its setup is right, whatever it ends with
        self._asked_at = 0.0
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None
        self.refused: str | None = None
        """Name of the child that ended with 2 before it was ready."""
        self.ended = threading.Event()
        """Set when a child was refused and the others are being stopped."""

    @property
    def names(self) -> list[str]:
        """The children, upstream first."""
        return list(self._processes)

    def pid(self, name: str) -> int | None:
        """Process id of a child while it runs."""
        return self._processes[name].pid

    def prepare(self) -> None:
        """Let every child that nobody has started import what it needs meanwhile; `start` lets them run.

        Nobody looks after these yet. One that crashed is left alone: it starts again by itself.
        """
        with self._lock:
            for name, process in self._processes.items():
                if name not in self._wanted:
                    process.prepare()

    def start(self, name: str | None = None) -> None:
        """Start one child, or all."""
        with self._lock:
            for each in self._chosen(name):
                self._wanted.add(each)
                self._launch(each)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
                self._watcher.start()

    def stop(self, name: str | None = None) -> None:
        """Let one child, or all, finish what they do for up to ten seconds, then kill; returns when they are gone."""
        if name is None:
            self._closing.set()
        with self._lock:
            chosen = [self._processes[each] for each in self._chosen(name)]
            self._wanted -= {process.plan.name for process in chosen}
            for process in chosen:
                process.signal(signal.SIGTERM)
                process.signal(signal.SIGCONT)  # a suspended one hears only this
        deadline = self._clock.monotonic() + DRAIN_S
        for process in chosen:
            if not process.wait(max(0.0, deadline - self._clock.monotonic())):
                process.kill()

    def kill(self, name: str) -> None:
        """Kill a child with SIGKILL; it starts again as after any crash."""
        self._processes[name].kill()

    def suspend(self, name: str) -> None:
        """Freeze a child with SIGSTOP until `resume`."""
        self._processes[name].signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a suspended child go on."""
        self._processes[name].signal(signal.SIGCONT)

    def ready(self) -> list[str]:
        """The children whose /ready says yes."""
        ready = [name for name, process in self._processes.items() if process.ready()]
        self._proven.update(ready)
        return ready

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Return when every wanted child is ready.

        Raises:
            WrongSetup: One ended with 2; the text is what it wrote.
            RunFailed: Time is over; the text names who is missing and what it wrote last.
        """
        deadline = self._clock.monotonic() + seconds
        while missing := sorted(self._wanted - set(self.ready())):
            if self._clock.monotonic() > deadline:
                raise RunFailed(
                    f"not ready after {seconds:.0f} s: {', '.join(missing)}. The last lines of {missing[0]}:\n"
                    + self._last_words(missing[0])
                )
            self._clock.sleep(WATCH_S)
        self.raise_refusal()

    def raise_refusal(self) -> None:
        """Raise WrongSetup with its words when a child ended with 2."""
        if self.refused is not None:
            raise WrongSetup(f"{self.refused} cannot run:\n{self._last_words(self.refused)}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _chosen(self, name: str | None) -> Iterable[str]:
        return list(self._processes) if name is None else [name]

    def _last_words(self, name: str) -> str:
        return "\n".join(f"  {line}" for line in self._processes[name].last_lines) or "  (it wrote nothing)"

    def _launch(self, name: str) -> None:
        self._started[name] = self._clock.monotonic()
        self._processes[name].start()

    def _watch(self) -> None:
        while not self._closing.wait(WATCH_S):
            with self._lock:
                for name in [each for each in self._processes if each in self._wanted]:
                    self._look_after(name)
            self._ask_unproven()

    def _ask_unproven(self) -> None:
        now = self._clock.monotonic()
        if now - self._asked_at >= ASK_S:
            self._asked_at = now
            unproven = [each for each in self._processes if each in self._wanted - self._proven]
            self._proven.update(each for each in unproven if self._processes[each].ready())

    def _look_after(self, name: str) -> None:
        process, now = self._processes[name], self._clock.monotonic()
        if process.running or self._closing.is_set():
            return
        if name in self._due:
            if now >= self._due[name]:
                del self._due[name]
                self._launch(name)
            return
        process.wait(0)
        if process.exit_code == WRONG_SETUP and name not in self._proven:
            self._refuse(name)
        else:
            self._schedule(name, process.exit_code or 0, now)

    def _refuse(self, name: str) -> None:
        self.refused = name
        self._wanted.clear()
        for process in self._processes.values():
            process.signal(signal.SIGTERM)
        self.ended.set()

    def _schedule(self, name: str, code: int, now: float) -> None:
        crashes = 0 if now - self._started[name] > STEADY_S else self._crashes.get(name, 0)
        pause = PAUSES_S[min(crashes, len(PAUSES_S) - 1)]
        self._crashes[name] = crashes + 1
        self._due[name] = now + pause
        self._on_crash(name, code, pause)
