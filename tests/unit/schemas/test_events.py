import json
from datetime import UTC, datetime

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import create_model

from schemas.events import (
    MAX_RECORD_BYTES,
    Decoder,
    Reason,
    Rejection,
    arrow_schema,
    event_decoder,
    label_columns,
    label_decoder,
    label_schema,
    milliseconds,
    to_columns,
)
from schemas.pipeline import parse

PIPELINE = parse("""
pipeline: p
task: binary
events:
  id: id
  time: at
  entity: class
  fields:
    at: {type: timestamp}
    class: {type: category}
    price: {type: number, min: 0, max: 100}
    count: {type: integer, min: -1.5, nullable: true}
    wide: {type: integer}
    flag: {type: boolean}
    size: {type: category, values: [small, large]}
    note: {type: text, max_length: 5, nullable: true}
    later: {type: timestamp, nullable: true}
labels:
  id: id
  time: known
  field: up
  type: category
  values: [DOWN, UP]
  horizon: 1h
features: {price: price}
""")
EVENTS = event_decoder(PIPELINE)
LABELS = label_decoder(PIPELINE)
GOOD = {
    "id": '"e1"',
    "at": "1700000000000",
    "class": '"x"',
    "price": "3",
    "wide": "5",
    "flag": "true",
    "size": '"small"',
}


def raw(**changes: str | None) -> bytes:
    """The bytes of a good event with some values replaced, None to leave one out."""
    fields = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    text = "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
    return text.encode("utf-8", "surrogateescape")


def rejection(value: bytes | None) -> Rejection:
    result = EVENTS.decode(value)
    assert isinstance(result, Rejection), result
    return result


@pytest.mark.parametrize(
    ("value", "code", "path"),
    [
        (None, Reason.EMPTY, "$"),
        (b"", Reason.EMPTY, "$"),
        (b"{", Reason.NOT_JSON, "$"),
        (b"hello", Reason.NOT_JSON, "$"),
        (b"\xef\xbb\xbf{}", Reason.NOT_JSON, "$"),
        (raw() + b"x", Reason.NOT_JSON, "$"),
        (raw() + raw(), Reason.NOT_JSON, "$"),
        (raw(price="NaN"), Reason.NOT_JSON, "$"),
        (raw(price="Infinity"), Reason.NOT_JSON, "$"),
        (raw(note='"a\x01"'), Reason.NOT_JSON, "$"),
        (raw(note='"\\ud800"'), Reason.NOT_JSON, "$"),
        (b"\xff", Reason.INVALID_UTF8, "$"),
        (raw(note='"\udcff"'), Reason.INVALID_UTF8, "$"),
        (b"[]", Reason.NOT_AN_OBJECT, "$"),
        (b"null", Reason.NOT_AN_OBJECT, "$"),
        (b"1", Reason.NOT_AN_OBJECT, "$"),
        (b"[" * 100_000, Reason.NOT_AN_OBJECT, "$"),
        (raw(note="[" * 100_000), Reason.WRONG_TYPE, "$.note"),
        (raw(new="[" * 100_000), Reason.UNKNOWN_FIELD, "$.new"),
        (b" " * (MAX_RECORD_BYTES + 1), Reason.TOO_LARGE, "$"),
        (raw(price=None), Reason.MISSING_FIELD, "$.price"),
        (raw(new="1"), Reason.UNKNOWN_FIELD, "$.new"),
        (raw(price="null"), Reason.NULL_VALUE, "$.price"),
        (raw(id="null"), Reason.NULL_VALUE, "$.id"),
        (raw(id='""'), Reason.OUT_OF_RANGE, "$.id"),
        (raw(id='"' + "x" * 257 + '"'), Reason.OUT_OF_RANGE, "$.id"),
        (raw(price='"3"'), Reason.WRONG_TYPE, "$.price"),
        (raw(price="true"), Reason.WRONG_TYPE, "$.price"),
        (raw(price='{"a":1}'), Reason.WRONG_TYPE, "$.price"),
        (raw(price="-1"), Reason.OUT_OF_RANGE, "$.price"),
        (raw(price="100.01"), Reason.OUT_OF_RANGE, "$.price"),
        (raw(price="1e999"), Reason.OUT_OF_RANGE, "$.price"),
        (raw(price="1" * 5_000), Reason.OUT_OF_RANGE, "$.price"),
        (raw(count="-2"), Reason.OUT_OF_RANGE, "$.count"),
        (raw(count="1.5"), Reason.WRONG_TYPE, "$.count"),
        (raw(wide="1.0"), Reason.WRONG_TYPE, "$.wide"),
        (raw(wide="9223372036854775808"), Reason.OUT_OF_RANGE, "$.wide"),
        (raw(wide="-9223372036854775809"), Reason.OUT_OF_RANGE, "$.wide"),
        (raw(wide="1" * 5_000), Reason.OUT_OF_RANGE, "$.wide"),
        (raw(flag="1"), Reason.WRONG_TYPE, "$.flag"),
        (raw(size='"huge"'), Reason.OUT_OF_RANGE, "$.size"),
        (raw(size="1"), Reason.WRONG_TYPE, "$.size"),
        (raw(note='"123456"'), Reason.OUT_OF_RANGE, "$.note"),
        (raw(at='"2024-01-01T00:00:00"'), Reason.WRONG_TYPE, "$.at"),
        (raw(at='"2024-01-01"'), Reason.WRONG_TYPE, "$.at"),
        (raw(at='"yesterday"'), Reason.WRONG_TYPE, "$.at"),
        (raw(at="1.5"), Reason.WRONG_TYPE, "$.at"),
        (raw(at="999999999999999"), Reason.OUT_OF_RANGE, "$.at"),
        (raw(later='"2024-13-01T00:00:00Z"'), Reason.WRONG_TYPE, "$.later"),
    ],
)
def test_what_is_no_event_says_which_field_and_why(value: bytes | None, code: Reason, path: str) -> None:
    found = rejection(value)
    assert (found.code, found.path) == (code, path)
    assert found.message


