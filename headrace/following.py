"""Reads topics as they grow, from their beginning, without a consumer group."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.ports import LogReader, Message, Place


class Follower:
    """Remembers how far each partition has been read.

    Args:
        log: What to read.
    """

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._positions: dict[Place, int] = {}

    def new(self, topic: str) -> Iterator[Message]:
        """The messages of a topic since the last call, per partition in order."""
        for place in places(self._log, topic):
            start, end = self._positions.get(place, 0), self._log.end(place)
            if end > start:
                yield from self._log.read(place, start, end)
                self._positions[place] = end


def whole(log: LogReader, topic: str) -> Iterator[tuple[Place, Message]]:
    """Every message of a topic that is kept by now, partition after partition."""
    for place in places(log, topic):
        for message in log.read(place, log.begin(place), log.end(place)):
            yield place, message


def places(log: LogReader, topic: str) -> list[Place]:
    """All partitions of a topic."""
    return [Place(topic, partition) for partition in range(log.partitions(topic))]
