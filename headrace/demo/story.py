"""What happens in the demo, told from the log: who did what, how many rows and seconds after what.

Pure: it is told of everything that can be seen on the topics, in any order, and knows when the loop has closed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass

BUCKET = 200
"""Rows per point of the curve."""
RECENT = 500
"""Rows by which the model before and the model after are compared."""
AS_GOOD = 0.03
"""Recovered means: at the most so much less accurate than before the change."""

FIRST, CHANGE, ALARM, FITTED, SWAPPED, RECOVERED = range(6)
TITLES = (
    "the first model answers",
    "the world changes",
    "drift is found",
    "a new model is announced",
    "the new model answers",
    "the predictions are as good as before",
)


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened: when, epoch milliseconds, and how many events had been sent by then."""

    time: int
    row: int


class Story:
    """The steps of one run, in the order of TITLES.

    Args:
        change: Index of the first row in which the world is another.
    """

    def __init__(self, change: int) -> None:
        self._change = change
        self._sent: list[Step] = []
        self._times: dict[int, int] = {}
        self._buckets: dict[int, list[bool]] = {}
        self._before: deque[bool] = deque(maxlen=RECENT)
        self._after: deque[bool] = deque(maxlen=RECENT)
        self._second_pool: int | None = None
        self.has_model = False
        """Whether any model was announced: from now on a change can be noticed."""

    @property
    def steps(self) -> dict[int, Step]:
        """What has happened, by its place in TITLES."""
        return {step: Step(time, self._row_at(time)) for step, time in self._times.items()}

    @property
    def closed(self) -> bool:
        """Whether the loop has closed: everything in TITLES has happened."""
        return RECOVERED in self._times

    @property
    def missing(self) -> list[str]:
        """What has not happened yet."""
        return [title for step, title in enumerate(TITLES) if step not in self._times]

    def sent(self, time: int, row: int) -> None:
        """So many events had been sent at a time; called in order of time."""
        self._sent.append(Step(time, row))
        if row > self._change and CHANGE not in self._times:
            self._reach(CHANGE, self._time_of(self._change))

    def scored(self, time: int, pool: int) -> None:
        """A batch was scored by a pool, 0 for none."""
        if pool > 0:
            self._reach(FIRST, time)
        if FITTED in self._times and pool > 1 and time >= self._times[FITTED]:
            self._second_pool = pool
            self._reach(SWAPPED, time)

    def alarm(self, time: int) -> None:
        """A drift episode was opened; one before the change is a false alarm and no part of the story."""
        if CHANGE in self._times and time >= self._times[CHANGE]:
            self._reach(ALARM, time)

    def announced(self, time: int) -> None:
        """A model was announced."""
        self.has_model = True
        if ALARM in self._times and time >= self._times[ALARM]:
            self._reach(FITTED, time)

    def judged(self, time: int, row: int, pool: int, *, right: bool) -> None:
        """A row's label came: whether the pool had been right."""
        self._buckets.setdefault(row // BUCKET, []).append(right)
        if row < self._change:
            self._before.append(right)
        elif self._second_pool is not None and pool >= self._second_pool:
            self._after.append(right)
            if len(self._after) == RECENT and self.after >= self.before - AS_GOOD:
                self._reach(RECOVERED, time)

    @property
    def before(self) -> float:
        """Accuracy just before the change."""
        return _share(self._before)

    @property
    def after(self) -> float:
        """Accuracy of the newest rows that the new model predicted."""
        return _share(self._after)

    @property
    def worst(self) -> float:
        """The lowest point of the curve behind the change."""
        return min((accuracy for row, accuracy in self.curve() if row >= self._change), default=0.0)

    def curve(self) -> list[tuple[int, float]]:
        """(row, accuracy of the rows around it), by row; stretches with few labels are left out."""
        full = sorted((bucket, right) for bucket, right in self._buckets.items() if len(right) >= BUCKET // 2)
        return [(bucket * BUCKET + BUCKET // 2, sum(right) / len(right)) for bucket, right in full]

    def _reach(self, step: int, time: int) -> None:
        self._times.setdefault(step, time)

    def _row_at(self, time: int) -> int:
        """Events sent at a time, between the moments that we were told of."""
        place = bisect_right(self._sent, time, key=lambda step: step.time)
        if place in (0, len(self._sent)):
            return self._sent[place - 1].row if place else 0
        left, right = self._sent[place - 1], self._sent[place]
        share = (time - left.time) / (right.time - left.time)
        return round(left.row + share * (right.row - left.row))

    def _time_of(self, row: int) -> int:
        place = bisect_left(self._sent, row, key=lambda step: step.row)
        if place == 0 or self._sent[place].row == row:
            return self._sent[place].time
        left, right = self._sent[place - 1], self._sent[place]
        return round(left.time + (row - left.row) / (right.row - left.row) * (right.time - left.time))


def _share(rows: deque[bool]) -> float:
    return sum(rows) / len(rows) if rows else 0.0
