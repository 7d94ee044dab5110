"""The contract of events and labels: a pydantic model made from the specification.

It says what is accepted, by itself and as JSON Schema. The structs of `schemas.events` are its fast path, and accept
the same; this model is asked where they refuse, because it names every error.

What JSON Schema cannot say, and holds all the same: no key is there twice, an integer is written without a fraction
(`5.0` is a number), and a time needs its offset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

from schemas.spec import FieldSpec, Pipeline

NDJSON, ARROW_STREAM = "application/x-ndjson", "application/vnd.apache.arrow.stream"
"""Content types of messages that hold several events or labels."""

INT64 = (-(2**63), 2**63 - 1)
YEARS_1_TO_9999 = (-62_135_596_800_000, 253_402_300_799_999)

Rfc3339 = Annotated[datetime, msgspec.Meta(tz=True)]

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


def event_model(spec: Pipeline) -> type[BaseModel]:
    """The contract of an event. Its fields are known by their alias, the name that the pipeline gives them."""
    events = spec.events
    roles = {events.entity: "Entity of the event", events.time: "Time of the event", events.id: "Id of the event"}
    return _model("Event", spec.event_fields, events.id, roles)


def label_model(spec: Pipeline) -> type[BaseModel]:
    """The contract of a label: id, entity and time where the pipeline has them, and the label."""
    labels = spec.labels
    roles = {
        spec.events.entity: "Entity of the labelled event",
        labels.time: "Time at which the label was known",
        labels.revision: "Revision of the label: a higher one corrects an earlier label of the event",
        labels.field: "The label",
        labels.id: "Id of the labelled event",
    }
    return _model("Label", spec.label_fields, labels.id, roles)


def integer_bounds(field: FieldSpec) -> tuple[int, int]:
    """Smallest and largest value of an integer field, both of 64 bit."""
    low, high = INT64
    smallest = low if field.min is None else min(max(math.ceil(field.min), low), high)
    return smallest, high if field.max is None else max(min(math.floor(field.max), high), low)


def _model(
    name: str, fields: Mapping[str, FieldSpec], key: str | None, roles: Mapping[str | None, str]
) -> type[BaseModel]:
    # The attributes have names of our own: a field may be called `copy`, or `class`.
    members: dict[str, Any] = {
        f"field_{number}": _member(field, each, roles.get(field), min_length=1 if field == key else None)
        for number, (field, each) in enumerate(fields.items())
    }
    return create_model(name, __config__=_STRICT, **members)


def _member(name: str, field: FieldSpec, role: str | None, min_length: int | None) -> tuple[object, object]:
    form, bounds = _form(field, min_length)
    described = Field(
        default=None if field.nullable else ...,
        alias=name,
        title=name,
        description=_description(field, role),
        json_schema_extra=None if field.unit is None else {"unit": field.unit},
    )
    bounded: Any = Annotated[form, bounds] if bounds is not None else form
    return (bounded | None if field.nullable else bounded), described


def _form(field: FieldSpec, min_length: int | None) -> tuple[Any, Any]:
    """Type of a field's values and their bounds."""
    if field.values is not None:
        return Literal[field.values], None
    match field.type:
        case "number":
            return float, Field(ge=field.min, le=field.max)
        case "integer":
            low, high = integer_bounds(field)
            return int, Field(ge=low, le=high)
        case "boolean":
            return bool, None
        case "timestamp":
            return Timestamp, None
        case _:
            return str, Field(min_length=min_length, max_length=field.max_length)


_WORDS = {
    "number": "Number",
    "integer": "Integer, written without a fraction",
    "boolean": "True or false",
    "category": "Category",
    "text": "Text",
    "timestamp": "Epoch milliseconds, or RFC 3339 text with an offset",
}


def _description(field: FieldSpec, role: str | None) -> str:
    kind = _WORDS[field.type] + (f", in {field.unit}" if field.unit else "")
    parts = [role, kind, "May be null or absent" if field.nullable else None]
    return " ".join(f"{part}." for part in parts if part)


# --- times ------------------------------------------------------------------------------------


def _timestamp(value: object) -> int | datetime:
    """Epoch milliseconds or a time with an offset, the text read by the reader of the fast path."""
    if type(value) is int:
        low, high = YEARS_1_TO_9999
        if low <= value <= high:
            return value
        raise PydanticCustomError("time_range", "outside the years 1 to 9999")
    if isinstance(value, str):
        return _moment(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    raise PydanticCustomError("time_type", "not a time")


def _moment(text: str) -> datetime:
    try:
        return msgspec.convert(text, Rfc3339)
    except msgspec.ValidationError:
        raise PydanticCustomError("time_text", "not RFC 3339 with an offset") from None


Timestamp = Annotated[
    int | datetime,
    PlainValidator(_timestamp),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": YEARS_1_TO_9999[0], "maximum": YEARS_1_TO_9999[1]},
                {"type": "string", "format": "date-time"},
            ]
        }
    ),
]
