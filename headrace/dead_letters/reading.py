"""Reads the topic `dead-letters`: each letter once, however many copies there are, in memory that hardly grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from headrace.dead_letters.identity import Identities, Identity
from headrace.dead_letters.wanted import Wanted
from headrace.following import places
from runtime.dead_letters import TOPIC
from runtime.ports import Header, LogReader, Message, Place
from schemas.messages import DeadLetter


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter where it lies.

    Attributes:
        story: What was refused and why.
        place: Its own partition.
        message: The original's key, value and headers, ours behind them.
    """

    story: DeadLetter
    place: Place
    message: Message

    @property
    def identity(self) -> Identity:
        """What is refused."""
        return Identity.of(self.story)

    @property
    def original_headers(self) -> list[Header]:
        """Those that came with the refused message; the names `headrace-*` are ours."""
        return [(name, value or b"") for name, value in self.message.headers if not name.startswith(DeadLetter.prefix)]

    @property
    def notes(self) -> dict[str, str]:
        """What our headers say beyond what every letter has, by name without prefix."""
        prefix = DeadLetter.prefix
        ours = {name.removeprefix(prefix): value for name, value in self.message.headers if name.startswith(prefix)}
        beyond = ours.keys() - (DeadLetter.model_fields.keys() - DeadLetter.seldom)
        return {name: (value or b"").decode(errors="replace") for name, value in ours.items() if name in beyond}


class Reading:
    """One pass over the letters that are on the log when it begins: what comes meanwhile is for the next pass.

    Args:
        log: Where they lie.
        wanted: Which ones.

    Attributes:
        total: Messages to read.
        done: Messages read.
        unreadable: Messages that are no dead letters.
    """

    def __init__(self, log: LogReader, wanted: Wanted) -> None:
        self._log, self._wanted = log, wanted
        self._spans = {place: (log.begin(place), log.end(place)) for place in _places(log, wanted)}
        self.total = sum(max(end - begin, 0) for begin, end in self._spans.values())
        self.done = self.unreadable = 0

    def __iter__(self) -> Iterator[Letter]:
        """The wanted letters, partition after partition, of each the first copy."""
        for place, (begin, end) in self._spans.items():
            seen = Identities()  # the letters of a source partition, copies too, share one partition here
            before = self.done
            for message in self._log.read(place, begin, end):
                self.done = before + message.offset + 1 - begin
                letter = self._letter(place, message)
                if letter is not None and self._takes(letter) and seen.add(letter.identity):
                    yield letter
            self.done = before + max(end - begin, 0)

    def _takes(self, letter: Letter) -> bool:
        return self._wanted.takes(letter.identity, letter.story.reason, letter.message.timestamp)

    def _letter(self, place: Place, message: Message) -> Letter | None:
        headers = [(name, value or b"") for name, value in message.headers]
        try:
            return Letter(DeadLetter.from_headers(headers), place, message)
        except ValidationError:
            self.unreadable += 1
            return None


def _places(log: LogReader, wanted: Wanted) -> list[Place]:
    found = places(log, TOPIC)
    if wanted.identity is None:
        return found
    return [found[wanted.identity.partition % len(found)]]  # where runtime.dead_letters puts it
