"""Events and labels as they come from outside: strict types made from the specification.

A decoder answers with the record or with all the reasons why it is none; it never raises for content. The struct is the
fast path of the contract (`schemas.contract`), which is asked for what the struct refuses.
Duplicate keys count as wrong, because readers disagree about which of the two values is meant.
"""

from __future__ import annotations

import json
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec

from schemas.contract import INT64, YEARS_1_TO_9999, Rfc3339, event_model, integer_bounds, label_model
from schemas.reasons import FieldError, Reason, Rejection, reasons
from schemas.record_columns import arrow_schema, identified, label_columns, label_schema, milliseconds, to_columns
from schemas.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import BaseModel

    from schemas.spec import FieldSpec, Pipeline

__all__ = [
    "INT64",
    "MAX_ID_LENGTH",
    "MAX_RECORD_BYTES",
    "YEARS_1_TO_9999",
    "Decoder",
    "FieldError",
    "Reason",
    "Rejection",
    "arrow_schema",
    "event_decoder",
    "event_model",
    "event_type",
    "identified",
    "label_columns",
    "label_decoder",
    "label_model",
    "label_schema",
    "label_type",
    "milliseconds",
    "reasons",
    "to_columns",
]

MAX_RECORD_BYTES = 1_000_000
MAX_ID_LENGTH = 256


def event_decoder(spec: Pipeline) -> Decoder:
    """The reader of events."""
    return Decoder(event_type(spec), event_model(spec))


def label_decoder(spec: Pipeline) -> Decoder:
    """The reader of labels."""
    return Decoder(label_type(spec), label_model(spec))


def event_type(spec: Pipeline) -> type[msgspec.Struct]:
    """The struct of an event; nullable fields that are absent are UNSET, null ones None."""
    return _struct("Event", spec.event_fields, spec.events.id)


def label_type(spec: Pipeline) -> type[msgspec.Struct]:
    """The struct of a label: id, entity and time where the pipeline has them, and the label."""
    return _struct("Label", spec.label_fields, spec.labels.id)


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
    low, high = integer_bounds(field)
    return Annotated[int, msgspec.Meta(ge=low, le=high)]


def _text(field: FieldSpec) -> object:
    if field.values is not None:
        return Literal[field.values]
    return Annotated[str, msgspec.Meta(max_length=field.max_length)]


def _timestamp(_: FieldSpec) -> object:
    low, high = YEARS_1_TO_9999
    return Annotated[int, msgspec.Meta(ge=low, le=high)] | Rfc3339


_ANNOTATIONS: dict[str, Callable[[FieldSpec], object]] = {
    "number": _number,
    "integer": _integer,
    "boolean": lambda _: bool,
    "category": _text,
    "text": _text,
    "timestamp": _timestamp,
}

# --- decoding ---------------------------------------------------------------------------------


class Decoder:
    """Reads JSON messages of one kind.

    Args:
        record: The struct of a message.
        model: Its contract, which accepts the same.
        limit: Most bytes of a message.
    """

    def __init__(self, record: type[msgspec.Struct], model: type[BaseModel], limit: int = MAX_RECORD_BYTES) -> None:
        self._decode = msgspec.json.Decoder(record).decode
        self._refusals = Refusals(model)
        self._limit = limit
        info = msgspec.structs.fields(record)
        self._keys = len(info)
        nullable = [field.name for field in info if not field.required]
        self._may_lack, self._nullable = bool(nullable), _getter(nullable)
        self._moments = _getter([field.name for field in info if _holds(field.type, datetime)])

    def decode(self, value: bytes | None) -> msgspec.Struct | Rejection:
        """The record of a message, or all that is wrong with it; never raises for content."""
        if not value:
            return Rejection(Reason.EMPTY, "$", "the message has no value: send a JSON object")
        if len(value) > self._limit:
            return _too_large(len(value), self._limit)
        try:
            record: msgspec.Struct = self._decode(value)
        except _UNREADABLE as error:
            return self._refused(value, str(error))
        if self._surely_unique(value, record) or _unique(value):
            return record
        return self._refused(value, "a key is there twice")

    def decode_all(self, values: Sequence[bytes | None]) -> list[msgspec.Struct | Rejection]:
        """What `decode` says of each of many messages, in half the time: keys are counted in all of them at once."""
        found: list[msgspec.Struct | Rejection] = []
        add, decode = found.append, self._decode
        for value in values:
            try:
                add(decode(value))  # type: ignore[arg-type]  # no value is a TypeError
            except _UNREADABLE:
                add(self.decode(value))
        if self._surely_good(values, found):
            return found
        return [
            each if type(each) is Rejection else self.decode(value) for each, value in zip(found, values, strict=True)
        ]

    def check(self, row: Mapping[str, object]) -> Rejection | None:
        """All that is wrong with a row of Python values by name, such as one of an Arrow batch; None for nothing."""
        errors = self._refusals.of_values(row)
        return Rejection.of(errors) if errors else None

    def _refused(self, value: bytes, problem: str) -> Rejection:
        # The contract refuses what the struct refuses; if ever it did not, the message would be no record all the same.
        errors = self._refusals.of_bytes(value)
        return Rejection.of(errors or (FieldError(Reason.WRONG_TYPE, "$", problem[:200]),))

    def _surely_good(self, values: Sequence[bytes | None], found: Sequence[msgspec.Struct | Rejection]) -> bool:
        """Whether no record is too large or has a key twice; False where it cannot be told of all of them together.

        Each record has at least one colon per key, so that the right number in all of them is the right one in each.
        """
        records = [each for each in found if type(each) is not Rejection]
        if len(records) < len(found):
            values = [value for value, each in zip(values, found, strict=True) if type(each) is not Rejection]
        if max(map(len, values), default=0) > self._limit:  # type: ignore[arg-type]  # records have values
            return False
        together = b"".join(values)  # type: ignore[arg-type]
        keys = self._keys * len(records) - self._absent(records)
        return together.count(b":") == keys or _quoted_colons(together) == keys

    def _absent(self, records: Sequence[Any]) -> int:
        return sum(each.count(msgspec.UNSET) for each in map(self._nullable, records)) if self._may_lack else 0

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


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)


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


def _unique(value: bytes) -> bool:
    """Whether no key of a valid object is there twice, by reading it again."""
    names: list[str] = [key for key, _ in json.loads(value, object_pairs_hook=list)]
    return len(set(names)) == len(names)


def _too_large(size: int, limit: int) -> Rejection:
    message = f"{size} bytes; at most {limit} are accepted: send less per event"
    return Rejection(Reason.TOO_LARGE, "$", message)
