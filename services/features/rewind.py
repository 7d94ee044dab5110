"""Restart of the join: the log is the state, read again from where nothing that still waits can have been before.

The own output says everything: how far both inputs are covered (the greatest offset per input, as a zombie may have
written last), and, further back, the last moment at which every row and label seen was already too old to wait. From
there the inputs are folded again up to the marks, and the ids of all examples from there to the end are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runtime.errors import NEW_GENERATION, HoleFound, InvalidMessage
from runtime.fold import Fold, passed
from runtime.ports import LogReader, Message, Place, Polled
from runtime.stage import Decoded, decode
from runtime.tail import WINDOW, story, windows
from schemas import batch as b

STREAMS = (b.EVENTS, b.LABELS)


@dataclass(frozen=True, slots=True)
class Tail:
    """The newest window of the own output.

    Attributes:
        marks: Input: the greatest offset covered.
        clock: Event time that both streams have passed at least, milliseconds; None: unknown.
        topic_id: The broker's id of events.
    """

    marks: dict[str, int]
    clock: int | None
    topic_id: str


def read_tail(log: LogReader, output: Place, inputs: Sequence[str]) -> Tail:
    """What the output covers.

    Raises:
        HoleFound: The group committed inputs that no output covers.
    """
    needed = {topic: (log.committed(Place(topic, output.partition)) or 0) - 1 for topic in inputs}
    begin, end = log.begin(output), log.end(output)
    if begin == end > 0:  # retention deleted every output: what was committed was covered
        return Tail(needed, None, "")
    seen: list[b.Headers] = []
    for window in _back(log, output):
        seen = [headers for _, headers in window] + seen
        if seen and all(offset <= _marks(seen, topic) for topic, offset in needed.items()):
            break
    marks = {topic: _marks(seen, topic) for topic in inputs}
    _require(marks, needed, output)
    clocks = [passed(each.through) for each in seen]
    known = [each for each in clocks if each is not None]
    oldest = min(known) if known and len(known) == len(clocks) else None
    return Tail(marks, oldest, seen[-1].topic_id if seen else "")


def rewind(log: LogReader, output: Place, inputs: Sequence[str], before: int | None) -> tuple[Fold, int]:
    """The fold at a moment when all rows and labels were older than `before`, and where to read own output from.

    Args:
        log: The log.
        output: The own output.
        inputs: The own inputs.
        before: Time in milliseconds; None goes back to the beginning.
    """
    begin = log.begin(output)
    found: tuple[int, b.Headers] | None = None
    low = begin
    for window in _back(log, output) if before is not None else ():
        found = _last_old(window, before or 0)
        if found is not None:
            low = window[0][0]
            break
    if found is None:
        low, found = begin, _first(log, output) if begin > 0 else None
    if found is None:
        return Fold(tuple(inputs)), low
    fold = Fold(tuple(inputs), found[1].through)
    fold.marks.update({topic: _covered(found[1], topic) for topic in inputs})
    return fold, low


def inputs_again(log: LogReader, fold: Fold, marks: Mapping[str, int], partition: int) -> Iterator[tuple[str, Decoded]]:
    """The messages behind the fold's marks, up to and including the given ones."""
    for topic, mark in marks.items():
        place = Place(topic, partition)
        for message in log.read(place, fold.marks[topic] + 1, mark + 1):
            yield from ((topic, each) for each in _readable(place, message))


def _readable(place: Place, message: Message) -> list[Decoded]:
    try:
        return decode(Polled(place.topic, place.partition, [message]))
    except InvalidMessage:  # it went to dead letters when it was handled
        return []


Window = list[tuple[int, b.Headers]]


def _back(log: LogReader, output: Place) -> Iterator[Window]:
    """Windows of the output from its end to its beginning: offset and headers of each message."""
    for messages in windows(log, output):
        told = [(message.offset, story(message)) for message in messages]
        yield [(offset, headers) for offset, headers in told if headers is not None]


def _last_old(window: Window, before: int) -> tuple[int, b.Headers] | None:
    """The last of the messages up to which nothing is as young as `before`.

    The first ones of the window must all say so: a single one may be a zombie's, who had seen less than its successor.
    """
    old = [_is_old(headers, before) for _, headers in window]
    if not window or not all(old[:WINDOW]):
        return None
    run = old.index(False) if False in old else len(old)
    return window[run - 1]


def _is_old(headers: b.Headers, before: int) -> bool:
    highest = headers.through.highest if headers.through is not None else {}
    return all(highest.get(stream, before - 1) < before for stream in STREAMS)


def _first(log: LogReader, output: Place) -> tuple[int, b.Headers] | None:
    for message in log.read(output, log.begin(output), log.end(output)):
        if (headers := story(message)) is not None:
            return message.offset, headers
    return None


def _marks(seen: Sequence[b.Headers], topic: str) -> int:
    return max((_covered(headers, topic) for headers in seen), default=-1)


def _covered(headers: b.Headers, topic: str) -> int:
    first, last = headers.coverage.get(topic, (0, -1))
    return last if headers.final else first - 1


def _require(marks: Mapping[str, int], needed: Mapping[str, int], output: Place) -> None:
    for topic, offset in needed.items():
        if offset > marks[topic]:
            raise HoleFound(
                f"{topic}/{output.partition} is committed up to offset {offset}, but {output.topic}/{output.partition} "
                f"covers it only up to {marks[topic]}: output is missing. Was the topic made again? "
                f"{NEW_GENERATION}"
            )
