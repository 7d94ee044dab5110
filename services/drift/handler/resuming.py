"""Where a counter takes up: its newest counts, the rows of panes that were open by then, and the inputs since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from runtime.errors import NEW_GENERATION, HoleFound, InvalidMessage
from runtime.ports import Header, LogReader, Place, Polled
from runtime.stage import Decoded, decode
from runtime.tail import WINDOW
from schemas import batch as b

SOURCE, OUTPUT = "examples", "drift-counts"


class Resumed(NamedTuple):
    """What the newest counts say: input offset covered, last closed pane, state of the fold."""

    mark: int = -1
    closed: int | None = None
    through: b.Through | None = None


def newest(log: LogReader, partition: int) -> Resumed:
    """The greatest coverage among the newest counts of a partition: the very last may be a zombie's.

    Lower than the truth is harmless: what is said again closes panes that every reader has closed.
    """
    place = Place(OUTPUT, partition)
    low, high, step = log.begin(place), log.end(place), WINDOW
    while high > low:
        found = [_resumed(message.headers) for message in log.read(place, max(low, high - step), high)]
        known = [each for each in found if each is not None]
        if known:
            return max(known, key=lambda each: each.mark)
        high, step = max(low, high - step), step * 8
    return Resumed()


def _resumed(headers: Sequence[Header]) -> Resumed | None:
    story = b.decode_headers(headers)
    if not story.final or story.panes is None:
        return None
    return Resumed(story.coverage[SOURCE][1], story.panes[1], story.through)


def rewind(log: LogReader, place: Place, end: int, time: int) -> list[Decoded]:
    """Inputs before an offset, in order, among them all that hold rows with a label time of `time` or later."""
    found: list[Decoded] = []
    low, high, step = log.begin(place), end, WINDOW
    while high > low:
        window = _read(log, place, max(low, high - step), high)
        found = window + found
        if any(_before(message.headers, time) for message in window):
            break
        high, step = max(low, high - step), step * 2
    return found


def _before(headers: b.Headers, time: int) -> bool:
    """Whether neither this message nor any before it has a label of that time; only a whole message can tell."""
    highest = headers.through.highest.get(b.LABELS) if headers.through is not None else None
    return headers.final and highest is not None and highest < time


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
    yield from _read(log, place, start, stop)


def _read(log: LogReader, place: Place, start: int, stop: int) -> list[Decoded]:
    """Inputs of a span; what nobody can decode went to the dead letters when it was handled."""
    found: list[Decoded] = []
    for message in log.read(place, start, stop):
        with suppress(InvalidMessage):
            found += decode(Polled(place.topic, place.partition, [message]))
    return found
