"""What a controller takes from the log: its checkpoint, watermarks, episodes and wishes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

import msgspec

from runtime.errors import InvalidMessage
from runtime.fold import passed
from runtime.ports import LogReader, Message, Place, Polled
from schemas import batch as b
from schemas import cloudevents
from schemas.judged import JUDGED, Judged
from schemas.messages import DriftEpisode, Wish
from services.training.domain.quarantine import epoch_ms
from services.training.domain.triggers import State

logger = logging.getLogger("headrace.training")

KEY = b"training/controller"
BAD_DATA = "bad_data"
GAP = 16
"""Offsets in a row that may hold no message."""


def checkpoint(log: LogReader) -> State:
    """The state that the last leader wrote, a new one before the first."""
    place, state = Place("state", 0), State()
    for message in log.read(place, log.begin(place), log.end(place)):
        if message.key == KEY and message.value:
            said = _state(message, message.value)
            state = said if said is not None and said.epoch >= state.epoch else state
    return state


def _state(message: Message, value: bytes) -> State | None:
    try:
        return msgspec.json.decode(value, type=State)
    except msgspec.DecodeError as error:
        logger.warning("foreign_message_ignored", extra={"offset": message.offset, "error": str(error)})
        return None


def passed_before(log: LogReader, place: Place, offset: int) -> int | None:
    """What the last message before an offset had passed, None where there is none."""
    found = None
    for message in log.read(place, max(log.begin(place), offset - GAP), offset):
        with suppress(b.BatchError):  # it goes to dead letters when it is handled
            found = passed(b.decode_headers(message.headers).through)
    return found


def wishes(run: Polled) -> Iterator[Wish]:
    """The wishes of operators.

    Raises:
        InvalidMessage: A message is none.
    """
    for message in run.messages:
        try:
            yield cloudevents.decode(message.value or b"", message.headers).read(Wish)
        except cloudevents.EnvelopeError as error:
            raise InvalidMessage(run.topic, run.partition, message.offset, "not_a_wish", str(error)) from error


class End(NamedTuple):
    """The end of an episode: event time in milliseconds, and why."""

    time: int
    reason: str


class Episodes:
    """The fold of `drift`, in the order of event time. What a judge says that was replaced is void.

    What is read waits until somebody has come to its time: whoever decides about an earlier one must not know it.

    Attributes:
        opened: Every episode by its id, as it was told first.
        ended: How an episode ended.
    """

    def __init__(self) -> None:
        self.opened: dict[str, DriftEpisode] = {}
        self.ended: dict[str, End] = {}
        self._epoch = 0
        self._facts: set[str] = set()
        self._ahead: list[tuple[int, str, DriftEpisode]] = []

    def knows(self, fact: str) -> bool:
        """Whether the event of that id was read."""
        return fact in self._facts

    def take(self, message: Message) -> None:
        """Read a message; one that is no episode is ignored with a warning."""
        try:
            envelope = cloudevents.decode(message.value or b"", message.headers)
            episode = envelope.read(DriftEpisode)
        except cloudevents.EnvelopeError as error:
            logger.warning("episode_ignored", extra={"offset": message.offset, "error": str(error)})
            return
        self._facts.add(envelope.id)
        if episode.epoch < self._epoch:
            return
        self._epoch = episode.epoch
        time = None if episode.state == "opened" else _time(envelope)
        self._ahead.append((epoch_ms(episode.detected_at) if time is None else time, envelope.id, episode))

    def times(self, until: int) -> list[int]:
        """The times up to one at which something that was read happened, ascending."""
        return sorted({time for time, *_ in self._ahead if time <= until})

    def come(self, until: int | None) -> None:
        """Learn what happened up to a time; None: everything that was read."""
        self._ahead.sort(key=lambda fact: fact[:2])
        while self._ahead and (until is None or self._ahead[0][0] <= until):
            time, _, episode = self._ahead.pop(0)
            if episode.state == "opened" or episode.kind == BAD_DATA:  # it stays so, even if its end alone is kept
                self.opened.setdefault(episode.id, episode)
            if episode.state == "closed":
                self.ended.setdefault(episode.id, End(time, episode.reason))


def _time(envelope: cloudevents.Envelope) -> int | None:
    """The event time that an envelope names; what an episode says of itself is as of its beginning."""
    with suppress(ValueError):
        return None if envelope.time is None else epoch_ms(datetime.fromisoformat(envelope.time))
    return None


class Judgement:
    """The fold of what judges say of how far they have come.

    Attributes:
        through: Time up to which every episode was said, milliseconds; None before a judge has spoken.
    """

    def __init__(self) -> None:
        self.through: int | None = None
        self._said: Judged | None = None

    def take(self, message: Message) -> None:
        """Fold a message of `state`; others' are passed over, and what a judge says that was replaced is void."""
        if message.key != JUDGED or not message.value:
            return
        try:
            said = msgspec.json.decode(message.value, type=Judged)
        except msgspec.DecodeError as error:
            logger.warning("foreign_message_ignored", extra={"offset": message.offset, "error": str(error)})
            return
        if self._said is None or said.epoch >= self._said.epoch:
            self._said = said

    def settle(self, episodes: Episodes) -> int | None:
        """How far the judge has come, as soon as its last episode has been read as well."""
        if self._said is not None and (not self._said.fact or episodes.knows(self._said.fact)):
            self.through = max(self._said.through, self.through or self._said.through)
        return self.through
