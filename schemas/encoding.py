"""From feature columns to the matrix that a model computes with: the same for fitting and for serving.

A number stays what it is, a category becomes its index in the artefact's vocabulary, and whatever is missing or was
never seen becomes what the artefact says, or NaN. Nothing in a column can fail: the model meets strange values, never
an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.spec import FeatureType

Matrix = npt.NDArray[np.float64]

LARGEST = 1e30
"""Numbers beyond it, infinity included, count as this much: squares and scaled values stay finite."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the columns of a batch become a matrix.

    Attributes:
        types: Type of each feature, in the order of the matrix's columns.
        vocabulary: The known values of each category; the index is the code.
        fill: What counts where a feature is missing or unknown; NaN for a feature that is not here.
    """

    types: Mapping[str, FeatureType]
    vocabulary: Mapping[str, tuple[str, ...]]
    fill: Mapping[str, float] = field(default_factory=dict)

    @property
    def categories(self) -> list[int]:
        """The matrix's columns that hold codes."""
        return [index for index, kind in enumerate(self.types.values()) if kind == "category"]

    def matrix(self, batch: pa.RecordBatch) -> Matrix:
        """The features, shape (rows, features); other columns of the batch are ignored.

        Raises:
            KeyError: A feature is not among the columns.
        """
        matrix = np.empty((batch.num_rows, len(self.types)), order="F")
        for index, (name, kind) in enumerate(self.types.items()):
            column = batch.column(name)
            values = self._codes(name, column) if kind == "category" else _numbers(column)
            matrix[:, index] = np.where(np.isnan(values), self.fill[name], values) if name in self.fill else values
        return np.clip(matrix, -LARGEST, LARGEST, out=matrix)

    def filled(self, values: npt.NDArray[np.float64]) -> Encoding:
        """With what counts for a missing value of each feature, shape (features,); NaN leaves it as it is."""
        known = {name: float(value) for name, value in zip(self.types, values, strict=True) if not np.isnan(value)}
        return replace(self, fill=known)

    def _codes(self, name: str, column: pa.Array) -> npt.NDArray[np.float64]:
        known = pa.array(self.vocabulary.get(name, ()), pa.string())
        return _numbers(pc.index_in(_texts(column), value_set=known))


def _numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    if column.type != pa.float64():
        column = column.cast(pa.float64())
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _texts(column: pa.Array) -> pa.Array:
    return column if column.type == pa.string() else column.cast(pa.string())


def learn(batch: pa.RecordBatch, types: Mapping[str, FeatureType], most: int) -> Encoding:
    """The encoding that knows the batch's categories: the most frequent ones, equal counts in the order of the text.

    Args:
        batch: The rows that a model is fitted on.
        types: Type of each feature.
        most: Most categories of one feature that are kept apart.
    """
    names = [name for name, kind in types.items() if kind == "category"]
    return Encoding(dict(types), {name: _frequent(batch.column(name), most) for name in names})


def _frequent(column: pa.Array, most: int) -> tuple[str, ...]:
    counts = pc.value_counts(_texts(column).drop_null()).to_pylist()
    ranked = sorted(counts, key=lambda each: (-each["counts"], each["values"]))
    return tuple(sorted(each["values"] for each in ranked[:most]))
