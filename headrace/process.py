"""One child process: starting it, listening to it, signals, and whether it is ready."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace import child
from headrace.settings import environment_with

LAST_LINES = 20
READY_TIMEOUT_S = 1.0
OnLine = Callable[[str, str], None]
"""Called with the process's name and a line that it wrote; from a thread of its own."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process is to run."""

    name: str
    """Unique in its supervisor, such as `ingestion` or `ingestion-2`."""
    module: str
    environment: Mapping[str, str]
    """Added to that of this process."""


class Process:
    """A child that runs a plan, over all its starts.

    Args:
        plan: What to run.
        on_line: Who hears what it writes.
    """

    def __init__(self, plan: Plan, on_line: OnLine) -> None:
        self.plan, self._on_line = plan, on_line
        self._popen: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        self._port: int | None = None
        self._released = False
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)

    def start(self) -> None:
        """Start it, or let it run when it is prepared; no-op while it runs."""
        self.prepare()
        if self._popen and self._popen.stdin and not self._released:
            with contextlib.suppress(BrokenPipeError):  # it ended already: its exit code tells the rest
                self._popen.stdin.write("run\n")
                self._popen.stdin.flush()
            self._released = True

    def prepare(self) -> None:
        """Start a process that imports everything and then waits for `start`; no-op while one runs."""
        if self.running:
            return
        self._port, self._released = None, False
        root = str(Path(child.__file__).parent.parent)
        self._popen = subprocess.Popen(
            [sys.executable, "-P", child.__file__, root, self.plan.module],
            env=environment_with(self.plan.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # a Ctrl-C is for the supervisor, which ends its children in order
        )
        self._listener = threading.Thread(target=self._listen, args=(self._popen,), daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._popen.pid if self._popen and self.running else None

    @property
    def running(self) -> bool:
        """Whether it runs, suspended or not."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended last; negative by a signal, None while it runs or never did."""
        return self._popen.poll() if self._popen else None

    def signal(self, number: int) -> None:
        """Send a signal; no-op when it does not run."""
        if (pid := self.pid) is not None:
            os.kill(pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds, with everything it wrote heard."""
        if self._popen is None:
            return True
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._close()
        return True

    def kill(self) -> None:
        """Kill it at once, as a crash would, suspended or not, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(READY_TIMEOUT_S * 5)

    def ready(self) -> bool:
        """Whether its /ready says yes; False while it starts, hangs or does not run."""
        if self._port is None or not self.running:
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/ready", timeout=READY_TIMEOUT_S) as answer:
                return bool(answer.status == 200)  # noqa: PLR2004 - HTTP
        except (OSError, urllib.error.URLError):
            return False

    def _close(self) -> None:
        if self._listener:
            self._listener.join(READY_TIMEOUT_S)
        for pipe in (self._popen.stdin, self._popen.stdout) if self._popen else ():
            if pipe and not (self._listener and self._listener.is_alive()):
                pipe.close()

    def _listen(self, popen: subprocess.Popen[str]) -> None:
        for line in popen.stdout or ():
            text = line.rstrip("\n")
            self._notice_port(text)
            self.last_lines.append(text)
            self._on_line(self.plan.name, text)

    def _notice_port(self, text: str) -> None:
        """A service chooses a free port for its health pages and logs it as it starts."""
        if self._port is None and '"metrics_port"' in text:
            try:
                self._port = int(json.loads(text)["metrics_port"])
            except (ValueError, KeyError, TypeError):
                return
