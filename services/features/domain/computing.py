"""Rows of events to rows of features."""

from __future__ import annotations

from typing import cast

import polars as pl
import pyarrow as pa

from schemas.batch import IDENTITY
from schemas.expressions import Expressions
from schemas.pipeline import Pipeline

_TYPES = {"number": pa.float64(), "category": pa.string()}


class Computation:
    """The declared features of a pipeline.

    Args:
        spec: The pipeline.
    """

    def __init__(self, spec: Pipeline) -> None:
        self._expressions = Expressions(spec)
        declared = [(name, _TYPES[kind]) for name, kind in spec.feature_types.items()]
        self.schema = pa.schema([*IDENTITY, *declared])

    def compute(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Identity and features of each row, in the same order."""
        frame = self._expressions.compute(cast("pl.DataFrame", pl.from_arrow(batch)))
        identity = [batch.column(name) for name, _ in IDENTITY]
        features = [frame.get_column(field.name).to_arrow() for field in list(self.schema)[len(IDENTITY) :]]
        typed = [
            values if values.type == field.type else values.cast(field.type)
            for values, field in zip([*identity, *features], self.schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(typed, schema=self.schema)
