"""CloudEvents 1.0 in structured JSON: the envelope of every public message.

One codec for single messages, and a columnar one for predictions, of which there is one per event.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import polars as pl
from pydantic import ValidationError

from schemas.messages import MESSAGES, Message, Prediction, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from schemas.spec import Pipeline

M = TypeVar("M", bound=Message)
KafkaHeaders = list[tuple[str, bytes]]

MEDIA_TYPE = "application/cloudevents+json"
CONTENT_TYPE = f"{MEDIA_TYPE}; charset=UTF-8".encode()
NO_MODEL = "there is no model yet"
NO_OUTPUT = "the model gave no finite number"


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
        if self.type != type_of(model):
            raise EnvelopeError(f"{self.id}: is a {self.type}, not a {type_of(model)}")
        try:
            return model.from_json(bytes(self.data))
        except ValidationError as error:
            raise EnvelopeError(f"{self.id}: is not a valid {self.type}: {error}") from error

    def message(self) -> Message:
        """The data as the message that the type names; EnvelopeError where none is known."""
        for model in MESSAGES:
            if type_of(model) == self.type:
                return self.read(model)
        raise EnvelopeError(f"{self.id}: {self.type} is not a message that this version knows")


def type_of(model: type[Message]) -> str:
    """The CloudEvents type of a message, such as `headrace.prediction.v1`."""
    return f"headrace.{model.what}.v{model.schema_version}"


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
) -> tuple[bytes, KafkaHeaders]:
    """Value and headers of one message; equal arguments give equal bytes."""
    envelope = Envelope(
        specversion="1.0",
        id=id,
        source=source,
        type=type or type_of(message.__class__),
        subject=subject or None,
        time=None if time is None else rfc3339(time),
        datacontenttype="application/json",
        dataschema=dataschema_of(message.__class__),
        data=msgspec.Raw(message.model_dump_json().encode()),
    )
    return msgspec.json.encode(envelope), [("content-type", CONTENT_TYPE)]


def decode(value: bytes, headers: Iterable[tuple[str, bytes | None]] = ()) -> Envelope:
    """The envelope of a structured message; EnvelopeError where it is none.

    A missing or null content type is forgiven, another one is not.
    """
    for name, given in headers:
        if name.lower() == "content-type" and given is not None and not _is_cloudevent(given):
            shown = given.decode(errors="replace")
            raise EnvelopeError(f"content-type is {shown!r}; send {MEDIA_TYPE}")
    try:
        envelope = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvelopeError(f"is not a CloudEvent in structured JSON: {error}") from error
    if not (envelope.id and envelope.source and envelope.type):
        raise EnvelopeError("is not a CloudEvent: id, source and type must not be empty")
    return envelope


_DECODER = msgspec.json.Decoder(Envelope)


def _is_cloudevent(content_type: bytes) -> bool:
    return content_type.split(b";")[0].strip().lower() == MEDIA_TYPE.encode()


# --- predictions ------------------------------------------------------------------------------


class Predictions:
    """Makes the messages of a pipeline's predictions.

    Args:
        spec: The pipeline.
    """

    def __init__(self, spec: Pipeline) -> None:
        envelope = pl.struct(*_envelope(spec), _data(spec).alias("data"))
        value = envelope.struct.json_encode().cast(pl.Binary)
        key = pl.coalesce("_entity", "_event_id").cast(pl.Binary)
        self._columns = [key.alias("key"), value.alias("value")]

    def encode(self, frame: pl.DataFrame) -> tuple[list[bytes], list[bytes]]:
        """Key and value of each row: a structured CloudEvent, equal to what `encode` gives for its Prediction.

        Reads `_event_id`, `_entity`, `_time`, `_source`, `_position`, `_row`, `_prediction` (the
        probability of the second class or null) and `_pool` (null or 0 where there is none).
        """
        key, value = frame.select(self._columns)
        return key.to_list(), value.to_list()


PREDICTION_HEADERS: KafkaHeaders = [("content-type", CONTENT_TYPE)]
_SERVICE = "serving"


def _envelope(spec: Pipeline) -> list[pl.Expr]:
    identity = pl.format("{}-{}-{}", "_source", "_position", "_row")
    source = pl.lit(source_of(spec.pipeline, _SERVICE))
    return [
        pl.lit("1.0").alias("specversion"),
        identity.alias("id"),
        source.alias("source"),
        pl.lit(type_of(Prediction)).alias("type"),
        pl.col("_event_id").alias("subject"),
        _time().alias("time"),
        pl.lit("application/json").alias("datacontenttype"),
        pl.lit(dataschema_of(Prediction)).alias("dataschema"),
    ]


def _time() -> pl.Expr:
    return pl.col("_time").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")


def _data(spec: Pipeline) -> pl.Expr:
    given = pl.col("_prediction")
    probability = pl.when(given.is_finite()).then(given)
    pool = pl.when(pl.col("_pool") > 0).then(pl.col("_pool"))
    reason = pl.when(pool.is_null()).then(pl.lit(NO_MODEL)).otherwise(pl.lit(NO_OUTPUT))
    return pl.struct(
        pl.col("_event_id").alias("event_id"),
        pl.col("_entity").alias("entity"),
        _time().alias("time"),
        _value(probability, spec.classes).alias("value"),
        probability.alias("probability"),
        pl.when(probability.is_null()).then(reason).alias("reason"),
        pool.alias("pool"),
        pl.struct(
            pl.col("_source").alias("partition"),
            pl.col("_position").alias("position"),
            pl.col("_row").alias("row"),
        ).alias("source"),
    )


def _value(probability: pl.Expr, classes: tuple[Any, ...]) -> pl.Expr:
    """The likelier class; the second one where both are equally likely."""
    return (
        pl.when(probability >= THRESHOLD)
        .then(pl.lit(classes[1]))
        .otherwise(pl.when(probability.is_not_null()).then(pl.lit(classes[0])))
    )


THRESHOLD = 0.5
"""Probability of the second class from which on it is the prediction."""
