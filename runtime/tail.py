"""Restart = read your own output's tail.

The newest message is not always the one that covers most: a zombie may have written last. So the newest window of the
output is read and the greatest coverage taken; when that does not reach the committed input, the window is widened.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from runtime.errors import NEW_GENERATION, HoleFound, WrongSetup
from runtime.fold import Fold
from runtime.ports import LogReader, Message, Place
from schemas.batch import BatchError, Headers, decode_headers

logger = logging.getLogger("headrace.tail")

WINDOW = 16
"""Offsets read first; a zombie writes at most what it had buffered."""

WIDER = 4
"""How much wider each window further back is: whoever reads far back reads few times."""


def windows(log: LogReader, place: Place, stop: int | None = None, size: int = WINDOW) -> Iterator[Iterator[Message]]:
    """All messages before an offset, the newest window first; within a window in the order of the log.

    A window is read while it is used: nobody holds the values of a wide one who only needs the headers.

    Args:
        log: The log.
        place: What to read.
        stop: The offset; None for the end.
        size: Offsets of the newest window.
    """
    begin, high = log.begin(place), log.end(place) if stop is None else stop
    while high > begin:
        low = max(begin, high - size)
        yield log.read(place, low, high)
        high, size = low, size * WIDER


def story(message: Message) -> Headers | None:
    """The headers of a message of an own output; None with a warning for one that no stage wrote."""
    try:
        headers = decode_headers(message.headers)
    except BatchError as error:
        logger.warning("foreign_message_ignored", extra={"offset": message.offset, "error": str(error)})
        return None
    if not headers.coverage:
        logger.warning("foreign_message_ignored", extra={"offset": message.offset, "error": "it covers nothing"})
        return None
    return headers


def restore(log: LogReader, output: Place, inputs: tuple[str, ...]) -> tuple[Fold, Message | None]:
    """The fold that the output's newest coverage names, and that message (None for an empty output).

    Raises:
        HoleFound: The group committed inputs that no output covers.
        WrongSetup: An input ends before what the output covers: it is another log.
    """
    needed = {topic: (log.committed(Place(topic, output.partition)) or 0) - 1 for topic in inputs}
    begin, end = log.begin(output), log.end(output)
    found = _newest(log, output, needed)
    if found is None:
        return _fresh(inputs, needed, output, forgotten=begin == end > 0), None
    message, headers = found
    fold = Fold(inputs, headers.through)
    fold.marks.update(_marks(headers))
    _require(fold, needed, output)
    _refuse_another_log(log, fold, output)
    return fold, message


def _newest(log: LogReader, output: Place, needed: Mapping[str, int]) -> tuple[Message, Headers] | None:
    best: tuple[Message, Headers] | None = None
    for window in windows(log, output):
        for message in window:
            headers = story(message)
            if headers is not None and (best is None or _rank(headers, needed) >= _rank(best[1], needed)):
                best = message, headers
        if best is not None and _reaches(_marks(best[1]), needed):
            break
    return best


def _rank(headers: Headers, inputs: Iterable[str]) -> tuple[int, int, int]:
    """How far a message is: its marks, which only a final piece moves, then the rows that it has passed.

    Only marks of inputs that a restart goes on behind count: of others a zombie may have seen more. The number of a
    piece tells little: after a crash amid pieces the next writer cuts what is left into other ones.
    """
    tops = headers.through.tops.values() if headers.through else ()
    passed = sum(order for stream in tops for order in stream.values())
    marks = _marks(headers)
    return sum(marks.get(topic, -1) for topic in inputs), passed, headers.piece


def _marks(headers: Headers) -> dict[str, int]:
    return {topic: last if headers.final else first - 1 for topic, (first, last) in headers.coverage.items()}


def _reaches(marks: Mapping[str, int], needed: Mapping[str, int]) -> bool:
    return all(marks.get(topic, -1) >= offset for topic, offset in needed.items())


def _fresh(inputs: tuple[str, ...], needed: Mapping[str, int], output: Place, *, forgotten: bool) -> Fold:
    fold = Fold(inputs)
    if forgotten:  # retention deleted every output: what was committed was covered
        fold.marks.update(needed)
    else:
        _require(fold, needed, output)
    return fold


def _refuse_another_log(log: LogReader, fold: Fold, output: Place) -> None:
    """Messages of a topic that was made again would have offsets that look as if they were handled already."""
    for topic, mark in fold.marks.items():
        place = Place(topic, output.partition)
        if mark >= 0 and mark >= (end := log.end(place)):
            raise WrongSetup(
                f"{topic}/{place.partition} ends at offset {end}, but {output.topic}/{output.partition} covers it up "
                f"to {mark}: the topic was deleted and made again, or the broker lost data. {NEW_GENERATION}"
            )


def _require(fold: Fold, needed: Mapping[str, int], output: Place) -> None:
    for topic, offset in needed.items():
        if offset > fold.marks[topic]:
            raise HoleFound(
                f"{topic}/{output.partition} is committed up to offset {offset}, but {output.topic}/{output.partition} "
                f"covers it only up to {fold.marks[topic]}: output is missing. Was the topic made again? "
                f"{NEW_GENERATION}"
            )
