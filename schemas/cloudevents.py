"""CloudEvents 1.0 over Kafka: the envelope of every public message.

In the structured form the whole event is the value; in the binary form its attributes are headers and the value is the
data alone. Which one a message is in, its content type says: headers that start with `ce_` prove nothing, because
brokers' bridges copy headers along.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
from pydantic import ValidationError

from schemas.messages import MESSAGES, Message, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

M = TypeVar("M", bound=Message)
KafkaHeaders = list[tuple[str, bytes]]
Form = Literal["structured", "binary"]
"""How an event is laid into a Kafka message."""

MEDIA_TYPE = "application/cloudevents+json"
CONTENT_TYPE = f"{MEDIA_TYPE}; charset=UTF-8".encode()
STRUCTURED: KafkaHeaders = [("content-type", CONTENT_TYPE)]
"""The headers of a structured event."""
DATA_TYPE = "application/json"
PREFIX = "ce_"
REQUIRED = ("specversion", "id", "source", "type")
ATTRIBUTES = (*REQUIRED, "subject", "time", "dataschema", "traceparent")
"""The attributes that we write, apart from datacontenttype: in the binary form that one is the content type."""


class EnvelopeError(ValueError):
    """Bytes that are not a CloudEvent of the expected kind."""


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """A CloudEvent whose data is still as it was written."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    traceparent: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")

    def read(self, model: builtins.type[M]) -> M:
        """The data as the given message; EnvelopeError where type or data are another's."""
        if self.type not in types_of(model):
            raise EnvelopeError(f"{self.id}: is a {self.type}, not a {type_of(model)}")
        try:
            return model.from_json(bytes(self.data))
        except ValidationError as error:
            raise EnvelopeError(f"{self.id}: is not a valid {self.type}: {error}") from error

    def message(self) -> Message:
        """The data as the message that the type names; EnvelopeError where none is known."""
        for model in MESSAGES:
            if self.type in types_of(model):
                return self.read(model)
        raise EnvelopeError(f"{self.id}: {self.type} is not a message that this version knows")


def type_of(model: type[Message]) -> str:
    """The CloudEvents type of a message, such as `headrace.prediction.v1`."""
    return f"headrace.{model.what}.v{model.schema_version}"


def types_of(model: type[Message]) -> frozenset[str]:
    """The CloudEvents types that are read as a message: its own and those of earlier versions that it covers."""
    return frozenset(f"headrace.{model.what}.v{version}" for version in {model.schema_version, *model.readable})


def dataschema_of(model: type[Message]) -> str:
    """The URI of the message's schema; its last part is the version."""
    return f"urn:headrace:schemas/{model.what}/{model.schema_version}"


def source_of(pipeline: str, service: str) -> str:
    """The CloudEvents source of a service."""
    return f"/headrace/{pipeline}/{service}"


def encode(
    message: Message,
    *,
    id: str,  # noqa: A002 - the attribute's name in CloudEvents
    source: str,
    subject: str | None = None,
    time: datetime | None = None,
    type: str | None = None,  # noqa: A002 - the attribute's name in CloudEvents
    form: Form = "structured",
    traceparent: str | None = None,
) -> tuple[bytes, KafkaHeaders]:
    """Value and headers of one message; equal arguments give equal bytes, and the value is never empty.

    A trace is an attribute of the event, and a header where tracing tools look for it.
    """
    envelope = Envelope(
        specversion="1.0",
        id=id,
        source=source,
        type=type or type_of(message.__class__),
        subject=subject or None,
        time=None if time is None else rfc3339(time),
        datacontenttype=DATA_TYPE,
        dataschema=dataschema_of(message.__class__),
        traceparent=traceparent,
        data=msgspec.Raw(message.model_dump_json().encode()),
    )
    trace = [] if traceparent is None else [("traceparent", traceparent.encode())]
    if form == "binary":
        return bytes(envelope.data), [*_binary_headers(envelope), *trace]
    return msgspec.json.encode(envelope), [*STRUCTURED, *trace]


def _binary_headers(envelope: Envelope) -> KafkaHeaders:
    given = ((name, getattr(envelope, name)) for name in ATTRIBUTES)
    attributes = [(PREFIX + name, value.encode()) for name, value in given if value is not None]
    return [("content-type", DATA_TYPE.encode()), *attributes]


def decode(value: bytes, headers: Iterable[tuple[str, bytes | None]] = ()) -> Envelope:
    """The envelope of a message in either form; EnvelopeError where it is none.

    The content type decides. Where it is missing or null, a message with all required `ce_` headers is binary and any
    other one structured.
    """
    found = {name.lower(): given for name, given in headers if given is not None}
    kind = _media_type(found.get("content-type", b""))
    if kind == MEDIA_TYPE:
        return _structured(value)
    binary = all(PREFIX + name in found for name in REQUIRED)
    if not kind:
        return _binary(value, found, DATA_TYPE) if binary else _structured(value)
    if binary and _is_json(kind):
        return _binary(value, found, kind)
    mend = f"send {MEDIA_TYPE}, or {DATA_TYPE} with the headers {', '.join(PREFIX + name for name in REQUIRED)}"
    raise EnvelopeError(f"content-type is {kind!r}; {mend}")


def _structured(value: bytes) -> Envelope:
    try:
        return _checked(_DECODER.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvelopeError(f"is not a CloudEvent in structured JSON: {error}") from error


_DECODER = msgspec.json.Decoder(Envelope)


def _binary(value: bytes, headers: Mapping[str, bytes], kind: str) -> Envelope:
    try:
        attributes = {name: headers[PREFIX + name].decode() for name in ATTRIBUTES if PREFIX + name in headers}
    except UnicodeDecodeError as error:
        raise EnvelopeError(f"is not a CloudEvent in binary form: a header is not UTF-8: {error.reason}") from error
    if (version := attributes.pop("specversion")) != "1.0":
        raise EnvelopeError(f"is not a CloudEvent 1.0: ce_specversion is {version!r}")
    return _checked(Envelope(specversion="1.0", **attributes, datacontenttype=kind, data=msgspec.Raw(value)))


def _checked(envelope: Envelope) -> Envelope:
    if not (envelope.id and envelope.source and envelope.type):
        raise EnvelopeError("is not a CloudEvent: id, source and type must not be empty")
    return envelope


def _media_type(content_type: bytes) -> str:
    """The media type in lower case, its parameters left out."""
    return content_type.split(b";")[0].strip().lower().decode(errors="replace")


def _is_json(media_type: str) -> bool:
    return media_type in {DATA_TYPE, "text/json"} or (
        media_type.endswith("+json") and not media_type.startswith("application/cloudevents")
    )
