"""Where a counter takes up: its newest counts, the rows of panes that were open by then, and the inputs since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from runtime.errors import NEW_GENERATION, HoleFound, InvalidMessage
from runtime.ports import LogReader, Message, Place, Polled
from runtime.stage import Decoded, decode
from runtime.tail import story, windows
from schemas import batch as b

OUTPUT = "drift-counts"


class Resumed(NamedTuple):
    """What the newest counts say: input offset covered, last closed pane, state of the fold."""

    mark: int = -1
    closed: int | None = None
    through: b.Through | None = None


def newest(log: LogReader, place: Place) -> Resumed:
    """The greatest coverage of an input among the newest counts of its partition: the very last may be a zombie's.

    Lower than the truth is harmless: what is said again closes panes that every reader has closed.
    """
    for window in windows(log, Place(OUTPUT, place.partition)):
        found = [_resumed(message, place.topic) for message in window]
        if known := [each for each in found if each is not None]:
            return max(known, key=lambda each: each.mark)
    return Resumed()


def _resumed(message: Message, source: str) -> Resumed | None:
    headers = story(message)
    if headers is None or not headers.final or headers.panes is None or source not in headers.coverage:
        return None
    return Resumed(headers.coverage[source][1], headers.panes[1], headers.through)


def rewind(
    log: LogReader, place: Place, end: int, time: int, highest: Callable[[b.Through], int | None]
) -> list[Decoded]:
    """Inputs before an offset, in order, among them all that hold rows of a time or later.

    Args:
        log: The log.
        place: The input.
        end: The offset.
        time: The time that panes which are open begin with.
        highest: A time that no row has exceeded which its writer had seen, None where that is not known.
    """
    found: list[Decoded] = []
    for messages in windows(log, place, end):
        window = _readable(place, messages)
        found = window + found
        if any(_before(message.headers, time, highest) for message in window):
            break
    return found


def _before(headers: b.Headers, time: int, highest: Callable[[b.Through], int | None]) -> bool:
    """Whether neither this message nor any before it has a row of that time; only a whole message can tell."""
    known = highest(headers.through) if headers.through is not None else None
    return headers.final and known is not None and known < time


def run_on(log: LogReader, place: Place, start: int) -> Iterator[Decoded]:
    """Inputs from an offset up to the commit.

    Raises:
        HoleFound: Retention deleted some of them.
    """
    stop = log.committed(place) or 0
    begin = log.begin(place)
    if start < stop and 0 < start < begin:
        raise HoleFound(
            f"{place.topic}/{place.partition} begins at offset {begin}, but {OUTPUT}/{place.partition} covers "
            f"it only up to {start - 1}: what lay between was deleted before it was counted. {NEW_GENERATION}"
        )
    yield from _readable(place, log.read(place, start, stop))


def _readable(place: Place, messages: Iterable[Message]) -> list[Decoded]:
    """Inputs; what nobody can decode went to the dead letters when it was handled."""
    found: list[Decoded] = []
    for message in messages:
        with suppress(InvalidMessage):
            found += decode(Polled(place.topic, place.partition, [message]))
    return found
