"""What is predicted, as numbers: how outputs, labels and losses of each task look in columns.

An output of a model is K numbers per row: the probability of the second class (binary), the value (regression), or the
probability of each class (multiclass). A label is the index of its class, or the value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b

Task = Literal["binary", "multiclass", "regression"]
Class: TypeAlias = bool | str
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

THRESHOLD = 0.5
"""Probability of the second class from which on it is the prediction."""
FLOOR = 1e-6
"""Probabilities count as at least this much: one row costs at most 14, not infinity."""
LEAST_CLASSES, MOST_CLASSES = 3, 100
"""Classes of a multiclass label; an int8 holds their indices."""

METRICS: dict[Task, tuple[str, ...]] = {
    "binary": ("log_loss", "accuracy"),
    "multiclass": ("log_loss", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
}
"""What models of a task are judged by; the first one unless pipeline.yaml says otherwise."""

ESTIMATORS: dict[Task, tuple[str, ...]] = {
    "binary": ("hist_gradient_boosting", "logistic_regression", "random_forest", "sgd"),
    "multiclass": ("hist_gradient_boosting", "logistic_regression", "random_forest", "sgd"),
    "regression": ("hist_gradient_boosting", "random_forest", "ridge", "sgd"),
}
"""The estimators that have a name, by task."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a pipeline predicts.

    Attributes:
        task: Of which kind.
        classes: The label's values in the order of their indices; none in regression.
    """

    task: Task
    classes: tuple[Class, ...] = ()

    @property
    def width(self) -> int:
        """K: how many numbers an output is."""
        return len(self.classes) if self.task == "multiclass" else 1

    @property
    def is_regression(self) -> bool:
        """Whether a label is a value and not a class."""
        return self.task == "regression"

    @property
    def names(self) -> tuple[str, ...]:
        """The classes as texts."""
        return tuple(str(each).lower() if isinstance(each, bool) else each for each in self.classes)

    @property
    def label_type(self) -> pa.DataType:
        """Type of the column `_label`."""
        return pa.float64() if self.is_regression else pa.int8()

    @property
    def scored(self) -> tuple[tuple[str, pa.DataType], ...]:
        """What serving adds to features."""
        more = ((b.PROBABILITIES, pa.list_(pa.float64())),) if self.task == "multiclass" else ()
        return (*b.SCORED, *more)

    @property
    def labelled(self) -> tuple[tuple[str, pa.DataType], ...]:
        """What features add to scored rows."""
        return tuple((name, self.label_type if name == b.LABEL else kind) for name, kind in b.LABELLED)

    def predictions(self, outputs: Floats) -> Floats:
        """The column `_prediction` of outputs: the output itself, or the index of the likeliest class; NaN for none.

        Args:
            outputs: Shape (rows,) for one number per row, else (rows, K).
        """
        if self.task != "multiclass":
            return outputs
        known: Mask = np.all(np.isfinite(outputs), axis=1)
        likeliest = np.where(known[:, None], outputs, 0.0).argmax(axis=1)
        return np.where(known, likeliest, np.nan)

    def losses(self, outputs: Floats, labels: npt.NDArray[np.number]) -> Floats:
        """Loss of each row: minus the log of the probability that its class was given; the error without its sign.

        Args:
            outputs: See `predictions`.
            labels: Index of the class, or the value.
        """
        if self.task == "multiclass":
            given: Floats = outputs[np.arange(len(labels)), labels.astype(np.intp)] if len(labels) else np.empty(0)
            return surprise(given)
        return np.abs(outputs - labels) if self.is_regression else log_losses(outputs, labels == 1)

    def wrong(self, predictions: Floats, labels: npt.NDArray[np.number]) -> Mask:
        """Whether another class was the prediction than came true. Not asked in regression.

        Args:
            predictions: The column `_prediction`.
            labels: Index of the class.
        """
        given = predictions if self.task == "multiclass" else (predictions >= THRESHOLD).astype(np.float64)
        missed: Mask = given != labels
        return missed


BINARY = Target("binary", (False, True))
"""Whether something is so."""


def log_losses(outputs: Floats, second: Mask) -> Floats:
    """Loss of each row: minus the log of the probability that its class was given.

    Args:
        outputs: Probability of the second class.
        second: Whether that is what came true.
    """
    return surprise(np.where(second, outputs, 1.0 - outputs))


def surprise(probabilities: Floats) -> Floats:
    """Minus the log of the probability that what came true was given."""
    losses: Floats = -np.log(np.clip(probabilities, FLOOR, 1.0))
    return losses


def anchored(batch: pa.RecordBatch, width: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The anchor of each scored row, which is the first of its members, and its output; 0 and NaN without a pool.

    Args:
        batch: Scored rows.
        width: K.

    Returns:
        Members, shape (rows,), and outputs, shape (rows, K).
    """
    (member, given), output = _anchors(batch), np.full((batch.num_rows, width), np.nan)
    starts, answered = _starts(batch.column(b.OUTPUTS))
    answered &= given
    output[answered] = _flat(batch.column(b.OUTPUTS))[starts[answered, None] + np.arange(width)]
    return member, output


def anchors(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """The members of `anchored` alone."""
    return _anchors(batch)[0]


def _anchors(batch: pa.RecordBatch) -> tuple[npt.NDArray[np.int64], Mask]:
    member = np.zeros(batch.num_rows, np.int64)
    starts, given = _starts(batch.column(b.MEMBERS))
    member[given] = _flat(batch.column(b.MEMBERS))[starts[given]]
    return member, given


def _starts(column: pa.ListArray) -> tuple[npt.NDArray[np.intp], Mask]:
    """Where each row's values begin in the flat array, and which rows have any."""
    told = column.value_lengths()
    lengths = (told.fill_null(0) if told.null_count else told).to_numpy(zero_copy_only=False)
    return np.cumsum(lengths, dtype=np.intp) - lengths, lengths > 0


def _flat(column: pa.ListArray) -> npt.NDArray[np.float64]:
    return column.flatten().to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def shaped(outputs: Floats, width: int) -> Floats:
    """Outputs as a model gives them: shape (rows,) for one number per row, else (rows, K)."""
    return outputs.reshape(-1) if width == 1 else outputs.reshape(-1, width)
