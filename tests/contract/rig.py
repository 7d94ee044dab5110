"""What the contract suite needs from a carrier: a log to prepare and read, and workers to start, freeze and kill.

A case says what happens; a rig makes it happen. In memory a worker is an object that `until` steps in virtual time; on
a broker it is a process (`tests/contract/process.py`) and `until` polls. `tests/contract/broker_rig.py` drives
every carrier that is named in `tests/contract/process.py`, so a new carrier is one line there and one in `conftest.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from runtime.ports import Header, LogReader, Message, Place

GROUP = "contract"

Said = dict[str, Any]
"""One thing that a handler reports, e.g. ``{"event": "restored", "topic": "records", "partition": 1}``."""


class Ending(NamedTuple):
    """How a worker ended. `code` is 0 for a drained one; `error` names the exception's class, `text` is its message."""

    code: int
    error: str = ""
    text: str = ""


KILLED = Ending(-9, "Killed")


class Member(Protocol):
    """One worker with a test handler, running."""

    def said(self, event: str) -> list[Said]:
        """What its handler reported so far under this name, in order."""

    def kill(self) -> None:
        """End it as `kill -9` does: nothing is committed, the group learns of it by the session time-out."""

    def drain(self) -> Ending:
        """Ask it to stop (SIGTERM) and return how it ended; fails when that takes 10 seconds or more."""

    def ended(self) -> Ending | None:
        """How it ended, None while it runs."""

    def frozen(self) -> bool:
        """Whether it stands still (a handler with the option `freeze` stops itself)."""

    def thaw(self) -> None:
        """Let a frozen one go on; in virtual time nine seconds have passed by then."""


class Rig(Protocol):
    """A log of its own for one case."""

    name: str

    def make(self, partitions: Mapping[str, int]) -> None:
        """Make topics, by logical name."""

    def append(
        self, place: Place, value: bytes | None, headers: Sequence[Header] = (), key: bytes | None = None
    ) -> None:
        """Write one message behind the last one."""

    def marker(self, place: Place) -> None:
        """Use up offsets as an aborted transaction does: a message that nobody may see, and its marker."""

    def read(self, place: Place) -> list[Message]:
        """Everything that a reader may see."""

    def log(self) -> LogReader:
        """The log reader of the carrier under test, in the group `GROUP`."""

    def commit(self, positions: Mapping[Place, int]) -> None:
        """Set the committed positions of `GROUP`, which has no member."""

    def start(self, handler: str, **options: Any) -> Member:
        """Start a worker in `GROUP` with a handler of `tests.contract.handlers`, by name."""

    def until(self, condition: Callable[[], object], what: str, seconds: float = 45) -> None:
        """Let the workers work until the condition holds; AssertionError that says `what` when it does not."""
