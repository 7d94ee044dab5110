"""How far the demo's stream was at which time, between the moments that were told."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened: when, epoch milliseconds, and at which row of the stream."""

    time: int
    row: int


class Progress:
    """The samples of one run, told in order of time."""

    def __init__(self) -> None:
        self._sent: list[Step] = []

    def tell(self, time: int, row: int) -> None:
        """So many events had been sent at a time."""
        self._sent.append(Step(time, row))

    @property
    def row(self) -> int:
        """How many events have been sent."""
        return self._sent[-1].row if self._sent else 0

    def at(self, time: int) -> Step:
        """How many events had been sent at a time."""
        place = bisect_right(self._sent, time, key=lambda step: step.time)
        if place in (0, len(self._sent)):
            return Step(time, self._sent[place - 1].row if place else 0)
        left, right = self._sent[place - 1], self._sent[place]
        share = (time - left.time) / (right.time - left.time)
        return Step(time, round(left.row + share * (right.row - left.row)))

    def time_of(self, row: int) -> int:
        """When that many events had been sent; they have been."""
        place = bisect_left(self._sent, row, key=lambda step: step.row)
        if place == 0 or self._sent[place].row == row:
            return self._sent[place].time
        left, right = self._sent[place - 1], self._sent[place]
        return round(left.time + (row - left.row) / (right.row - left.row) * (right.time - left.time))
