"""Prequential scores: each prediction is judged by the label that came later, before any model could learn from it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas import batch as b
from schemas.predictions import THRESHOLD

RECENT = 1_000
REMEMBERED = 200_000
"""Rows whose identity is kept, to leave out copies that a crash wrote again."""
LEAST = 1e-15


@dataclass(frozen=True, slots=True)
class Figures:
    """Scores of some judged rows; None where there are none."""

    rows: int
    accuracy: float | None
    log_loss: float | None


class Prequential:
    """Scores over the newest and over all judged rows.

    Args:
        recent: How many rows are the newest.
    """

    def __init__(self, recent: int = RECENT) -> None:
        self._recent: deque[tuple[bool, float]] = deque(maxlen=recent)
        self._seen: dict[tuple[int, int, int], None] = {}
        self._rows, self._right, self._loss = 0, 0, 0.0
        self.unjudged = 0
        """Labelled rows that no model had predicted."""

    def add(self, examples: pa.RecordBatch) -> None:
        """Take labelled rows in.

        Raises:
            BatchError: They have not the columns of labelled rows.
        """
        rows = [row for row in _rows(examples) if self._is_new(row[0])]
        judged = [(p, label) for _, p, label in rows if p is not None]
        self.unjudged += len(rows) - len(judged)
        for p, label in judged:
            self._judge(p, label)

    def _judge(self, p: float, label: int) -> None:
        right = (p >= THRESHOLD) == bool(label)
        loss = -float(np.log(max(p if label else 1 - p, LEAST)))
        self._recent.append((right, loss))
        self._rows, self._right, self._loss = self._rows + 1, self._right + right, self._loss + loss

    def _is_new(self, identity: tuple[int, int, int]) -> bool:
        if identity in self._seen:
            return False
        self._seen[identity] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return True

    @property
    def overall(self) -> Figures:
        """Over all judged rows."""
        return _figures(self._rows, self._right, self._loss)

    @property
    def recent(self) -> Figures:
        """Over the newest judged rows."""
        return _figures(len(self._recent), sum(r for r, _ in self._recent), sum(loss for _, loss in self._recent))


def _rows(examples: pa.RecordBatch) -> list[tuple[tuple[int, int, int], float | None, int]]:
    try:
        columns = [examples.column(name).to_pylist() for name in (b.SOURCE, b.POSITION, b.ROW, "_prediction", "_label")]
    except KeyError as error:
        raise b.BatchError(f"not labelled rows: {error}") from error
    return [((source, position, row), p, label) for source, position, row, p, label in zip(*columns, strict=True)]


def _figures(rows: int, right: int, loss: float) -> Figures:
    if not rows:
        return Figures(0, None, None)
    return Figures(rows, right / rows, loss / rows)
