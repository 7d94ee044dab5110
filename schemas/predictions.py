"""Predictions as messages: one per event, so they are encoded by columns and never row by row."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

import polars as pl

from schemas.batch import PROBABILITIES, TRACEPARENT
from schemas.cloudevents import (
    DATA_TYPE,
    PREFIX,
    STRUCTURED,
    Envelope,
    Form,
    KafkaHeaders,
    dataschema_of,
    source_of,
    type_of,
)
from schemas.messages import Prediction
from schemas.task import THRESHOLD, Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.spec import Pipeline

NO_MODEL = "there is no model yet"
NO_OUTPUT = "the model gave no finite number"
_SERVICE = "serving"
_TRACE = {"traceparent": pl.col(TRACEPARENT)}


class Predictions:
    """Makes the messages of a pipeline's predictions.

    Args:
        spec: The pipeline.
        form: How they are laid into Kafka messages.
    """

    def __init__(self, spec: Pipeline, form: Form = "structured") -> None:
        self._form, self._constant, self._data = form, _constant(spec), _data(spec)
        self._untraced, self._traced = self._columns(_varying()), self._columns(_varying() | _TRACE)

    def encode(self, frame: pl.DataFrame) -> tuple[list[bytes], list[bytes], Iterable[KafkaHeaders]]:
        """Key, value and headers of each row: a CloudEvent, equal to what `cloudevents.encode` gives for it.

        Reads `_event_id`, `_entity`, `_time`, `_source`, `_position`, `_row`, `_traceparent`, `_prediction` (null where
        there is none), with several classes `_probabilities`, and `_pool` (null or 0 where there is none). A row's
        trace is an attribute of its event, and a header where tracing tools look for it.
        """
        traces = frame.get_column(TRACEPARENT)
        traced = traces.null_count() < len(traces)
        key, value, *varying = frame.select(self._traced if traced else self._untraced)
        headers = self._headers(varying) if self._form == "binary" else repeat(STRUCTURED)
        return key.to_list(), value.to_list(), _with_traces(headers, traces) if traced else headers

    def _columns(self, varying: dict[str, pl.Expr]) -> list[pl.Expr]:
        key = pl.coalesce("_entity", "_event_id")
        if self._form == "binary":
            attributes = [_binary(each).alias(PREFIX + name) for name, each in varying.items()]
            return [_binary(key).alias("key"), _binary(self._data.struct.json_encode()).alias("value"), *attributes]
        value = self._event(varying)
        if "traceparent" in varying:  # JSON of a row without a trace has no such key, not a null
            value = pl.when(pl.col(TRACEPARENT).is_null()).then(self._event(_varying())).otherwise(value)
        return [_binary(key).alias("key"), _binary(value).alias("value")]

    def _event(self, varying: dict[str, pl.Expr]) -> pl.Expr:
        event = pl.struct(*_attributes(self._constant, varying), self._data.alias("data"))
        return event.struct.json_encode()

    def _headers(self, varying: list[pl.Series]) -> Iterable[KafkaHeaders]:
        """What is the same for all rows comes first, by reference; an attribute that is null has no header."""
        same: KafkaHeaders = [("content-type", DATA_TYPE.encode())]
        same += [(PREFIX + name, text.encode()) for name, text in self._constant.items()]
        rows = zip(*(zip(repeat(each.name), each.to_list()) for each in varying), strict=True)
        if any(each.null_count() for each in varying):
            return [[*same, *((name, value) for name, value in own if value is not None)] for own in rows]
        return [[*same, *own] for own in rows]


def _with_traces(headers: Iterable[KafkaHeaders], traces: pl.Series) -> Iterable[KafkaHeaders]:
    return [
        own if trace is None else [*own, ("traceparent", trace.encode())]
        for own, trace in zip(headers, traces.to_list(), strict=False)
    ]


def _constant(spec: Pipeline) -> dict[str, str]:
    """The attributes that all predictions of a pipeline share."""
    return {
        "specversion": "1.0",
        "source": source_of(spec.pipeline, _SERVICE),
        "type": type_of(Prediction),
        "dataschema": dataschema_of(Prediction),
    }


def _varying() -> dict[str, pl.Expr]:
    """The attributes that each prediction has for itself, as texts."""
    return {
        "id": pl.format("{}-{}-{}", "_source", "_position", "_row"),
        "subject": pl.col("_event_id"),
        "time": _time(),
    }


def _attributes(constant: dict[str, str], varying: dict[str, pl.Expr]) -> list[pl.Expr]:
    """All attributes as columns of the structured event, in the envelope's order."""
    same = {name: pl.lit(text) for name, text in (constant | {"datacontenttype": DATA_TYPE}).items()}
    columns = same | varying
    return [columns[name].alias(name) for name in Envelope.__struct_fields__ if name in columns]


def _binary(text: pl.Expr) -> pl.Expr:
    return text.cast(pl.Binary)


def _time() -> pl.Expr:
    return pl.col("_time").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")


def _data(spec: Pipeline) -> pl.Expr:
    pool = pl.when(pl.col("_pool") > 0).then(pl.col("_pool"))
    reason = pl.when(pool.is_null()).then(pl.lit(NO_MODEL)).otherwise(pl.lit(NO_OUTPUT))
    told = _TOLD[spec.task](spec.target)
    return pl.struct(
        pl.col("_event_id").alias("event_id"),
        pl.col("_entity").alias("entity"),
        _time().alias("time"),
        *(each.alias(name) for name, each in told.items()),
        pl.when(told["value"].is_null()).then(reason).alias("reason"),
        pool.alias("pool"),
        pl.struct(
            pl.col("_source").alias("partition"),
            pl.col("_position").alias("position"),
            pl.col("_row").alias("row"),
        ).alias("source"),
    )


def _given() -> pl.Expr:
    """What the pool said, null where that is no number."""
    given = pl.col("_prediction")
    return pl.when(given.is_finite()).then(given)


def _of_two(target: Target) -> dict[str, pl.Expr]:
    """The likelier class; the second one where both are equally likely."""
    probability, (first, second) = _given(), target.classes
    value = (
        pl.when(probability >= THRESHOLD)
        .then(pl.lit(second))
        .otherwise(pl.when(probability.is_not_null()).then(pl.lit(first)))
    )
    return {"value": value, "probability": probability}


def _of_several(target: Target) -> dict[str, pl.Expr]:
    place, all_of_them = _given().cast(pl.Int64), pl.col(PROBABILITIES)
    value = place.replace_strict(dict(enumerate(target.names)), default=None, return_dtype=pl.String)
    each = [all_of_them.list.get(index, null_on_oob=True).alias(name) for index, name in enumerate(target.names)]
    # JSON has the key, null, where there is no model: a row's keys do not depend on its values.
    probabilities = pl.when(place.is_not_null()).then(pl.struct(each))
    return {
        "value": value,
        "probability": all_of_them.list.get(place, null_on_oob=True),
        "probabilities": probabilities,
    }


def _of_numbers(target: Target) -> dict[str, pl.Expr]:  # noqa: ARG001 - one shape
    return {"value": _given(), "probability": pl.lit(None, pl.Float64)}


_TOLD = {"binary": _of_two, "multiclass": _of_several, "regression": _of_numbers}
