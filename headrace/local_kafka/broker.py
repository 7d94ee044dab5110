"""A real one-node Apache Kafka as a child of this process."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.local_kafka import guard
from headrace.local_kafka.errors import BrokerFailedError
from headrace.local_kafka.home import Home, Ports
from headrace.local_kafka.jars import Progress, fetch_jars
from headrace.local_kafka.probe import answers
from headrace.local_kafka.settings import LocalKafkaSettings

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = guard.GRACE_S + 5
_POLL_S = 0.05


class LocalKafka:
    """A broker that lives while its context, or this process, does; its data stays in `home`.

    `kill` and `restart` exist so that tests can prove that nothing is lost when a broker dies. The port is chosen at
    the first start and kept for the object's life.
    """

    def __init__(
        self,
        home: Path,
        port: int | None = None,
        *,
        settings: LocalKafkaSettings | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._home = Home(home)
        self._port = port
        self._settings = settings
        self._progress = progress
        self._ports: Ports | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    @property
    def address(self) -> str:
        """`host:port` for clients; known after the first start."""
        if self._ports is None:
            raise BrokerFailedError("the local Kafka has no address yet: call start() first")
        return self._ports.address

    @property
    def pid(self) -> int | None:
        """The process id of the broker itself, None while it does not run."""
        return self._pid

    def start(self) -> str:
        """Start the broker and return its address when it answers; fetches the jars the first time.

        Raises:
            LocalKafkaError: with the reason and the mend; nothing is left running.
        """
        jars = fetch_for(self._settings, self._progress)
        self._home.refuse_if_running()
        self.stop()  # where it died by itself, its guard is still to be collected
        ports = self._ports = self._home.choose_ports(self._ports.broker if self._ports else self._port)
        try:
            self._spawn(self._home.prepare(ports, jars))
            wait_until_ready(self._home, ports, self._alive)
        except BaseException:
            self.stop()
            raise
        return ports.address

    def stop(self) -> None:
        """Ask the broker to stop, and wait until it has; no-op when it does not run."""
        if self._guard and self._guard.stdin:
            self._guard.stdin.close()
            try:
                self._guard.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._ended()

    def kill(self) -> None:
        """Kill the broker with SIGKILL, as a crash would, and wait until it is gone."""
        if self._guard and self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._guard.wait(STOP_TIMEOUT_S)
        self._ended()

    def restart(self) -> str:
        """Stop the broker if it runs, and start it on the same port with the same data."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, command: list[str]) -> None:
        with self._home.log.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        first_line = self._guard.stdout.readline() if self._guard.stdout else b""
        if not first_line:
            raise BrokerFailedError(f"Java did not start, see {self._home.log}:\n{self._home.last_words()}")
        self._pid = int(first_line)
        self._home.remember(self._pid, self.address)

    def _alive(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    def _ended(self) -> None:
        if self._guard is None:
            return
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe:
                pipe.close()
        self._guard, self._pid = None, None
        self._home.forget()


def fetch_for(settings: LocalKafkaSettings | None, progress: Progress | None) -> list[Path]:
    """The broker's jars from where the settings (by default: the environment) say."""
    chosen = settings or LocalKafkaSettings()
    return fetch_jars(chosen.cache, chosen.maven_repository, progress)


def wait_until_ready(home: Home, ports: Ports, alive: Callable[[], bool]) -> None:
    """Return when the broker answers clients.

    Raises:
        BrokerFailedError: its process ended, or a minute is over.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not answers(ports.broker):
        if not alive():
            raise BrokerFailedError(f"Kafka ended while it started, see {home.log}:\n{home.last_words()}")
        if time.monotonic() > deadline:
            waited = f"Kafka did not answer on {ports.address} within {READY_TIMEOUT_S} s"
            raise BrokerFailedError(f"{waited}, see {home.log}:\n{home.last_words()}")
        time.sleep(_POLL_S)
