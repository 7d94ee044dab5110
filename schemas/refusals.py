"""All that is wrong with a message that is no record: where, what, and the mend.

This is asked for refused messages only. It reads JSON by the grammar of the fast path, so that both agree about what a
document is, and asks the contract for the rest.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from typing import Any

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.reasons import PATH, FieldError, Reason, shortened

MOST_STRANGERS = 20
"""Fields that the pipeline does not name and keys that are there twice: most that are reported of each."""

MOST_MENDED = 3
"""With more such fields than that the sender means another pipeline: no guess which field each was to be."""

_SENTENCE, _VALUE, _DIGITS = 300, 60, 400
_DEEP, _TOKENS = 64, 10_000


class Refusals:
    """Names the errors of messages of one kind.

    Args:
        model: The contract of the messages.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        self._names = dict.fromkeys(str(field.alias) for field in model.model_fields.values())

    def of_bytes(self, value: bytes) -> tuple[FieldError, ...]:
        """Everything that is wrong with a message; empty where the contract accepts it. Never raises for content."""
        try:
            document = _read(value)
        except UnicodeDecodeError as broken:
            return (_whole(Reason.INVALID_UTF8, f"not UTF-8: {broken.reason} at byte {broken.start}"),)
        except RecursionError:
            return (self._too_deep(value.decode()),)
        except (ValueError, msgspec.DecodeError) as broken:
            return (_whole(Reason.NOT_JSON, _not_json(value, str(broken))),)
        if not isinstance(document, tuple):
            got = f"the message must be a JSON object, not {_shown(document)}"
            return (_whole(Reason.NOT_AN_OBJECT, got),)
        return (*_twice([name for name, _ in document]), *self.of_values(dict(document)))

    def of_values(self, values: Mapping[str, object]) -> tuple[FieldError, ...]:
        """Everything that is wrong with the values of a row; empty where the contract accepts it."""
        strangers = [name for name in values if name not in self._names]
        left_out = set(strangers[MOST_STRANGERS:])
        values = {name: value for name, value in values.items() if name not in left_out}
        try:
            self._model.model_validate(values)
        except ValidationError as wrong:
            meant = [name for name in self._names if name not in values] if len(strangers) <= MOST_MENDED else []
            return tuple(_error(each, meant) for each in wrong.errors(include_url=False))
        return ()

    def _too_deep(self, text: str) -> FieldError:
        """The error of a document that no reader takes, because it is nested too deeply."""
        if not text.lstrip().startswith("{"):
            return _whole(Reason.NOT_AN_OBJECT, "the message must be a JSON object, not an array")
        mend = "is nested too deeply: send one value per field, not arrays or objects"
        name = _deepest(text)
        if name is None:
            return _whole(Reason.WRONG_TYPE, f"the message {mend}")
        return _at(name, Reason.WRONG_TYPE, f"{_name(name)} {mend}") if name in self._names else _unknown(name, ())


def _twice(names: Sequence[str]) -> tuple[FieldError, ...]:
    """The errors of keys that are there twice."""
    if len(set(names)) == len(names):
        return ()
    repeated = [name for name, count in Counter(names).items() if count > 1]
    mend = "is there twice: send each field once"
    return tuple(_at(name, Reason.DUPLICATE_KEY, f"{_name(name)} {mend}") for name in islice(repeated, MOST_STRANGERS))


# --- reading ----------------------------------------------------------------------------------


def _read(value: bytes) -> Any:
    """The document, objects as pairs.

    Raises:
        ValueError, msgspec.DecodeError: It is no JSON, or no UTF-8 (UnicodeDecodeError).
        RecursionError: It is nested too deeply.
    """
    text = value.decode()
    with suppress(msgspec.ValidationError):  # a number that fits no type; the reader below sees what is behind it
        msgspec.json.decode(value)
    return _READER.decode(text)


def _integer(digits: str) -> int:
    """The number; of one that is far too large for every field only that it is so."""
    return int(digits[:_DIGITS])


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_READER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=_integer, parse_constant=_no_number)
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_NOT_A_NUMBER = re.compile(rb"[:\[,]\s*-?(NaN|Infinity)")


def _deepest(text: str) -> str | None:
    """The member of the outermost object that is nested too deeply; None where it is not soon found."""
    depth, name = 0, ""
    for token in islice(_TOKEN.finditer(text), _TOKENS):
        match token[0]:
            case "{" | "[":
                depth += 1
            case "}" | "]":
                depth -= 1
            case key if depth == 1:
                name = key
        if depth > _DEEP:
            return str(json.loads(name))
    return None


def _not_json(value: bytes, problem: str) -> str:
    if found := _NOT_A_NUMBER.search(value):
        return f"not JSON: {found[1].decode()} is no number of JSON; send null, or leave the field out"
    return shortened(f"not JSON: {problem.removeprefix('JSON is malformed: ')}", _SENTENCE)


