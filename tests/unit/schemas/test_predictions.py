import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from schemas.cloudevents import Form, KafkaHeaders, decode, encode, source_of
from schemas.messages import Prediction, Source, moment
from schemas.pipeline import Pipeline, parse, template
from schemas.predictions import NO_MODEL, NO_OUTPUT, Predictions
from schemas.task import THRESHOLD

SHOP = parse(template("shop"))
UP_DOWN = parse(template("power").replace("type: boolean", "type: category\n  values: ['DOWN \"', UP]"))
SEVERAL = parse(
    template("power")
    .replace("task: binary", "task: multiclass")
    .replace("boolean", "category\n  values: [a, 'b \"', c]")
)
NUMBER = parse(template("power").replace("task: binary", "task: regression").replace("type: boolean", "type: number"))
FORMS: tuple[Form, ...] = ("structured", "binary")
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "_event_id": pl.String,
    "_entity": pl.String,
    "_time": pl.Datetime("ms", "UTC"),
    "_source": pl.Int16,
    "_position": pl.Int64,
    "_row": pl.Int32,
    "_traceparent": pl.String,
    "_prediction": pl.Float64,
    "_pool": pl.Int64,
}


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
FIRST = datetime(1, 1, 1, tzinfo=UTC)
ROWS = st.fixed_dictionaries(
    {
        "_event_id": TEXTS | st.sampled_from(['"', "\\", "\x00\x1f\x7f", "\u2028é😀", "</a>"]),
        "_entity": st.none() | TEXTS,
        "_time": st.integers(-62_135_596_800_000, 253_402_300_799_999),
        "_source": st.integers(0, 2**15 - 1),
        "_position": st.integers(0, 2**63 - 1),
        "_row": st.integers(0, 2**31 - 1),
        "_traceparent": st.none() | st.just(TRACE),
        "_prediction": st.none() | st.floats(0, 1) | st.sampled_from([0.5, 5e-324, 1e-7]),
        "_pool": st.none() | st.integers(0, 2**63 - 1),
    }
)


def expected(row: dict[str, Any], spec: Pipeline, form: Form) -> tuple[bytes, KafkaHeaders]:
    """What the message model and the envelope give for a row."""
    probability, pool = row["_prediction"], row["_pool"] or None
    none = probability is None
    message = Prediction(
        event_id=row["_event_id"],
        entity=row["_entity"],
        time=FIRST + timedelta(milliseconds=row["_time"] + 62_135_596_800_000),
        value=None if none else spec.classes[probability >= THRESHOLD],
        probability=probability,
        reason=(NO_MODEL if pool is None else NO_OUTPUT) if none else None,
        pool=pool,
        source=Source(partition=row["_source"], position=row["_position"], row=row["_row"]),
    )
    source = source_of(spec.pipeline, "serving")
    return encode(
        message,
        id=message.id,
        source=source,
        subject=message.event_id,
        time=message.time,
        form=form,
        traceparent=row["_traceparent"],
    )


@given(st.lists(ROWS, max_size=5), st.sampled_from([SHOP, UP_DOWN]), st.sampled_from(FORMS))
def test_the_columnar_encoder_says_what_the_models_say(rows: list[dict[str, Any]], spec: Pipeline, form: Form) -> None:
    keys, values, headers = Predictions(spec, form).encode(pl.DataFrame(rows, schema=SCHEMA))
    assert keys == [(row["_event_id"] if row["_entity"] is None else row["_entity"]).encode() for row in rows]
    for row, value, own in zip(rows, values, headers, strict=False):  # the headers of structured ones never end
        wanted, story = expected(row, spec, form)
        assert json.loads(value) == json.loads(wanted)
        assert sorted(own) == sorted(story)
        envelope = decode(value, own)
        assert envelope.read(Prediction).id == envelope.id
        assert envelope.traceparent == row["_traceparent"]


def test_structured_predictions_share_one_header() -> None:
    rows = [dict.fromkeys(SCHEMA, 0) | {"_event_id": "e", "_entity": "k", "_pool": 1, "_traceparent": None}]
    values, headers = Predictions(SHOP).encode(pl.DataFrame(rows, schema=SCHEMA))[1:]
    first = dict(next(iter(headers)))
    assert first == {"content-type": b"application/cloudevents+json; charset=UTF-8"}
    assert values[0].startswith(b'{"specversion":"1.0","id":"0-0-0","source":"/headrace/shop/serving",')


def one(**changes: object) -> Prediction:
    row = dict.fromkeys(SCHEMA, 0) | {"_event_id": "e", "_entity": "k", "_pool": 1, "_traceparent": None, **changes}
    frame = pl.DataFrame([row], schema=SCHEMA)
    return decode(Predictions(UP_DOWN).encode(frame)[1][0]).read(Prediction)


def test_a_number_that_is_none_becomes_null_with_a_reason() -> None:
    for wrong in (float("nan"), float("inf")):
        assert (one(_prediction=wrong).value, one(_prediction=wrong).reason) == (None, NO_OUTPUT)
    assert one(_prediction=None, _pool=None).reason == NO_MODEL


def test_the_value_is_the_likelier_class() -> None:
    assert one(_prediction=0.49).value == 'DOWN "'
    assert one(_prediction=0.5).value == "UP"
    assert one(_time=1_700_000_000_123).time == moment(1_700_000_000_123)


PROBABILITIES = st.none() | st.lists(st.floats(0, 1), min_size=3, max_size=3)


@given(ROWS, PROBABILITIES, st.integers(1, 9))
def test_of_several_classes_each_has_its_probability(row: dict[str, Any], given: list[float] | None, pool: int) -> None:
    place = None if given is None else max(range(3), key=given.__getitem__)
    row = {**row, "_prediction": place, "_probabilities": given, "_pool": None if given is None else pool}
    frame = pl.DataFrame([row], schema={**SCHEMA, "_probabilities": pl.List(pl.Float64)})
    said = decode(Predictions(SEVERAL).encode(frame)[1][0]).read(Prediction)
    assert said.reason == (NO_MODEL if place is None else None)
    if given is None or place is None:
        assert (said.value, said.probability, said.probabilities) == (None, None, None)
    else:
        assert said.value == SEVERAL.classes[place]
        assert said.probability == given[place]
        assert said.probabilities == dict(zip(("a", 'b "', "c"), given, strict=True))


@given(ROWS, st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_told_as_it_is(row: dict[str, Any], value: float) -> None:
    frame = pl.DataFrame([{**row, "_prediction": value, "_pool": 1}], schema=SCHEMA)
    said = decode(Predictions(NUMBER).encode(frame)[1][0]).read(Prediction)
    assert (said.value, said.probability, said.reason) == (value, None, None)
    assert isinstance(said.value, float)
