"""Prequential scores: each prediction is judged by the label that came later, before any model could learn from it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from schemas import batch as b
from schemas.task import THRESHOLD

RECENT = 1_000
REMEMBERED = 200_000
"""Rows whose identity is kept, to leave out copies that a crash wrote again."""
LEAST = 1e-15

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """Scores of some judged rows; None where there are none, or where the task has no such score.

    Attributes:
        rows: How many.
        accuracy: Share of rows whose class was the prediction.
        log_loss: Mean of minus the natural log of the probability that their class was given.
        rmse: Root of the mean squared error.
        mae: Mean error without its sign.
    """

    rows: int
    accuracy: float | None = None
    log_loss: float | None = None
    rmse: float | None = None
    mae: float | None = None


def judged(rows: pl.DataFrame) -> tuple[Floats, Floats]:
    """Whether each row's class was the prediction, 1 or 0, and its log loss; in regression the error, and its square.

    Args:
        rows: Labelled rows that a model predicted: `_prediction`, `_label`, and of several classes `_probabilities`.
    """
    given, label = rows["_prediction"].to_numpy(), rows["_label"].to_numpy().astype(np.float64)
    if is_regression(rows):
        return np.abs(given - label), (given - label) ** 2
    if b.PROBABILITIES in rows.columns:
        likely = (
            rows.select(pl.col(b.PROBABILITIES).list.get(pl.col("_label"), null_on_oob=True)).to_series().to_numpy()
        )
        right = (given == label).astype(np.float64)
    else:
        likely, right = (
            np.where(label == 1, given, 1.0 - given),
            ((given >= THRESHOLD) == (label == 1)).astype(np.float64),
        )
    return right, -np.log(np.clip(likely, LEAST, 1.0))


def is_regression(rows: pl.DataFrame) -> bool:
    """Whether labels are values and not classes."""
    return rows.schema["_label"].is_float()


def figures(rows: int, first: float, second: float, *, regression: bool) -> Figures:
    """The scores of so many rows whose values of `judged` add up to these."""
    if not rows:
        return Figures(0)
    if regression:
        return Figures(rows, mae=first / rows, rmse=float(np.sqrt(second / rows)))
    return Figures(rows, accuracy=first / rows, log_loss=second / rows)


class Prequential:
    """Scores over the newest and over all judged rows.

    Args:
        recent: How many rows are the newest.
    """

    def __init__(self, recent: int = RECENT) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=recent)
        self._seen: dict[tuple[int, int, int], None] = {}
        self._rows, self._first, self._second, self._regression = 0, 0.0, 0.0, False
        self.unjudged = 0
        """Labelled rows that no model had predicted."""

    def add(self, examples: pa.RecordBatch) -> None:
        """Take labelled rows in.

        Raises:
            BatchError: They have not the columns of labelled rows.
        """
        rows = _rows(examples)
        rows = rows.filter(
            pl.Series(values=[self._is_new(each) for each in rows.select(_KEY).iter_rows()], dtype=pl.Boolean)
        )
        told = rows.filter(pl.col("_prediction").is_not_null())
        self.unjudged += rows.height - told.height
        if told.height:
            self._regression = is_regression(told)
            self._judge(*judged(told))

    def _judge(self, first: Floats, second: Floats) -> None:
        self._recent.extend(zip(first.tolist(), second.tolist(), strict=True))
        self._rows += len(first)
        self._first, self._second = self._first + float(first.sum()), self._second + float(second.sum())

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
        return figures(self._rows, self._first, self._second, regression=self._regression)

    @property
    def recent(self) -> Figures:
        """Over the newest judged rows."""
        sums = (sum(each[place] for each in self._recent) for place in (0, 1))
        return figures(len(self._recent), *sums, regression=self._regression)


_KEY = [b.SOURCE, b.POSITION, b.ROW]


def _rows(examples: pa.RecordBatch) -> pl.DataFrame:
    more = [b.PROBABILITIES] if b.PROBABILITIES in examples.schema.names else []
    try:
        return pl.DataFrame(pl.from_arrow(examples.select([*_KEY, b.PREDICTION, b.LABEL, *more])))
    except KeyError as error:
        raise b.BatchError(f"not labelled rows: {error}") from error