@pytest.mark.parametrize(
    "value",
    [
        raw()[:-1] + b',"price":3}',
        raw()[:-1] + b',"price" :3}',
        raw()[:-1] + b',"price"\n:3}',
        raw()[:-1] + b',"pr\\u0069ce":3}',
        raw(at='"2024-01-01T00:00:00Z"')[:-1] + b',"price":4}',
        raw(note='"a:b"')[:-1] + b',"note":"c"}',
        raw(note="null")[:-1] + b',"note" : null}',
        raw(note='"\\":"')[:-1] + b',"price"\t:3}',
    ],
)
def test_a_key_that_is_there_twice_is_refused_however_it_is_written(value: bytes) -> None:
    found = rejection(value)
    assert found.code is Reason.DUPLICATE_KEY
    assert found.path in {"$.price", "$.note"}


@pytest.mark.parametrize(
    "value",
    [
        raw(),
        raw(note='"a:b:"', class_=None),
        raw(note='"\\":\\""', count="null"),
        raw(at='"2024-01-01T00:00:00+02:00"', later='"2024-01-01T00:00:00Z"'),
        json.dumps(json.loads(raw(note='" : "')), indent=2).encode(),
        raw().replace(b":", b" :"),
        raw(**{"class": '"é\\u0000\\"\\u003a"'}),
    ],
)
def test_colons_and_blanks_do_not_look_like_keys(value: bytes) -> None:
    assert not isinstance(EVENTS.decode(value), Rejection)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_a_record_or_a_rejection(value: bytes) -> None:
    assert isinstance(EVENTS.decode(value), Rejection)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "count", "note", "later"]), JSON))
