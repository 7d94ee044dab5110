"""A carrier that crashes in the middle of what it is told to publish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from runtime.ports import Carrier, LogReader, Outgoing, Place, Poll


class Crashing:
    """Passes everything on; behind the n-th message to a topic it crashes, with that message on the log.

    Args:
        carrier: The real one.
        topic: The topic whose messages count.
        after: How many of them get through.
        crash: Ends the process and does not return.
    """

    def __init__(self, carrier: Carrier, topic: str, after: int, crash: Callable[[], None]) -> None:
        self._carrier, self._topic, self._left, self._crash = carrier, topic, after, crash

    @property
    def log(self) -> LogReader:
        return self._carrier.log

    def subscribe(self, topics: Sequence[str]) -> None:
        self._carrier.subscribe(topics)

    def follow(self, positions: Mapping[Place, int]) -> None:
        self._carrier.follow(positions)

    def following(self) -> Mapping[Place, int]:
        return self._carrier.following()

    def poll(self, timeout: float) -> Poll:
        return self._carrier.poll(timeout)

    def positions(self) -> Mapping[Place, int]:
        return self._carrier.positions()

    def ends(self, places: Sequence[Place]) -> Mapping[Place, int]:
        return self._carrier.ends(places)

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        for each in outgoing:
            self._carrier.publish([each])
            self._left -= each.topic == self._topic
            if self._left == 0:
                self._carrier.confirm()
                self._crash()

    def confirm(self) -> None:
        self._carrier.confirm()

    def commit(self, positions: Mapping[Place, int], *, wait: bool = False) -> None:
        self._carrier.commit(positions, wait=wait)

    def close(self) -> None:
        self._carrier.close()
