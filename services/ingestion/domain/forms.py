"""What a message of events and of labels becomes: which struct it is, and which columns its rows have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from schemas.batch import EVENTS, LABEL, LABELS
from schemas.events import arrow_schema, event_type, label_columns, label_schema, label_type, to_columns
from schemas.pipeline import Pipeline
from schemas.topics import physical


class Raw(Protocol):
    """A message as it came from outside."""

    @property
    def offset(self) -> int:
        """Position in its partition."""
        ...

    @property
    def timestamp(self) -> int:
        """When the broker took it, milliseconds."""
        ...

    @property
    def key(self) -> bytes | None:
        """Whatever the producer gave."""
        ...

    @property
    def value(self) -> bytes | None:
        """A JSON object, we hope."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Whatever the producer gave."""
        ...


Records = Sequence[msgspec.Struct]
Columns = dict[str, pa.Array]


@dataclass(frozen=True, slots=True)
class Form:
    """How the messages of one topic are read.

    Attributes:
        topic: Logical name of the topic.
        name: Its name on the broker, part of an id that was not given.
        record: The struct of a message.
        columns: The struct's columns by name, one value per record.
        payload: Columns of the rows besides the identity, from records, messages and the struct's columns.
        id: Field of the id; None: the id is made from the position.
        entity: Field of the entity, if the pipeline has one.
        time: Field of the time; None: the broker's timestamp.
    """

    topic: str
    name: str
    record: type[msgspec.Struct]
    columns: Callable[[Records], Columns]
    payload: Callable[[Records, Sequence[Raw], Columns], Columns]
    id: str | None
    entity: str | None
    time: str | None


def event_form(spec: Pipeline) -> Form:
    """How events are read: the rows have the declared fields."""
    names, events = arrow_schema(spec).names, spec.events
    return Form(
        topic=EVENTS,
        name=physical(spec.pipeline, EVENTS),
        record=event_type(spec),
        columns=lambda records: dict(zip(names, to_columns(records, spec), strict=True)),
        payload=lambda _records, _messages, columns: columns,
        id=events.id,
        entity=events.entity,
        time=events.time,
    )


def label_form(spec: Pipeline) -> Form:
    """How labels are read: the rows have the class, and the message itself for a dead letter at the horizon."""
    names, labels = label_schema(spec).names, spec.labels
    return Form(
        topic=LABELS,
        name=physical(spec.pipeline, LABELS),
        record=label_type(spec),
        columns=lambda records: dict(zip(names, label_columns(records, spec), strict=True)),
        payload=partial(_label_payload, attrgetter(labels.field), {value: i for i, value in enumerate(spec.classes)}),
        id=labels.id,
        entity=spec.events.entity,
        time=labels.time,
    )


def _label_payload(
    label: Callable[[Any], Any], classes: dict[bool | str, int], records: Records, messages: Sequence[Raw], _: Columns
) -> Columns:
    return {
        LABEL: pa.array([classes[value] for value in map(label, records)], pa.int8()),
        "_key": pa.array([message.key for message in messages], pa.binary()),
        "_value": pa.array([message.value for message in messages], pa.binary()),
    }
