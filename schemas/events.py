"""Events and labels as they come from outside: strict types made from the specification.

A decoder answers with the record or with the reason why it is none; it never raises for content.
Duplicate keys count as wrong, because readers disagree about which of the two values is meant.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from schemas.spec import FieldSpec, Pipeline

MAX_RECORD_BYTES = 1_000_000
MAX_ID_LENGTH = 256
INT64 = (-(2**63), 2**63 - 1)
YEARS_1_TO_9999 = (-62_135_596_800_000, 253_402_300_799_999)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Reason(StrEnum):
    """Why a row was refused. The text goes into dead letters and reject counts: never rename one."""

    EMPTY = "empty"
    """The message has no value."""
    NOT_JSON = "not_json"
    """The bytes are not one JSON document."""
    INVALID_UTF8 = "invalid_utf8"
    """A text is not UTF-8."""
    NOT_AN_OBJECT = "not_an_object"
    """The document is an array, a text, a number, a boolean or null."""
    TOO_LARGE = "too_large"
    """The message is longer than MAX_RECORD_BYTES."""
    DUPLICATE_KEY = "duplicate_key"
    """The object holds the same key twice."""
    MISSING_FIELD = "missing_field"
    """A field that is not nullable is absent."""
    UNKNOWN_FIELD = "unknown_field"
    """The object holds a field that the pipeline does not name."""
    NULL_VALUE = "null_value"
    """A field that is not nullable is null."""
    WRONG_TYPE = "wrong_type"
    """A value is of another type than the field."""
    OUT_OF_RANGE = "out_of_range"
    """A value is outside min, max, values or max_length, or fits no double, int64 or year 1-9999."""
    LATE_LABEL = "late_label"
    """The label came after the horizon."""
    UNKNOWN_EVENT = "unknown_event"
    """No event with the label's id came within the horizon."""
    UNDECODABLE_BATCH = "undecodable_batch"
    """The message is not the batch that its content type, or its topic, says."""
    CONTENT_TYPE = "unsupported_content_type"
    """The content type is none that can be read."""
    ENVELOPE = "invalid_envelope"
    """The CloudEvents envelope is broken or incomplete."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a message is not a record: code, place (`$.field`, `$` for the whole) and a sentence."""

    code: Reason
    path: str
    message: str


def event_type(spec: Pipeline) -> type[msgspec.Struct]:
    """The struct of an event; nullable fields that are absent are UNSET, null ones None."""
    return _struct("Event", spec.event_fields, spec.events.id)


def label_type(spec: Pipeline) -> type[msgspec.Struct]:
    """The struct of a label: id, entity and time where the pipeline has them, and the label."""
    return _struct("Label", spec.label_fields, spec.labels.id)


def arrow_schema(spec: Pipeline) -> pa.Schema:
    """The columns of events, in the order of the specification."""
    return _schema(spec.event_fields)


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


# --- types ------------------------------------------------------------------------------------


def _struct(name: str, fields: Mapping[str, FieldSpec], key: str | None) -> type[msgspec.Struct]:
    forms = {name: _annotation(field) for name, field in fields.items()}
    if key is not None and fields[key].values is None:
        # An id names a row everywhere; CloudEvents has no empty subject either.
        forms[key] = Annotated[str, msgspec.Meta(min_length=1, max_length=fields[key].max_length)]
    required = [(name, form) for name, form in forms.items() if not fields[name].nullable]
    nullable = [
        (name, form | None | msgspec.UnsetType, msgspec.UNSET) for name, form in forms.items() if fields[name].nullable
    ]
    return msgspec.defstruct(name, [*required, *nullable], forbid_unknown_fields=True, gc=False, frozen=True)


def _annotation(field: FieldSpec) -> Any:
    return _ANNOTATIONS[field.type](field)


def _number(field: FieldSpec) -> object:
    return Annotated[float, msgspec.Meta(ge=field.min, le=field.max)]


def _integer(field: FieldSpec) -> object:
    low = INT64[0] if field.min is None else max(math.ceil(field.min), INT64[0])
    high = INT64[1] if field.max is None else min(math.floor(field.max), INT64[1])
    return Annotated[int, msgspec.Meta(ge=low, le=high)]


def _text(field: FieldSpec) -> object:
    if field.values is not None:
        return Literal[field.values]
    return Annotated[str, msgspec.Meta(max_length=field.max_length)]


def _timestamp(_: FieldSpec) -> object:
    low, high = YEARS_1_TO_9999
    return Annotated[int, msgspec.Meta(ge=low, le=high)] | Annotated[datetime, msgspec.Meta(tz=True)]


_ANNOTATIONS: dict[str, Callable[[FieldSpec], object]] = {
    "number": _number,
    "integer": _integer,
    "boolean": lambda _: bool,
    "category": _text,
    "text": _text,
    "timestamp": _timestamp,
}

# --- columns ----------------------------------------------------------------------------------

_ARROW: dict[str, pa.DataType] = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "category": pa.string(),
    "text": pa.string(),
    "timestamp": pa.timestamp("ms", "UTC"),
}


def _schema(fields: Mapping[str, FieldSpec]) -> pa.Schema:
    return pa.schema([(name, _ARROW[field.type]) for name, field in fields.items()])


