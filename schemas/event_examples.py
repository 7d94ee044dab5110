"""An event and its label that a pipeline accepts, for people who want to see one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from schemas.contract import integer_bounds
from schemas.topics import physical

if TYPE_CHECKING:
    from schemas.spec import FieldSpec, Pipeline

LONGEST = 256
"""Characters of an example's text at most."""


def event_example(spec: Pipeline) -> dict[str, Any]:
    """An event that passes the pipeline's validation."""
    return {name: value_example(name, field) for name, field in spec.event_fields.items()}


def label_example(spec: Pipeline) -> dict[str, Any]:
    """The label of that event."""
    event = event_example(spec)
    found = {name: event.get(name, value_example(name, field)) for name, field in spec.label_fields.items()}
    return {**found, spec.labels.id: id_example(spec), spec.labels.field: label_value(spec)}


def label_value(spec: Pipeline) -> bool | str | float:
    """A label: the second class, or a number."""
    return spec.classes[1] if spec.classes else 3 if spec.labels.type == "integer" else 12.5


def id_example(spec: Pipeline) -> str:
    """The event's id: where the pipeline names no field, its place in the log."""
    own = spec.events.id
    return f"{physical(spec.pipeline, 'events')}/1/1023" if own is None else str(event_example(spec)[own])


def entity_example(spec: Pipeline) -> str | None:
    """The event's entity, None where the pipeline has none."""
    return None if spec.events.entity is None else str(event_example(spec)[spec.events.entity])


def value_example(name: str, field: FieldSpec) -> Any:
    """A value that the field accepts."""
    if field.values is not None:
        return field.values[0]
    match field.type:
        case "number":
            low, high = field.min, field.max
            return min(max(12.5, -math.inf if low is None else low), math.inf if high is None else high)
        case "integer":
            least, most = integer_bounds(field)
            return min(max(3, least), most)
        case "boolean":
            return True
        case "timestamp":
            return "2026-01-05T12:00:00Z"
        case _:
            return f"{name}-17"[-(field.max_length or LONGEST) :]
