"""What a controller takes from the log: its checkpoint, watermarks, episodes and wishes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from runtime.errors import InvalidMessage
from runtime.fold import passed
from runtime.ports import LogReader, Message, Place, Polled
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import DriftEpisode, Wish
from services.training.domain.triggers import State

logger = logging.getLogger("headrace.training")

KEY = b"training/controller"
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


class Episodes:
    """The fold of `drift`: concept episodes by id. What a judge says that was replaced is void."""

    def __init__(self) -> None:
        self.opened: dict[str, DriftEpisode] = {}
        self._epoch = 0

    def take(self, message: Message) -> None:
        """Fold a message; one that is no episode is ignored with a warning."""
        try:
            episode = cloudevents.decode(message.value or b"", message.headers).read(DriftEpisode)
        except cloudevents.EnvelopeError as error:
            logger.warning("episode_ignored", extra={"offset": message.offset, "error": str(error)})
            return
        if episode.epoch < self._epoch:
            return
        self._epoch = episode.epoch
        if episode.kind == "concept" and episode.state == "opened":
            self.opened.setdefault(episode.id, episode)