def _columns(records: Sequence[msgspec.Struct], fields: Mapping[str, FieldSpec]) -> list[pa.Array]:
    return [_column(list(map(attrgetter(name), records)), field) for name, field in fields.items()]


def _column(values: list[Any], field: FieldSpec) -> pa.Array:
    if field.nullable:
        values = [None if value is msgspec.UNSET else value for value in values]
    if field.type == "timestamp":
        values = [None if value is None else milliseconds(value) for value in values]
        return pa.array(values, pa.int64()).cast(_ARROW["timestamp"])
    return pa.array(values, _ARROW[field.type])


# --- decoding ---------------------------------------------------------------------------------


class Decoder:
    """Reads JSON messages of one struct type."""

    def __init__(self, record: type[msgspec.Struct], limit: int = MAX_RECORD_BYTES) -> None:
        self._decode = msgspec.json.Decoder(record).decode
        self._limit = limit
        info = msgspec.structs.fields(record)
        self._keys = len(info)
        nullable = [field.name for field in info if not field.required]
        self._nullable = _getter(nullable)
        self._moments = _getter([field.name for field in info if _holds(field.type, datetime)])

    def decode(self, value: bytes | None) -> msgspec.Struct | Rejection:
        """The record of a message, or why there is none; never raises for content."""
        if not value:
            return Rejection(Reason.EMPTY, "$", "the message has no value: send a JSON object")
        if len(value) > self._limit:
            return _too_large(len(value), self._limit)
        try:
            record: msgspec.Struct = self._decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _undecodable(value, error)
        return record if self._surely_unique(value, record) else _twice(value) or record

    def _surely_unique(self, value: bytes, record: msgspec.Struct) -> bool:
        """Whether no key is there twice, by counting colons; False where counting cannot tell.

        There is one colon per key, two or three per RFC 3339 time, and any number in texts: no
        more of them than distinct fields (plus two per time) means that each key is there once.
        """
        keys = self._keys - self._nullable(record).count(msgspec.UNSET)
        colons = value.count(b":")
        if colons == keys:
            return True
        times = sum(type(moment) is datetime for moment in self._moments(record))
        return colons == keys + 2 * times or _quoted_colons(value) == keys


def _getter(names: list[str]) -> Callable[[msgspec.Struct], tuple[Any, ...]]:
    if not names:
        return lambda _: ()
    # With a second name attrgetter always gives a tuple; a class is neither UNSET nor a time.
    return attrgetter(*names, "__class__")


def _holds(form: Any, kind: type) -> bool:
    return form is kind or any(_holds(part, kind) for part in get_args(form))


def _quoted_colons(value: bytes) -> int:
    """How many colons follow a quote at once, at least the number of keys; -1 where it is not."""
    if any(blank in value for blank in (b" :", b"\n:", b"\t:", b"\r:")):
        return -1
    return value.count(b'":')


def _twice(value: bytes) -> Rejection | None:
    """The rejection of a valid object that holds a key twice."""
    names: list[str] = [key for key, _ in json.loads(value, object_pairs_hook=list)]
    for name in names:
        if names.count(name) > 1:
            mend = "send each field once"
            return Rejection(Reason.DUPLICATE_KEY, f"$.{name}", f"{name} is there twice: {mend}")
    return None


def _too_large(size: int, limit: int) -> Rejection:
    message = f"{size} bytes; at most {limit} are accepted: send less per event"
    return Rejection(Reason.TOO_LARGE, "$", message)


def _undecodable(value: bytes, error: Exception) -> Rejection:
    """Tells what does not fit from what is not JSON, and that from what is not UTF-8."""
    if isinstance(error, msgspec.ValidationError):
        return _invalid(str(error))
    try:
        value.decode()
    except UnicodeDecodeError as broken:
        return Rejection(Reason.INVALID_UTF8, "$", f"not UTF-8: {broken.reason}")
    return Rejection(Reason.NOT_JSON, "$", str(error).removeprefix("JSON is malformed: "))


_PATH = re.compile(r"(?s)(.*) - at `(\$[^`]*)`")
_FIELD = re.compile(r"(?s).* field `(.*)`")
# msgspec tells its errors apart by text alone; the tests hold each of these against the library.
_CODES = (
    ("Object missing", Reason.MISSING_FIELD),
    ("Object contains unknown", Reason.UNKNOWN_FIELD),
    ("Invalid enum value", Reason.OUT_OF_RANGE),
    ("Number out of range", Reason.OUT_OF_RANGE),
    ("Integer value out of range", Reason.OUT_OF_RANGE),
    ("Expected `object`", Reason.NOT_AN_OBJECT),
)
_BOUND = re.compile(r"Expected `\w+` (<=|>=|of length)")


def _invalid(text: str) -> Rejection:
    at = _PATH.fullmatch(text)
    message, path = (at[1], at[2]) if at else (text, "$")
    code = _code(message)
    if code in {Reason.MISSING_FIELD, Reason.UNKNOWN_FIELD} and (named := _FIELD.fullmatch(message)):
        path = f"$.{named[1]}"
    return Rejection(code, path[:200], message[:500])


def _code(message: str) -> Reason:
    for start, code in _CODES:
        if message.startswith(start):
            return code
    if _BOUND.match(message):
        return Reason.OUT_OF_RANGE
    return Reason.NULL_VALUE if message.endswith("got `null`") else Reason.WRONG_TYPE