# --- sentences --------------------------------------------------------------------------------

_FORMS: dict[str, tuple[Reason, str]] = {
    "missing": (Reason.MISSING_FIELD, "{name} is missing: send it, or declare it nullable in pipeline.yaml"),
    "extra_forbidden": (Reason.UNKNOWN_FIELD, ""),
    "null": (Reason.NULL_VALUE, "{name} is null: send a value, or declare it nullable in pipeline.yaml"),
    "float_type": (Reason.WRONG_TYPE, "{name} must be a number, not {got}"),
    "int_type": (Reason.WRONG_TYPE, "{name} must be an integer, not {got}"),
    "bool_type": (Reason.WRONG_TYPE, "{name} must be true or false, not {got}"),
    "string_type": (Reason.WRONG_TYPE, "{name} must be a text, not {got}"),
    "choice_type": (Reason.WRONG_TYPE, "{name} must be one of {expected}, not {got}"),
    "time_type": (
        Reason.WRONG_TYPE,
        "{name} must be epoch milliseconds or RFC 3339 text with an offset, not {got}",
    ),
    "time_text": (
        Reason.WRONG_TYPE,
        "{name} must be RFC 3339 with an offset, such as 2024-01-31T08:00:00Z, not {got}",
    ),
    "time_range": (Reason.OUT_OF_RANGE, "{name} is outside the years 1 to 9999 (epoch milliseconds): {got}"),
    "literal_error": (Reason.OUT_OF_RANGE, "{name} must be one of {expected}, not {got}"),
    "finite_number": (Reason.OUT_OF_RANGE, "{name} must fit a double and be finite, not {got}"),
    "greater_than_equal": (Reason.OUT_OF_RANGE, "{name} is below its smallest value {ge}: {got}"),
    "less_than_equal": (Reason.OUT_OF_RANGE, "{name} is above its largest value {le}: {got}"),
    "string_too_short": (Reason.OUT_OF_RANGE, "{name} is empty: send at least one character"),
    "string_too_long": (Reason.OUT_OF_RANGE, "{name} is longer than {max_length} characters: {got}"),
    "string_unicode": (Reason.NOT_JSON, "a text holds half of a surrogate pair: send whole characters"),
}
"""What each error type of the contract means: its code and its sentence."""

_OTHER = (Reason.WRONG_TYPE, "{name} is not what the pipeline declares: {got}")
"""For an error type that a newer pydantic may bring: content must never stop ingestion."""


def _kind(error: ErrorDetails) -> str:
    """The error type, made finer where a reason needs it."""
    kind, value = error["type"], error["input"]
    if value is None and kind != "extra_forbidden":
        return "null"
    if kind == "literal_error" and not isinstance(value, str):
        return "choice_type"
    if kind == "float_type" and type(value) is int:
        return "finite_number"
    return kind


def _whole(code: Reason, sentence: str) -> FieldError:
    return FieldError(code, "$", sentence)


def _at(name: str, code: Reason, sentence: str) -> FieldError:
    return FieldError(code, shortened(f"$.{name}", PATH), shortened(sentence, _SENTENCE))


def _unknown(name: str, meant: Sequence[str]) -> FieldError:
    close = get_close_matches(name, meant, n=1, cutoff=0.6) if len(name) <= _VALUE else []
    mend = f"did you mean {_quoted(close[0])}?" if close else "remove it, or declare it in pipeline.yaml"
    return _at(name, Reason.UNKNOWN_FIELD, f"unknown field {_quoted(name)}; {mend}")


def _name(name: str) -> str:
    return name if name.isidentifier() and len(name) <= _VALUE else _quoted(name)


def _quoted(text: str) -> str:
    return repr(shortened(text, _VALUE))


def _error(error: ErrorDetails, meant: Sequence[str]) -> FieldError:
    """An error of the contract in our words; `meant` are the fields that an unknown one may have been."""
    code, sentence = _FORMS.get(_kind(error), _OTHER)
    if not error["loc"]:
        return _whole(code, sentence)
    name = str(error["loc"][0])
    if code is Reason.UNKNOWN_FIELD:
        return _unknown(name, meant)
    bounds = {key: _bound(value) for key, value in error.get("ctx", {}).items()}
    return _at(name, code, sentence.format(name=_name(name), got=_shown(error["input"]), **bounds))


def _bound(value: object) -> str:
    """A bound as a person would write it."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return shortened(str(int(value) if whole else value), 2 * _VALUE)  # type: ignore[call-overload]


def _shown(value: object) -> str:
    """A value as JSON would say it, shortened."""
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return _quoted(value)
        case tuple() | dict():
            return "an object"
        case list():
            return "an array"
        case _:
            return shortened(str(value), _VALUE)
