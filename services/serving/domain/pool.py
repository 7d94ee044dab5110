"""The pool of models that answers, and what it makes of a batch of feature rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.messages import Pool
from schemas.task import BINARY, Target, shaped

Vector = npt.NDArray[np.float64]


class Scorer(Protocol):
    """A loaded model."""

    def score(self, batch: pa.RecordBatch) -> Vector:
        """The output for each row, shape (rows,) for one number per row, else (rows, K)."""


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
        """Each member's output for each row, shape (rows, members, K)."""
        given = [model.score(batch) for model in self.models]
        return np.stack([each if each.ndim > 1 else each[:, None] for each in given], axis=1)

    def blend(self, outputs: Vector) -> Vector:
        """One output per row, shape (rows, K): the weighted mean of the members' outputs."""
        if len(self.models) == 1:
            return outputs[:, 0]
        weights = np.array([self.announced.weights.get(member, 0.0) for member in self.announced.members])
        return np.einsum("rmk,m->rk", outputs, weights / weights.sum())  # type: ignore[no-any-return]


def scored(features: pa.RecordBatch, pool: ServedPool | None, target: Target = BINARY) -> pa.RecordBatch:
    """The rows with prediction, pool, members and their outputs; all null while there is no pool."""
    rows = features.num_rows
    if pool is None:
        added = [pa.nulls(rows, kind) for _, kind in target.scored]
    else:
        outputs = pool.outputs(features)
        blended = pool.blend(outputs)
        added = [
            pa.array(target.predictions(shaped(blended, target.width)), pa.float64()),
            pa.array(np.full(rows, pool.version, np.int64)),
            _lists(np.tile(np.array(pool.announced.members, np.int32), rows), rows),
            _lists(outputs.ravel(), rows),
            *([_lists(blended.ravel(), rows)] if target.width > 1 else []),
        ]
    names = [*features.schema.names, *(name for name, _ in target.scored)]
    return pa.RecordBatch.from_arrays([*features.columns, *added], names=names)


def _lists(values: npt.NDArray[np.generic], rows: int) -> pa.Array:
    width = len(values) // rows if rows else 0
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
