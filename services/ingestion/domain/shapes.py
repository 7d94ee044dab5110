"""The shapes that a message may come in, decided by its content type first, and the documents that it holds.

CloudEvents 1.0 in structured and binary mode (Kafka protocol binding), newline-delimited JSON, Arrow IPC streams, and
bare JSON, which Confluent's serializers put behind five bytes (their newer framing is a header, and so needs nothing).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import NamedTuple

import msgspec

from schemas import cloudevents
from schemas.contract import ARROW_STREAM, NDJSON
from schemas.events import MAX_ID_LENGTH, Reason, Rejection, milliseconds

FRAME = 5
"""Bytes of Confluent's framing: a zero, which begins no JSON document, and the number of a schema."""

TRACEPARENT = "traceparent"
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""What stands for bytes that are not UTF-8: two ids made of it would be taken for one."""

_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Shape(Enum):
    """What a message is."""

    JSON = cloudevents.DATA_TYPE
    STRUCTURED = cloudevents.MEDIA_TYPE
    BINARY = "application/json, with ce_ headers"
    LINES = NDJSON
    ARROW = ARROW_STREAM


_SHAPES = {shape.value: shape for shape in (Shape.STRUCTURED, Shape.LINES, Shape.ARROW)}
_LINES = {"application/ndjson", "application/jsonl", "application/x-jsonlines"}
_NO_TYPE = {"", "application/octet-stream", "text/plain", "text/json"}
"""What producers say that say nothing: their messages are taken for JSON."""


class Envelope(NamedTuple):
    """What is known of a document besides what it says.

    Attributes:
        row: Its number in the message.
        id: Id of the CloudEvent.
        time: Time of the CloudEvent, epoch milliseconds.
        traceparent: W3C trace context of whoever produced it.
    """

    row: int = 0
    id: str | None = None
    time: int | None = None
    traceparent: str | None = None


class Document(NamedTuple):
    """One JSON document and its envelope."""

    value: bytes | None
    envelope: Envelope


def headers_of(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    """The headers by name in lower case, as text; the first of several counts."""
    found: dict[str, str] = {}
    for name, value in headers:
        if value is not None:
            found.setdefault(name.lower(), value.decode(errors="replace"))
    return found


def shape_of(headers: Mapping[str, str]) -> Shape | Rejection:
    """What a message is by its headers; the rejection of a content type that nobody reads."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media in _SHAPES:
        return _SHAPES[media]
    if media in _LINES:
        return Shape.LINES
    if media.startswith("application/cloudevents") or not (media.endswith(("/json", "+json")) or media in _NO_TYPE):
        known = ", ".join(sorted({"application/json", *_SHAPES}))
        return Rejection(Reason.CONTENT_TYPE, "$", f"content-type is {media[:100]!r}: send one of {known}")
    return Shape.BINARY if "ce_specversion" in headers else Shape.JSON


def unframed(value: bytes | None) -> bytes | None:
    """Without Confluent's framing, where there is one."""
    return value[FRAME:] if value and value[0] == 0 and len(value) > FRAME else value


def json_document(value: bytes | None, headers: Mapping[str, str]) -> Document:
    """Bare JSON."""
    return Document(unframed(value), Envelope(traceparent=_traceparent(headers.get(TRACEPARENT))))


def structured_document(value: bytes | None, headers: Mapping[str, str]) -> Document | Rejection:
    """The data of a structured CloudEvent."""
    try:
        event = cloudevents.decode(value or b"")
    except cloudevents.EnvelopeError as error:
        return _not_an_envelope(str(error))
    except RecursionError:
        return _not_an_envelope("the document is nested too deeply: send one value per field of `data`")
    media = event.datacontenttype or "application/json"
    if not media.partition(";")[0].strip().lower().endswith(("/json", "+json")):
        return _not_an_envelope(f"datacontenttype is {media[:100]!r}: send JSON as `data`")
    trace = event.traceparent or headers.get(TRACEPARENT)
    data = bytes(event.data)
    return _document(_in_base64(value or b"") if data == _NO_DATA else data, event.id, event.time, trace)


class _Binary(msgspec.Struct):
    data_base64: bytes | None = None


_NO_DATA = b"null"
_BINARY = msgspec.json.Decoder(_Binary)


def _in_base64(value: bytes) -> bytes | None:
    """The document of an event that says its data in base64, as it may; None for one without data."""
    try:
        return _BINARY.decode(value).data_base64
    except msgspec.ValidationError:  # neither base64 nor null
        return None


def binary_document(value: bytes | None, headers: Mapping[str, str]) -> Document | Rejection:
    """The value of a CloudEvent whose attributes are headers."""
    missing = [name for name in ("ce_id", "ce_source", "ce_type") if not headers.get(name)]
    if missing:
        return _not_an_envelope(f"the header {missing[0]} is missing or empty: a CloudEvent has id, source and type")
    if headers["ce_specversion"] != "1.0":
        return _not_an_envelope(f"ce_specversion is {headers['ce_specversion'][:20]!r}: send CloudEvents 1.0")
    if any(_UNREADABLE in headers[name] for name in ("ce_id", "ce_source", "ce_type")):
        return _not_an_envelope("one of the headers ce_id, ce_source and ce_type is not UTF-8")
    trace = headers.get(f"ce_{TRACEPARENT}") or headers.get(TRACEPARENT)
    return _document(unframed(value), headers["ce_id"], headers.get("ce_time"), trace)


def line_documents(value: bytes, headers: Mapping[str, str]) -> Iterator[Document]:
    """The lines; empty ones count as rows and hold nothing."""
    trace = _traceparent(headers.get(TRACEPARENT))
    for row, line in enumerate(value.split(b"\n")):
        if line.strip():
            yield Document(line, Envelope(row, traceparent=trace))


def _document(value: bytes | None, name: str, time: str | None, trace: str | None) -> Document | Rejection:
    if len(name) > MAX_ID_LENGTH:
        return Rejection(Reason.OUT_OF_RANGE, "$.id", f"the id has {len(name)} characters; at most {MAX_ID_LENGTH}")
    try:
        moment = None if time is None else milliseconds(msgspec.convert(time, datetime))
    except (msgspec.ValidationError, TypeError):
        moment = None
    if time is not None and (moment is None or not _has_offset(time)):
        return _not_an_envelope(f"time is {time[:40]!r}: send RFC 3339 with an offset")
    return Document(value, Envelope(0, name, moment, _traceparent(trace)))


def _has_offset(time: str) -> bool:
    return time[-1:] in "zZ" or time[-6:-5] in ("+", "-")


def _not_an_envelope(text: str) -> Rejection:
    return Rejection(Reason.ENVELOPE, "$", text[:500])


def _traceparent(given: str | None) -> str | None:
    """Kept where it is one; a broken trace is no reason to refuse an event."""
    return given if given is not None and _TRACE.fullmatch(given) else None
