"""The pool of models that answers, and what it makes of a batch of feature rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.beside import ONLINE
from schemas.messages import Pool
from schemas.pooling import IDENTITY, Calibrator, Weights, mix
from schemas.task import BINARY, Target, shaped

Vector = npt.NDArray[np.float64]


class Scorer(Protocol):
    """A loaded model."""

    def score(self, batch: pa.RecordBatch) -> Vector:
        """The output for each row, shape (rows,) for one number per row, else (rows, K)."""


@dataclass(frozen=True)
class ServedPool:
    """A pool whose members are loaded: immutable, so that whoever holds it never sees two versions mixed.

    Attributes:
        announced: What training said.
        models: Each member's model.
        target: What is predicted.
        ruling: The newest checkpoint of its weights, or of the pool before it; None before the first.
        online: The online member that the checkpoint names, None where it names none.
    """

    announced: Pool
    models: dict[int, Scorer]
    target: Target = BINARY
    ruling: Weights | None = None
    online: Scorer | None = None

    @property
    def version(self) -> int:
        """Version of the pool."""
        return self.announced.version

    @property
    def number(self) -> int:
        """Number of the checkpoint that rules, 0 for the pool's own weights."""
        return 0 if self.ruling is None or self.announced.alone is not None else self.ruling.number

    @cached_property
    def members(self) -> tuple[int, ...]:
        """The members in the order of their outputs: the anchor first, then the others ascending, the online member."""
        anchor = self.announced.anchor
        others = sorted(each for each in self.announced.members if each != anchor)
        return (anchor, *others, *(() if self.online is None else (ONLINE,)))

    def ruled(self, ruling: Weights | None, online: Scorer | None) -> ServedPool:
        """The same pool under another checkpoint."""
        return replace(self, ruling=ruling, online=online)

    def outputs(self, batch: pa.RecordBatch) -> Vector:
        """Each member's output for each row, shape (rows, members, K)."""
        models = self.models if self.online is None else {**self.models, ONLINE: self.online}
        scores = [models[each].score(batch) for each in self.members]
        return np.stack([each[:, None] if each.ndim == 1 else each for each in scores], axis=1)

    def answers(self, outputs: Vector) -> Vector:
        """One output per row, shape (rows, K): what the strategy makes of those of the members."""
        alone = self.announced.alone
        if alone is not None:
            return np.asarray(outputs[:, self.members.index(alone)])
        seats = len(self.announced.members)
        beside = None if self.online is None else outputs[:, seats]
        mixed = mix(self.target.task, outputs[:, :seats], self._weights, self._calibrator, beside, self._lines)
        return mixed if mixed.ndim > 1 else mixed[:, None]

    @cached_property
    def _weights(self) -> Vector:
        """A checkpoint of the pool before rules with its calibrators alone: it does not know the new member."""
        if self.ruling is not None and self.ruling.pool == self.version:
            return self.ruling.weights(self._seated)
        return np.array([self.announced.weights[each] for each in self._seated])

    @property
    def _seated(self) -> tuple[int, ...]:
        return self.members[: len(self.announced.members)]

    @cached_property
    def _calibrator(self) -> Calibrator:
        return Calibrator(IDENTITY[self.target.task]) if self.ruling is None else self.ruling.calibrator

    @cached_property
    def _lines(self) -> Vector | None:
        return None if self.ruling is None else self.ruling.straight(self._seated)


def scored(features: pa.RecordBatch, pool: ServedPool | None, target: Target = BINARY) -> pa.RecordBatch:
    """The rows with prediction, pool, members and their outputs; all null while there is no pool."""
    rows = features.num_rows
    if pool is None:
        added = [pa.nulls(rows, kind) for _, kind in target.scored]
    else:
        outputs = pool.outputs(features)
        answers = pool.answers(outputs)
        added = [
            pa.array(target.predictions(shaped(answers, target.width)), pa.float64()),
            pa.array(np.full(rows, pool.version, np.int64)),
            _lists(np.tile(np.array(pool.members, np.int32), rows), rows),
            _lists(outputs.ravel(), rows),
            *([_lists(answers.ravel(), rows)] if target.width > 1 else []),
        ]
    names = [*features.schema.names, *(name for name, _ in target.scored)]
    return pa.RecordBatch.from_arrays([*features.columns, *added], names=names)


def _lists(values: npt.NDArray[np.generic], rows: int) -> pa.Array:
    width = len(values) // rows if rows else 0
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
