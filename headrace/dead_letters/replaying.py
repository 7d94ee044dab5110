"""Puts what was refused back on its topic, once: also when killed, run again, or run by two people at a time.

Every transaction holds originals and, for each, its entry in the ledger. Who replays opens the only writer of the
name REPLAY first, which ends every other one, and reads the ledger then: nobody else can add to it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headrace.dead_letters.identity import Identities
from headrace.dead_letters.reading import Letter
from runtime.errors import WrongSetup
from runtime.ports import LogReader, Outgoing
from schemas.messages import DeadLetter
from schemas.topics import BY_NAME, MAX_MESSAGE_BYTES

WRITER = "dead-letters-replay"
PROVENANCE = f"{DeadLetter.prefix}replayed"
"""Header of a replayed message: the id of its dead letter. It replaces our other headers, the original's stay."""
MOST_LETTERS, MOST_BYTES = 500, 8 << 20
"""Of one transaction: it is over within a second, and readers wait no longer."""
ROOM = 1 << 10
"""What a topic's limit has to leave for headers and framing."""


class Publisher(Protocol):
    """The part of a transactional writer that writes."""

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Write all messages or none."""


@dataclass(slots=True)
class Tally:
    """How a replay stands.

    Attributes:
        matched: Letters that were meant.
        replayed: Those put back now.
        before: Those that had been put back earlier.
        left: Those that cannot be put back: why, and how many.
    """

    matched: int = 0
    replayed: int = 0
    before: int = 0
    left: dict[str, int] = field(default_factory=dict)


def original(letter: Letter) -> Outgoing:
    """The refused message as it was, with a header that names its dead letter."""
    story, message = letter.story, letter.message
    headers = [*letter.original_headers, (PROVENANCE, story.id.encode())]
    return Outgoing(story.topic, story.partition, message.value, message.key, headers)


def returnable(topic: str) -> bool:
    """Whether others than its services may write to a topic."""
    return topic in BY_NAME and BY_NAME[topic].public == "in"


class Obstacles:
    """Why a letter cannot be put back.

    Args:
        log: Which topics there are.
    """

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._counts: dict[str, int] = {}

    def of(self, letter: Letter) -> str | None:
        """The obstacle, None where there is none."""
        if letter.story.cut:
            return f"only the beginning of its {letter.story.cut} bytes was kept: its producer has to send it again"
        topic = BY_NAME.get(letter.story.topic)
        if topic is None:
            return f"{letter.story.topic} is not a topic of this version"
        if not returnable(topic.name):
            return (
                f"{topic.name} is internal: what {' and '.join(topic.writers)} wrote is not written again by anybody "
                "else. Mend the writer; what it read is still on its own topics"
            )
        if letter.story.partition >= self._partitions(topic.name):
            return f"{topic.physical('<pipeline>')} or its partition is not there any more: `headrace up` makes topics"
        if _size(original(letter)) > MAX_MESSAGE_BYTES - ROOM:
            return f"with {PROVENANCE} it is above {MAX_MESSAGE_BYTES} bytes: send it in smaller messages"
        return None

    def _partitions(self, topic: str) -> int:
        if topic not in self._counts:
            try:
                self._counts[topic] = self._log.partitions(topic)
            except WrongSetup:
                self._counts[topic] = 0
        return self._counts[topic]


class Replay:
    """One run.

    Args:
        ledger: What was replayed already; grows with what is replayed now.
        obstacles: What cannot be replayed.
        entry: Makes the ledger's entry of a letter.
        publisher: The writer; None to count only.
    """

    def __init__(
        self,
        ledger: Identities,
        obstacles: Obstacles,
        entry: Callable[[Letter], Outgoing],
        publisher: Publisher | None,
    ) -> None:
        self._ledger, self._obstacles, self._entry, self._publisher = ledger, obstacles, entry, publisher
        self._open: list[Letter] = []
        self._bytes = 0
        self.tally = Tally()

    def run(self, letters: Iterable[Letter], on_progress: Callable[[Tally], None] = lambda _: None) -> Tally:
        """Put the letters back, in transactions; `tally` counts what is done also where this raises.

        Raises:
            Fenced: Somebody else began a replay.
            DeliveryFailed: The broker refused a message or went away.
        """
        for letter in letters:
            self._take(letter)
            if len(self._open) >= MOST_LETTERS or self._bytes >= MOST_BYTES:
                self._flush()
            on_progress(self.tally)
        self._flush()
        on_progress(self.tally)
        return self.tally

    def _take(self, letter: Letter) -> None:
        self.tally.matched += 1
        if letter.identity in self._ledger:
            self.tally.before += 1
        elif (why := self._obstacles.of(letter)) is not None:
            self.tally.left[why] = self.tally.left.get(why, 0) + 1
        else:
            self._open.append(letter)
            self._bytes += _size(original(letter))

    def _flush(self) -> None:
        if self._open and self._publisher is not None:
            self._publisher.publish([*map(original, self._open), *map(self._entry, self._open)])
        for letter in self._open:
            self._ledger.add(letter.identity)
        self.tally.replayed += len(self._open)
        self._open, self._bytes = [], 0


def _size(message: Outgoing) -> int:
    headers = sum(len(name.encode()) + len(value) for name, value in message.headers)
    return len(message.value or b"") + len(message.key or b"") + headers
