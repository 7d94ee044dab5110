"""The online member: what it learns of a row, and what its state is made of.

Its rows are dictionaries, prepared in a fixed way by training and by serving alike: nothing is fitted, nothing is kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from schemas.encoding import LARGEST
from schemas.spec import FeatureType

OnlineKind = Literal["hoeffding_adaptive_tree", "logistic_regression"]
ONLINE_KINDS: tuple[str, ...] = get_args(OnlineKind)

BUCKETS = 32
"""Categories share so many values: what an online member keeps for each of them is bounded."""
FARTHEST = 10.0
"""Standard deviations from its mean that a number counts at most: one wild row must not undo a line."""

Row = dict[str, float | str]


@dataclass(slots=True, eq=False)
class Learnt:
    """The state of an online member.

    Attributes:
        kind: What learns.
        types: Type of each feature.
        classes: How many classes there are.
        labels: Labels that it has learnt.
        models: The models by river: a tree, or one regression per class but the first.
        scaler: What scales numbers, by river; None for a tree.
    """

    kind: OnlineKind
    types: dict[str, FeatureType]
    classes: int
    labels: int
    models: list[Any]
    scaler: Any = None

    @property
    def width(self) -> int:
        """K, how many numbers its output has."""
        return width(self.classes)

    def row(self, numbers: Row, categories: Row) -> Row:
        """What the models see of a prepared row: a tree takes it as it is, a line needs like scales and no texts."""
        if self.scaler is None:
            return {**numbers, **categories}
        scaled = self.scaler.transform_one(numbers)
        near = {name: min(max(value, -FARTHEST), FARTHEST) for name, value in scaled.items()}
        return {**near, **{f"{name}={value}": 1.0 for name, value in categories.items()}}


def width(classes: int) -> int:
    """K, how many numbers an output has: of two classes one is enough."""
    return 1 if classes == 2 else classes  # noqa: PLR2004


def prepared(batch: pa.RecordBatch, types: Mapping[str, FeatureType]) -> tuple[list[Row], list[Row]]:
    """Numbers and categories of each row; what is missing or not finite is left out.

    Raises:
        KeyError: A feature is not among the columns.
    """
    numbers: list[Row] = [{} for _ in range(batch.num_rows)]
    categories: list[Row] = [{} for _ in range(batch.num_rows)]
    for name, kind in types.items():
        values = _buckets(batch.column(name)) if kind == "category" else _numbers(batch.column(name))
        for row, value in zip(categories if kind == "category" else numbers, values, strict=True):
            if value is not None:
                row[name] = value
    return numbers, categories


def _numbers(column: pa.Array) -> list[float | None]:
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    kept = np.clip(values, -LARGEST, LARGEST).tolist()
    return [value if there else None for value, there in zip(kept, np.isfinite(values).tolist(), strict=True)]


def _buckets(column: pa.Array) -> list[str | None]:
    """The same text falls into the same bucket everywhere."""
    coded = column.cast(pa.string()).dictionary_encode()
    names = [str(zlib.crc32(text.encode()) % BUCKETS) for text in coded.dictionary.to_pylist()]
    return [None if index is None else names[index] for index in coded.indices.to_pylist()]
