"""Batches of one pipeline at several moments of its life: what an older file did not have yet is null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from schemas.spec import Pipeline

_TYPES = {"number": pa.float64(), "category": pa.string()}


def feature_columns(spec: Pipeline) -> dict[str, pa.DataType]:
    """Name and type of each feature's column, in order."""
    return {name: _TYPES[kind] for name, kind in spec.feature_types.items()}


def together(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """All rows as one batch, found by name: a column that a batch does not have is null in its rows."""
    if len(batches) == 1:
        return batches[0]
    if all(batch.schema.equals(batches[0].schema) for batch in batches[1:]):
        return pa.concat_batches(batches)
    table = pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote_options="default")
    return pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=table.schema)


def named(batch: pa.RecordBatch, columns: Mapping[str, str]) -> pa.RecordBatch:
    """The batch with columns under a second name, for each name that it does not have yet: name and column."""
    for name, column in columns.items():
        if name not in batch.schema.names:
            batch = batch.append_column(name, batch.column(column))
    return batch


def completed(batch: pa.RecordBatch, columns: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """The batch with every one of the columns; those that it did not have are null."""
    known = set(batch.schema.names)
    for name in (each for each in columns if each not in known):
        batch = batch.append_column(pa.field(name, columns[name]), pa.nulls(batch.num_rows, columns[name]))
    return batch
