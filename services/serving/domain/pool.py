"""The pool of models that answers, and what it makes of a batch of feature rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from schemas.messages import Pool

Vector = npt.NDArray[np.float64]


class Scorer(Protocol):
    """A loaded model."""

    def score(self, batch: pa.RecordBatch) -> Vector:
        """Probability of the second class for each row."""


@dataclass(frozen=True, slots=True)
class ServedPool:
    """A pool whose members are loaded: immutable, so that whoever holds it never sees two versions mixed.

    Attributes:
        announced: What training said.
        models: The members' models, in the order of `announced.members`.
    """

    announced: Pool
    models: tuple[Scorer, ...]

    @property
    def version(self) -> int:
        """Version of the pool."""
        return self.announced.version

    def outputs(self, batch: pa.RecordBatch) -> Vector:
        """Each member's output for each row, shape (rows, members)."""
        return np.column_stack([model.score(batch) for model in self.models])

    def blend(self, outputs: Vector) -> Vector:
        """One prediction per row: the weighted mean of the members' outputs."""
        if len(self.models) == 1:
            return outputs[:, 0]
        weights = np.array([self.announced.weights.get(member, 0.0) for member in self.announced.members])
        return outputs @ (weights / weights.sum())  # type: ignore[no-any-return]


def scored(features: pa.RecordBatch, pool: ServedPool | None) -> pa.RecordBatch:
    """The rows with prediction, pool, members and their outputs; all null while there is no pool."""
    rows = features.num_rows
    if pool is None:
        added = [pa.nulls(rows, kind) for _, kind in b.SCORED]
    else:
        outputs = pool.outputs(features)
        added = [
            pa.array(pool.blend(outputs), pa.float64()),
            pa.array(np.full(rows, pool.version, np.int64)),
            _lists(np.tile(np.array(pool.announced.members, np.int32), rows), rows),
            _lists(outputs.ravel(), rows),
        ]
    names = [*features.schema.names, *(name for name, _ in b.SCORED)]
    return pa.RecordBatch.from_arrays([*features.columns, *added], names=names)


def _lists(values: npt.NDArray[np.generic], rows: int) -> pa.Array:
    width = len(values) // rows if rows else 0
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
