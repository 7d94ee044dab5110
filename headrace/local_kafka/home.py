"""The directory of one local broker: its data, its log, its ports, and who runs on it."""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from headrace.local_kafka.errors import AlreadyRunningError, PortTakenError
from headrace.local_kafka.jvm import broker_command, format_storage, java_command
from headrace.local_kafka.probe import HOST, free_ports, is_free
from headrace.local_kafka.properties import server_properties

_LAST_LINES = 15
_CLOCK_STEP_S = 2.0
"""The system computes start times from the wall clock, which may be corrected meanwhile."""


@dataclass(frozen=True, slots=True)
class Running:
    """A broker that lives: its process and the address for clients."""

    pid: int
    started: float
    """When the process began, as the system counts; a later process with the same id has another."""
    address: str


@dataclass(frozen=True, slots=True)
class Ports:
    """Where clients and where the broker's own controller connect."""

    broker: int
    controller: int

    @property
    def address(self) -> str:
        """What a client is told."""
        return f"{HOST}:{self.broker}"


@dataclass(frozen=True, slots=True)
class Home:
    """Paths of one broker's directory, and the state file in it."""

    root: Path

    @property
    def log(self) -> Path:
        """What the broker said, over all its starts."""
        return self.root / "server.log"

    @property
    def _state(self) -> Path:
        return self.root / "running.json"

    def running(self) -> Running | None:
        """The broker that lives on this directory now; a dead one's leavings do not count."""
        try:
            found = Running(**json.loads(self._state.read_text("utf-8")))
            process = psutil.Process(found.pid)
            same = abs(process.create_time() - found.started) < _CLOCK_STEP_S
            alive = same and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, TypeError, psutil.Error):
            return None
        return found if alive else None

    def refuse_if_running(self) -> None:
        """Raise AlreadyRunningError when a broker lives on this directory: two would ruin its data."""
        if found := self.running():
            raise AlreadyRunningError(
                f"a Kafka already runs on {self.root} at {found.address} (process {found.pid}). "
                "Use it, stop it with `headrace kafka stop`, or choose another directory."
            )

    def remember(self, pid: int, address: str) -> Running:
        """Write down who runs here, for `running` of any process.

        Raises:
            psutil.NoSuchProcess: it has ended already.
        """
        state = Running(pid, psutil.Process(pid).create_time(), address)
        temporary = self._state.with_suffix(".part")
        temporary.write_text(json.dumps(asdict(state)), "utf-8")
        temporary.replace(self._state)
        return state

    def forget(self) -> None:
        """Remove what `remember` wrote."""
        with contextlib.suppress(FileNotFoundError):
            self._state.unlink()

    def choose_ports(self, wished: int | None) -> Ports:
        """Ports for the next start.

        Raises:
            PortTakenError: somebody listens on the wished port.
        """
        if wished is None:
            return Ports(*free_ports(2))
        if not is_free(wished):
            raise PortTakenError(
                f"port {wished} is taken by another process. Choose another one with --port, or stop what listens "
                "there; a Kafka that listens there already can be used with --brokers."
            )
        return Ports(wished, *free_ports(1))

    def prepare(self, ports: Ports, jars: list[Path]) -> list[str]:
        """Write the configuration, format the storage if it is new, and give the command that runs the broker."""
        data, properties = self.root.resolve() / "data", self.root.resolve() / "server.properties"
        data.mkdir(parents=True, exist_ok=True)
        properties.write_text(server_properties(data, ports.broker, ports.controller), "utf-8")
        java = java_command(jars)
        format_storage(java, data, properties)
        return broker_command(java, properties)

    def last_words(self) -> str:
        """The end of the broker's log, for an error message."""
        try:
            lines = self.log.read_text("utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return "(it wrote no log)"
        return "\n".join(lines[-_LAST_LINES:])
