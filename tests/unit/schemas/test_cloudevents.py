import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.cloudevents import (
    CONTENT_TYPE,
    NO_MODEL,
    NO_OUTPUT,
    THRESHOLD,
    EnvelopeError,
    Predictions,
    decode,
    encode,
    source_of,
)
from schemas.messages import Prediction, Source, Wish, moment
from schemas.pipeline import Pipeline, parse, template

SHOP = parse(template("shop"))
UP_DOWN = parse(template("power").replace("type: boolean", "type: category\n  values: ['DOWN \"', UP]"))
WISH = Wish(id="w1", kind="retrain", subject="shop", who="ada", reason='"new" prices')
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "_event_id": pl.String,
    "_entity": pl.String,
    "_time": pl.Datetime("ms", "UTC"),
    "_source": pl.Int16,
    "_position": pl.Int64,
    "_row": pl.Int32,
    "_prediction": pl.Float64,
    "_pool": pl.Int64,
}


def wish_bytes() -> bytes:
    return encode(WISH, id="w1", source="/headrace/shop/cli")[0]


def test_an_envelope_comes_back_as_it_was_sent() -> None:
    when = datetime(2024, 1, 1, tzinfo=UTC)
    value, headers = encode(WISH, id="w1", source="/headrace/shop/cli", subject="shop", time=when)
    envelope = decode(value, headers)
    assert headers == [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    assert (envelope.id, envelope.subject, envelope.type) == ("w1", "shop", "headrace.wish.v1")
    assert envelope.time == "2024-01-01T00:00:00.000Z"
    assert envelope.dataschema == "urn:headrace:schemas/wish/1"
    assert envelope.read(Wish) == envelope.message() == WISH


def test_attributes_that_are_not_given_are_absent_not_null() -> None:
    assert set(json.loads(wish_bytes())) == {
        "specversion", "id", "source", "type", "datacontenttype", "dataschema", "data",
    }  # fmt: skip


def test_equal_messages_are_equal_bytes() -> None:
    assert wish_bytes() == wish_bytes()


@pytest.mark.parametrize(
    "content_type",
    [CONTENT_TYPE, b"application/cloudevents+json", b"Application/CloudEvents+JSON ; charset=utf-8"],
)
def test_the_content_type_may_be_written_in_any_way(content_type: bytes) -> None:
    assert decode(wish_bytes(), [("Content-Type", content_type)]).read(Wish) == WISH


def test_a_null_content_type_is_forgiven_like_a_missing_one() -> None:
    assert decode(wish_bytes(), [("content-type", None)]).read(Wish) == WISH


def test_extension_attributes_are_ignored() -> None:
    value = wish_bytes()[:-1] + b',"traceparent":"00-1","partitionkey":"a"}'
    assert decode(value).read(Wish) == WISH


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"", []),
        (b"[]", []),
        (b"\xff", []),
        (b"{}", []),
        (b'{"specversion":"0.3","id":"1","source":"/a","type":"t"}', []),
        (b'{"specversion":"1.0","id":"","source":"/a","type":"t"}', []),
        (b'{"specversion":"1.0","id":"1","source":"\xff","type":"t"}', []),
        (wish_bytes(), [("content-type", b"application/json")]),
        (wish_bytes(), [("content-type", b"application/avro")]),
    ],
)
def test_other_bytes_are_an_envelope_error(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(EnvelopeError):
        decode(value, headers)


def test_data_of_another_type_is_an_envelope_error() -> None:
    with pytest.raises(EnvelopeError, match=r"is a headrace\.wish\.v1, not a headrace\.prediction"):
        decode(wish_bytes()).read(Prediction)
    with pytest.raises(EnvelopeError, match="not a valid"):
        decode(wish_bytes().replace(b"retrain", b"explode")).read(Wish)
    with pytest.raises(EnvelopeError, match="not a message that this version knows"):
        decode(wish_bytes().replace(b"wish.v1", b"wish.v9")).message()


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
        "_prediction": st.none() | st.floats(0, 1) | st.sampled_from([0.5, 5e-324, 1e-7]),
        "_pool": st.none() | st.integers(0, 2**63 - 1),
    }
)


def expected(row: dict[str, Any], spec: Pipeline) -> bytes:
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
    return encode(message, id=message.id, source=source, subject=message.event_id, time=message.time)[0]


@given(st.lists(ROWS, max_size=5), st.sampled_from([SHOP, UP_DOWN]))
def test_the_columnar_encoder_says_what_the_models_say(rows: list[dict[str, Any]], spec: Pipeline) -> None:
    keys, values = Predictions(spec).encode(pl.DataFrame(rows, schema=SCHEMA))
    assert keys == [(row["_event_id"] if row["_entity"] is None else row["_entity"]).encode() for row in rows]
    assert [json.loads(value) for value in values] == [json.loads(expected(r, spec)) for r in rows]
    for value in values:
        envelope = decode(value, [("content-type", CONTENT_TYPE)])
        assert envelope.read(Prediction).id == envelope.id


def one(**changes: object) -> Prediction:
    row = dict.fromkeys(SCHEMA, 0) | {"_event_id": "e", "_entity": "k", "_pool": 1, **changes}
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
