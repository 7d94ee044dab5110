"""Rows of events to rows of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa

from schemas import batch as b
from schemas.batch import IDENTITY
from schemas.checks import windowed
from schemas.columns import completed, feature_columns, named
from schemas.events import arrow_schema, identified
from schemas.expressions import Expressions, over
from schemas.pipeline import Pipeline
from services.features.domain.labelled import times
from services.features.domain.windows import Windows, cut
from services.features.domain.windows_labels import Labels, LabelWindows
from services.features.domain.windows_panes import Floats

Lanes = Sequence[tuple[int, int]]
"""Partitions and how many rows each has in a batch, one behind the other."""


class Computation:
    """The declared features of a pipeline, and the state of its windows per partition.

    Args:
        spec: The pipeline.
    """

    def __init__(self, spec: Pipeline) -> None:
        self._expressions = Expressions(spec, windows=True)
        self._fields = {field.name: field.type for field in arrow_schema(spec)}
        self._identified = identified(spec)
        self._windowed = {name: each for name, each in windowed(spec).items() if not each.labels}
        self._of_labels = {name: each for name, each in windowed(spec).items() if each.labels}
        self._lateness, self._limits, self._by_entity = spec.drift.lateness, spec.windows, spec.windows_by_entity
        self._windows: dict[int, Windows] = {}
        self._labels: dict[int, LabelWindows] = {}
        self.schema = pa.schema([*IDENTITY, *feature_columns(spec).items()])

    @property
    def reaches(self) -> tuple[int, int]:
        """How much older than the newest row a row, and a label, may be and still count, milliseconds."""
        rows, labels = (
            max((each.reach(self._lateness) for each in some.values()), default=0)
            for some in (self._windowed, self._of_labels)
        )
        return rows, labels

    def begin(self, partition: int) -> None:
        """Begin with a partition whose windows have seen nothing."""
        limit = self._limits.entities if self._by_entity else 1
        if self._windowed:
            self._windows[partition] = Windows(self._windowed, self._lateness, limit)
        if self._of_labels:
            self._labels[partition] = LabelWindows(self._of_labels, self._lateness, limit)

    def forget(self, partition: int) -> None:
        """Drop the windows of a lost partition."""
        self._windows.pop(partition, None)
        self._labels.pop(partition, None)

    @property
    def refused(self) -> int:
        """Rows so far that have no windows, because their entity found no place."""
        return sum(
            max(each.refused for each in (self._windows.get(lane), self._labels.get(lane)) if each is not None)
            for lane in {*self._windows, *self._labels}
        )

    def arrive(self, partition: int, labels: pa.RecordBatch) -> None:
        """Labels came: they are known to rows that are computed from now on."""
        values = labels.column(b.LABEL).to_numpy(zero_copy_only=False).astype(np.float64)
        self._labels[partition].arrive(Labels(self._owners(labels), times(labels), values))

    def compute(self, batch: pa.RecordBatch, lanes: Lanes) -> pa.RecordBatch:
        """Identity and features of each row, in the same order; fields that came later than the row are null.

        Windows are of the rows before each row, in the order of the calls; then the row counts in them. Those over
        labels are of what arrived before the call.
        """
        frame = self._evaluated(batch)
        found: dict[str, pa.Array] = {name: frame.get_column(name).to_arrow() for name in frame.columns}
        if self._windowed or self._of_labels:
            found |= self._looked_back(batch, frame, lanes)
        columns = [batch.column(name) for name, _ in IDENTITY]
        columns += [found[field.name] for field in list(self.schema)[len(IDENTITY) :]]
        typed = [
            values if values.type == field.type else values.cast(field.type)
            for values, field in zip(columns, self.schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(typed, schema=self.schema)

    def _evaluated(self, batch: pa.RecordBatch) -> pl.DataFrame:
        asked = self._expressions.asked or list(self._fields)[:1]  # a frame without columns would have no rows
        events = completed(named(batch, self._identified), self._fields).select(asked)
        return self._expressions.compute(cast("pl.DataFrame", pl.from_arrow(events)))

    def _looked_back(self, batch: pa.RecordBatch, frame: pl.DataFrame, lanes: Lanes) -> dict[str, pa.Array]:
        values = {
            each.of: frame.get_column(over(each.of)).cast(pl.Float64).fill_null(np.nan).to_numpy()
            for each in self._windowed.values()
            if each.value is not None
        }
        parts, start = [], 0
        for partition, rows in lanes:
            parts.append(self._step(partition, batch.slice(start, rows), cut(values, start, start + rows)))
            start += rows
        return {name: pa.array(np.concatenate([part[name] for part in parts]), from_pandas=True) for name in parts[0]}

    def _step(self, partition: int, batch: pa.RecordBatch, values: Mapping[str, Floats]) -> Mapping[str, Floats]:
        names, now = self._owners(batch), times(batch)
        found = self._windows[partition].step(names, now, values) if self._windowed else {}
        return found | self._labels[partition].ask(names, now) if self._of_labels else found

    def _owners(self, batch: pa.RecordBatch) -> pa.Array:
        """Whose windows the rows or labels are in."""
        return batch.column(b.ENTITY) if self._by_entity else pa.repeat("", batch.num_rows)
