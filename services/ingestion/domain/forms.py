"""What a message of events and of labels becomes: how it is checked, and which columns its rows have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from schemas.batch import EVENTS, LABEL, LABELS, REVISION
from schemas.events import (
    Decoder,
    arrow_schema,
    event_decoder,
    identified,
    label_columns,
    label_decoder,
    label_schema,
    to_columns,
)
from schemas.pipeline import Pipeline
from schemas.spec import FieldSpec
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
        """What is read by its content type."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Whatever the producer gave."""
        ...


class Part(NamedTuple):
    """One row of a message that holds several, as if it had come alone."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


Records = Sequence[msgspec.Struct]
Columns = dict[str, pa.Array]


@dataclass(frozen=True, slots=True)
class Form:
    """How the messages of one topic are read.

    Attributes:
        topic: Logical name of the topic.
        name: Its name on the broker, part of an id that was not given.
        fields: The declared fields.
        decoder: Reads a JSON document.
        columns: The fields' columns, one value per record.
        payload: Columns of the rows besides the identity, from the fields' columns.
        keeps: Whether each row carries its message, for a dead letter later on.
        id: Field of the id; None: that of the CloudEvent, or one made from the position.
        entity: Field of the entity, if the pipeline has one.
        time: Field of the time; None: that of the CloudEvent, or the broker's timestamp.
    """

    topic: str
    name: str
    fields: Mapping[str, FieldSpec]
    decoder: Decoder
    columns: Callable[[Records], Columns]
    payload: Callable[[Columns], Columns]
    keeps: bool
    id: str | None
    entity: str | None
    time: str | None


def event_form(spec: Pipeline) -> Form:
    """How events are read: the rows have the declared fields that are not their identity."""
    names, events, known = arrow_schema(spec).names, spec.events, identified(spec)
    return Form(
        topic=EVENTS,
        name=physical(spec.pipeline, EVENTS),
        fields=spec.event_fields,
        decoder=event_decoder(spec),
        columns=lambda records: dict(zip(names, to_columns(records, spec), strict=True)),
        payload=lambda columns: {name: column for name, column in columns.items() if name not in known},
        keeps=False,
        id=events.id,
        entity=events.entity,
        time=events.time,
    )


def label_form(spec: Pipeline) -> Form:
    """How labels are read: the rows have class or value, and the message itself for a dead letter at the horizon."""
    names, labels = label_schema(spec).names, spec.labels
    return Form(
        topic=LABELS,
        name=physical(spec.pipeline, LABELS),
        fields=spec.label_fields,
        decoder=label_decoder(spec),
        columns=lambda records: dict(zip(names, label_columns(records, spec), strict=True)),
        payload=partial(_label, labels.field, labels.revision, _reader(spec)),
        keeps=True,
        id=labels.id,
        entity=spec.events.entity,
        time=labels.time,
    )


def _reader(spec: Pipeline) -> Callable[[pa.Array], pa.Array]:
    """Makes the column `_label` of the field's: the index of the class, or the value (an integer above 2^53 rounds)."""
    if spec.target.is_regression:
        return partial(pc.cast, target_type=spec.target.label_type, safe=False)
    classes = pa.array(spec.classes, pa.bool_() if spec.labels.type == "boolean" else pa.string())
    return lambda column: pc.index_in(column, value_set=classes).cast(spec.target.label_type)


def _label(field: str, revision: str | None, read: Callable[[pa.Array], pa.Array], columns: Columns) -> Columns:
    label = {LABEL: read(columns[field])}
    return label if revision is None else {**label, REVISION: columns[revision]}
