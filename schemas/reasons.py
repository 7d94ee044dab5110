"""Why something that came from outside is no row: the codes, and what a refusal says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Why a row was refused. The code goes into dead letters and reject counts: never rename one."""

    meaning: str
    """A sentence for people, for the documents too."""

    def __new__(cls, code: str, meaning: str = "") -> Self:
        """A member whose value is the code."""
        member = str.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member

    EMPTY = "empty", "The message has no value."
    NOT_JSON = "not_json", "The bytes are not one JSON document."
    INVALID_UTF8 = "invalid_utf8", "A text is not UTF-8."
    NOT_AN_OBJECT = "not_an_object", "The document is an array, a text, a number, a boolean or null."
    TOO_LARGE = "too_large", "The message is longer, or holds more rows, than is accepted."
    DUPLICATE_KEY = "duplicate_key", "The object holds the same key twice."
    MISSING_FIELD = "missing_field", "A field that is not nullable is absent."
    UNKNOWN_FIELD = "unknown_field", "The object holds a field that the pipeline does not name."
    NULL_VALUE = "null_value", "A field that is not nullable is null."
    WRONG_TYPE = "wrong_type", "A value is of another type than the field."
    OUT_OF_RANGE = (
        "out_of_range",
        "A value is outside min, max, values or max_length, or fits no double, 64-bit integer or year 1-9999.",
    )
    LATE_LABEL = "late_label", "The label came after the horizon."
    UNKNOWN_EVENT = "unknown_event", "No event with the label's id came within the horizon."
    UNDECODABLE_BATCH = "undecodable_batch", "The message is not the batch that its content type, or its topic, says."
    CONTENT_TYPE = "unsupported_content_type", "The content type is none that can be read."
    ENVELOPE = "invalid_envelope", "The CloudEvents envelope is broken or incomplete."


def reasons() -> dict[str, str]:
    """Every code with the sentence that says what it means, in the order of the documents."""
    return {str(reason): reason.meaning for reason in Reason}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong: code, place (`$.field`, `$` for the whole) and a sentence that says the mend."""

    code: Reason
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a message is not a record.

    Attributes:
        code: Of the first error.
        path: Place of the first error.
        message: For people: the first error, or all of them as far as they fit.
        errors: All of them; one that is made without is itself the only one.
    """

    code: Reason
    path: str
    message: str
    errors: tuple[FieldError, ...] = ()

    def __post_init__(self) -> None:
        if not self.errors:
            object.__setattr__(self, "errors", (FieldError(self.code, self.path, self.message),))

    @classmethod
    def of(cls, errors: tuple[FieldError, ...]) -> Self:
        """The rejection that says all of these, at least one."""
        first, several = errors[0], len(errors) > 1
        message = f"{len(errors)} errors: {'; '.join(each.message for each in errors)}" if several else first.message
        return cls(first.code, first.path, shortened(message, MESSAGE), errors)


MESSAGE, PATH = 1_000, 200
"""Most characters of a rejection's message and of a path."""


def shortened(text: str, most: int) -> str:
    """The text, cut where it is longer than so many characters; what no UTF-8 can say is replaced."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return text.encode(errors="replace").decode()
