"""How often the demo's predictions are right: the curve by row, and whether the new model is as good as the old was."""

from __future__ import annotations

from collections import deque

BUCKET = 200
"""Rows per point of the curve."""
RECENT = 500
"""Rows by which the model before and the model after are compared."""
AS_GOOD = 0.03
"""Recovered means: at the most so much less accurate than before the change."""


class Accuracy:
    """The judged rows of one run.

    Args:
        change: Index of the first row in which the world is another.

    Attributes:
        pool: The first pool that holds the model of the new world; None before it is known.
    """

    def __init__(self, change: int) -> None:
        self._change = change
        self._buckets: dict[int, list[bool]] = {}
        self._before: deque[bool] = deque(maxlen=RECENT)
        self._after: deque[bool] = deque(maxlen=RECENT)
        self.pool: int | None = None

    def judged(self, row: int, pool: int, *, right: bool) -> None:
        """A row's label came: whether the pool had been right."""
        self._buckets.setdefault(row // BUCKET, []).append(right)
        if row < self._change:
            self._before.append(right)
        elif self.pool is not None and pool >= self.pool:
            self._after.append(right)

    @property
    def recovered(self) -> bool:
        """Whether the newest rows that the new model predicted are as often right as those before the change."""
        return len(self._after) == RECENT and self.after >= self.before - AS_GOOD

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


def _share(rows: deque[bool]) -> float:
    return sum(rows) / len(rows) if rows else 0.0
