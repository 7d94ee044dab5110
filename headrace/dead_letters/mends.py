"""What to do about a dead letter, by its reason."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.events import Reason

PRODUCER = "Mend the producer and send the message again"


def _or_else(change: str) -> str:
    return f"or, where the data is right, {change} in pipeline.yaml, start again and replay"


MENDS: Mapping[str, str] = {
    Reason.EMPTY: f"{PRODUCER} with a value; a tombstone means nothing here.",
    Reason.NOT_JSON: f"{PRODUCER} as JSON, or with the content-type of what it is.",
    Reason.INVALID_UTF8: f"{PRODUCER} in UTF-8.",
    Reason.NOT_AN_OBJECT: f"{PRODUCER} as one JSON object per event.",
    Reason.TOO_LARGE: f"{PRODUCER} in smaller ones.",
    Reason.DUPLICATE_KEY: f"{PRODUCER} with each field once.",
    Reason.MISSING_FIELD: f"{PRODUCER} with the field, {_or_else('set `nullable: true`')}.",
    Reason.UNKNOWN_FIELD: f"{PRODUCER} without the field, {_or_else('declare the field')}.",
    Reason.NULL_VALUE: f"{PRODUCER} with a value, {_or_else('set `nullable: true`')}.",
    Reason.WRONG_TYPE: f"{PRODUCER} with the field's type; a number in quotes is a text.",
    Reason.OUT_OF_RANGE: f"{PRODUCER} within the bounds, {_or_else('widen `min`, `max`, `values` or `max_length`')}.",
    Reason.LATE_LABEL: "Send labels earlier, or raise `labels.horizon`. Replayed as it is, it is late again.",
    Reason.UNKNOWN_EVENT: "Send the event first (was it refused? replay it), then replay this label.",
    Reason.UNDECODABLE_BATCH: f"{PRODUCER} as its content-type says. On an internal topic: somebody else wrote there.",
    Reason.CONTENT_TYPE: f"{PRODUCER} as JSON, CloudEvents, NDJSON or Arrow stream, with that content-type.",
    Reason.ENVELOPE: f"{PRODUCER} with the attributes of CloudEvents 1.0: specversion, id, source, type.",
}
OTHERWISE = "Mend what the message names, in the producer or in pipeline.yaml; then replay."


def mend(reason: str) -> str:
    """The way out for a person."""
    return MENDS.get(reason, OTHERWISE)
