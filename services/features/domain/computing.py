"""Rows of events to rows of features."""

from __future__ import annotations

from typing import cast

import polars as pl
import pyarrow as pa

from schemas.batch import IDENTITY
from schemas.columns import completed, feature_columns
from schemas.events import arrow_schema
from schemas.expressions import Expressions
from schemas.pipeline import Pipeline


class Computation:
    """The declared features of a pipeline.

    Args:
        spec: The pipeline.
    """

    def __init__(self, spec: Pipeline) -> None:
        self._expressions = Expressions(spec)
        self._fields = {field.name: field.type for field in arrow_schema(spec)}
        self.schema = pa.schema([*IDENTITY, *feature_columns(spec).items()])

    def compute(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Identity and features of each row, in the same order; fields that came later than the row are null."""
        events = completed(batch, self._fields)
        frame = self._expressions.compute(cast("pl.DataFrame", pl.from_arrow(events)))
        identity = [batch.column(name) for name, _ in IDENTITY]
        features = [frame.get_column(field.name).to_arrow() for field in list(self.schema)[len(IDENTITY) :]]
        typed = [
            values if values.type == field.type else values.cast(field.type)
            for values, field in zip([*identity, *features], self.schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(typed, schema=self.schema)
