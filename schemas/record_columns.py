"""Events and labels as columns: one Arrow array per field, in the order of the specification."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
from msgspec.structs import astuple

from schemas.batch import ENTITY, EVENT_ID, TIME
from schemas.contract import YEARS_1_TO_9999

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.spec import FieldSpec, Pipeline

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

ARROW_TYPES: dict[str, pa.DataType] = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "category": pa.string(),
    "text": pa.string(),
    "timestamp": pa.timestamp("ms", "UTC"),
}
"""Type of the column of each type of field."""


def arrow_schema(spec: Pipeline) -> pa.Schema:
    """The columns of events, in the order of the specification."""
    return _schema(spec.event_fields)


def identified(spec: Pipeline) -> dict[str, str]:
    """Fields whose values are a row's identity, by name, and its column: records do not hold them twice."""
    events = spec.events
    roles = ((events.id, EVENT_ID), (events.entity, ENTITY), (events.time, TIME))
    return {field: column for field, column in roles if field is not None}


def label_schema(spec: Pipeline) -> pa.Schema:
    """The columns of labels, in the order of `label_fields`."""
    return _schema(spec.label_fields)


def to_columns(events: Sequence[msgspec.Struct], spec: Pipeline) -> list[pa.Array]:
    """The events' columns, in the order of `arrow_schema`."""
    return _columns(events, spec.event_fields)


def label_columns(labels: Sequence[msgspec.Struct], spec: Pipeline) -> list[pa.Array]:
    """The labels' columns, in the order of `label_schema`."""
    return _columns(labels, spec.label_fields)


def milliseconds(moment: int | datetime) -> int:
    """Epoch milliseconds of a timestamp field's value, rounded down.

    A time whose UTC lies outside the years 1 to 9999, by its offset alone, counts as the nearest
    one inside, because nothing behind could print it.
    """
    if isinstance(moment, int):
        return moment
    low, high = YEARS_1_TO_9999
    return min(max((moment - _EPOCH) // _MILLISECOND, low), high)


def _schema(fields: Mapping[str, FieldSpec]) -> pa.Schema:
    return pa.schema([(name, ARROW_TYPES[field.type]) for name, field in fields.items()])


def _columns(records: Sequence[msgspec.Struct], fields: Mapping[str, FieldSpec]) -> list[pa.Array]:
    if not records:
        return [pa.array([], ARROW_TYPES[field.type]) for field in fields.values()]
    columns = dict(zip(records[0].__struct_fields__, zip(*map(astuple, records), strict=True), strict=True))
    return [_column(columns[name], field) for name, field in fields.items()]


def _column(values: Sequence[Any], field: FieldSpec) -> pa.Array:
    if field.nullable:
        values = [None if value is msgspec.UNSET else value for value in values]
    if field.type == "timestamp":
        if datetime in set(map(type, values)):
            values = [None if value is None else milliseconds(value) for value in values]
        return pa.array(values, pa.int64()).cast(ARROW_TYPES["timestamp"])
    if field.type == "number" and not field.nullable:
        packed = pa.py_buffer(struct.pack(f"{len(values)}d", *values))  # a third of what pa.array takes
        return pa.Array.from_buffers(pa.float64(), len(values), [None, packed])
    return pa.array(values, ARROW_TYPES[field.type])