def test_what_is_accepted_fits_its_columns(changes: dict[str, object]) -> None:
    event = {**{name: json.loads(value) for name, value in GOOD.items()}, **changes}
    result = EVENTS.decode(json.dumps(event).encode())
    if not isinstance(result, Rejection):
        batch = pa.record_batch(to_columns([result], PIPELINE), schema=arrow_schema(PIPELINE))
        batch.validate(full=True)


def test_columns_hold_what_the_events_said() -> None:
    values = [
        raw(at='"2024-01-01T01:00:00.0019+01:00"', price="1", later="-1"),
        raw(id='"e2"', at="5", count="7", note="null", wide="-9223372036854775808"),
    ]
    records = [EVENTS.decode(value) for value in values]
    assert not any(isinstance(record, Rejection) for record in records)
    columns = to_columns(records, PIPELINE)  # type: ignore[arg-type]
    batch = pa.record_batch(columns, schema=arrow_schema(PIPELINE))
    assert batch.schema.names == list(PIPELINE.event_fields)
    rows = batch.to_pylist()
    assert rows[0]["at"] == datetime(2024, 1, 1, 0, 0, 0, 1_000, tzinfo=UTC)
    assert rows[0]["later"] == datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert (rows[0]["price"], rows[0]["count"], rows[0]["note"]) == (1.0, None, None)
    assert (rows[1]["id"], rows[1]["count"], rows[1]["wide"]) == ("e2", 7, -(2**63))
    assert batch.schema.field("size").type == pa.string()
    assert batch.schema.field("at").type == pa.timestamp("ms", "UTC")


def test_no_events_give_empty_columns() -> None:
    batch = pa.record_batch(to_columns([], PIPELINE), schema=arrow_schema(PIPELINE))
    assert batch.num_rows == 0


def test_labels_have_their_own_type_and_columns() -> None:
    record = LABELS.decode(b'{"id":"e1","class":"x","known":"2024-01-01T00:00:00Z","up":"UP"}')
    assert not isinstance(record, Rejection)
    batch = pa.record_batch(label_columns([record], PIPELINE), schema=label_schema(PIPELINE))
    assert batch.to_pylist()[0]["up"] == "UP"
    wrong = LABELS.decode(b'{"id":"e1","class":"x","known":0,"up":"MAYBE"}')
    assert isinstance(wrong, Rejection)
    assert (wrong.code, wrong.path) == (Reason.OUT_OF_RANGE, "$.up")


def test_milliseconds_are_rounded_down_on_both_sides_of_the_epoch() -> None:
    assert milliseconds(5) == 5
    assert milliseconds(datetime(1970, 1, 1, 0, 0, 0, 1_999, tzinfo=UTC)) == 1
    assert milliseconds(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1


def test_an_offset_cannot_push_a_time_out_of_what_can_be_printed() -> None:
    values = [raw(at='"9999-12-31T23:59:59-12:00"'), raw(at='"0001-01-01T00:00:00+12:00"')]
    column = to_columns([EVENTS.decode(value) for value in values], PIPELINE)[1]  # type: ignore[misc]
    assert [moment.year for moment in column.to_pylist()] == [9999, 1]


def test_one_nullable_field_is_enough_for_an_event() -> None:
    only = msgspec.defstruct("Only", [("x", float | None | msgspec.UnsetType, msgspec.UNSET)])
    decoder = Decoder(only, create_model("Only", x=(float | None, None)))
    assert not isinstance(decoder.decode(b"{}"), Rejection)
    assert isinstance(decoder.decode(b'{"x":1,"x":2}'), Rejection)


def test_a_rejection_never_carries_more_than_a_few_hundred_characters() -> None:
    found = rejection(raw(**{"z" * 100_000: "1"}))
    assert found.code is Reason.UNKNOWN_FIELD
    assert len(found.path) <= 200
    assert len(found.message) <= 1_000


def test_every_reason_is_documented_once() -> None:
    assert len({str(reason) for reason in Reason}) == len(list(Reason))
