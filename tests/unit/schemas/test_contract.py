"""What the contract says of a wrong message: every error, with its code, its place and a sentence that helps."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Reason, Rejection, event_decoder, event_model, label_decoder, label_model, reasons
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
    price: {type: number, min: 0, max: 100.5, unit: AUD/MWh}
    count: {type: integer, min: -1.5, nullable: true}
    wide: {type: integer}
    flag: {type: boolean}
    size: {type: category, values: [small, large]}
    copy: {type: text, max_length: 5, nullable: true}
labels:
  id: id
  time: known
  field: up
  type: boolean
  horizon: 1h
features: {price: price}
""")
EVENTS, LABELS = event_decoder(PIPELINE), label_decoder(PIPELINE)
GOOD: dict[str, Any] = {"id": "e1", "at": 0, "class": "x", "price": 3, "wide": 5, "flag": True, "size": "small"}
FIELDS = (*GOOD, "count", "copy")
WHOLE = "$"


def refused(value: dict[str, Any] | bytes) -> Rejection:
    found = EVENTS.decode(value if isinstance(value, bytes) else json.dumps(value).encode())
    assert isinstance(found, Rejection), found
    return found


@pytest.mark.parametrize(
    ("field", "value", "code", "message"),
    [
        ("price", "3", Reason.WRONG_TYPE, "price must be a number, not '3'"),
        ("price", True, Reason.WRONG_TYPE, "price must be a number, not true"),
        ("price", [], Reason.WRONG_TYPE, "price must be a number, not an array"),
        ("price", None, Reason.NULL_VALUE, "price is null: send a value, or declare it nullable in pipeline.yaml"),
        ("price", -3, Reason.OUT_OF_RANGE, "price is below its smallest value 0: -3"),
        ("price", 100.6, Reason.OUT_OF_RANGE, "price is above its largest value 100.5: 100.6"),
        ("price", 10**400, Reason.OUT_OF_RANGE, "price must fit a double and be finite, not 1000000"),
        ("count", 1.5, Reason.WRONG_TYPE, "count must be an integer, not 1.5"),
        ("count", 1.0, Reason.WRONG_TYPE, "count must be an integer, not 1.0"),
        ("count", -2, Reason.OUT_OF_RANGE, "count is below its smallest value -1: -2"),
        ("wide", 2**63, Reason.OUT_OF_RANGE, f"wide is above its largest value {2**63 - 1}: {2**63}"),
        ("wide", False, Reason.WRONG_TYPE, "wide must be an integer, not false"),
        ("flag", 1, Reason.WRONG_TYPE, "flag must be true or false, not 1"),
        ("size", "huge", Reason.OUT_OF_RANGE, "size must be one of 'small' or 'large', not 'huge'"),
        ("size", {}, Reason.WRONG_TYPE, "size must be one of 'small' or 'large', not an object"),
        ("size", None, Reason.NULL_VALUE, "size is null"),
        ("class", 7, Reason.WRONG_TYPE, "class must be a text, not 7"),
        ("copy", "123456", Reason.OUT_OF_RANGE, "copy is longer than 5 characters: '123456'"),
        ("id", "", Reason.OUT_OF_RANGE, "id is empty: send at least one character"),
        (
            "at",
            "noon",
            Reason.WRONG_TYPE,
            "at must be RFC 3339 with an offset, such as 2024-01-31T08:00:00Z, not 'noon'",
        ),
        ("at", "2024-01-01T00:00:00", Reason.WRONG_TYPE, "at must be RFC 3339 with an offset"),
        ("at", 1.5, Reason.WRONG_TYPE, "at must be epoch milliseconds or RFC 3339 text with an offset, not 1.5"),
        ("at", True, Reason.WRONG_TYPE, "at must be epoch milliseconds or RFC 3339 text with an offset, not true"),
        ("at", 10**15, Reason.OUT_OF_RANGE, "at is outside the years 1 to 9999 (epoch milliseconds): 1000000000000000"),
        ("at", None, Reason.NULL_VALUE, "at is null"),
        ("pirce", 1, Reason.UNKNOWN_FIELD, "unknown field 'pirce'; remove it, or declare it in pipeline.yaml"),
        ("a\nb", 1, Reason.UNKNOWN_FIELD, "unknown field 'a\\nb'; remove it"),
    ],
)
def test_an_error_names_the_field_what_is_wrong_and_the_mend(
    field: str, value: object, code: Reason, message: str
) -> None:
    found = refused({**GOOD, field: value})
    assert (found.code, found.path) == (code, f"$.{field}")
    assert found.message.startswith(message)
    assert [(each.code, each.path, each.message) for each in found.errors] == [(code, found.path, found.message)]


def test_a_number_beyond_a_double_is_out_of_range_where_a_number_may_be() -> None:
    value = json.dumps(GOOD).encode()
    assert refused(value.replace(b'"price": 3', b'"price": 1e999')).code is Reason.OUT_OF_RANGE
    assert refused(value.replace(b'"wide": 5', b'"wide": 1e999')).code is Reason.WRONG_TYPE


def test_all_errors_of_a_message_are_named_the_first_one_first() -> None:
    event = {**GOOD, "price": -1, "flag": "yes", "size": None, "pirce": 2}
    del event["wide"]
    found = refused(event)
    assert [(each.code, each.path) for each in found.errors] == [
        (Reason.OUT_OF_RANGE, "$.price"),
        (Reason.MISSING_FIELD, "$.wide"),
        (Reason.WRONG_TYPE, "$.flag"),
        (Reason.NULL_VALUE, "$.size"),
        (Reason.UNKNOWN_FIELD, "$.pirce"),
    ]
    assert (found.code, found.path) == (found.errors[0].code, found.errors[0].path)
    assert found.message.startswith("5 errors: price is below its smallest value 0: -1; wide is missing")
    assert all(each.message in found.message for each in found.errors)


def test_an_unknown_field_that_looks_like_a_missing_one_is_asked_about() -> None:
    event = {**GOOD, "pirce": 3}
    del event["price"]
    assert [each.message for each in refused(event).errors] == [
        "price is missing: send it, or declare it nullable in pipeline.yaml",
        "unknown field 'pirce'; did you mean 'price'?",
    ]


def test_a_key_that_is_there_twice_is_told_beside_the_other_errors() -> None:
    found = refused(json.dumps({**GOOD, "flag": 1}).encode()[:-1] + b',"price":4,"price":-1}')
    assert [(each.code, each.path) for each in found.errors] == [
        (Reason.DUPLICATE_KEY, "$.price"),
        (Reason.OUT_OF_RANGE, "$.price"),
        (Reason.WRONG_TYPE, "$.flag"),
    ]


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "Infinity"])
def test_what_is_no_number_of_json_is_named(number: str) -> None:
    found = refused(json.dumps(GOOD).replace(": 3", f": {number}").encode())
    assert (found.code, found.path) == (Reason.NOT_JSON, WHOLE)
    assert found.message == f"not JSON: {number.lstrip('-')} is no number of JSON; send null, or leave the field out"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b'{"price": "3", "wide": ', Reason.NOT_JSON),
        (b'{"price": "3", "copy": "\\ud800"}', Reason.NOT_JSON),
        (b'{"price": 1e999, "wide": NaN}', Reason.NOT_JSON),
        (b'{"price": "3", "copy": "\xff"}', Reason.INVALID_UTF8),
        (b'["price"]', Reason.NOT_AN_OBJECT),
        (b'"price"', Reason.NOT_AN_OBJECT),
        (b"1e999", Reason.NOT_AN_OBJECT),
        (json.dumps(GOOD).encode("utf-16"), Reason.INVALID_UTF8),
    ],
)
def test_a_document_is_read_whole_before_its_fields_are_judged(value: bytes, code: Reason) -> None:
    assert [(each.code, each.path) for each in refused(value).errors] == [(code, WHOLE)]


@pytest.mark.parametrize("broken", ['"copy": "\\ud800"', '"\\ud800": 1'])
def test_half_a_surrogate_pair_behind_a_number_that_no_double_holds_is_no_json_either(broken: str) -> None:
    found = refused(f'{{"price": 1e999, {broken}}}'.encode())
    assert Reason.NOT_JSON in {each.code for each in found.errors}


@pytest.mark.parametrize("deep", ["[" * 2_000 + "]" * 2_000, '{"a":' * 2_000 + "1" + "}" * 2_000, "[" * 100_000])
def test_what_is_nested_too_deeply_is_told_by_the_field_that_holds_it(deep: str) -> None:
    start = '{"size": "[[[\\"", "class": [[1], {}], '
    found = refused(f'{start}"copy": {deep}, "flag": 1}}'.encode())
    assert (Reason.WRONG_TYPE, "$.copy") in [(each.code, each.path) for each in found.errors]
    found = refused(f'{start}"new": {deep}}}'.encode())
    assert (Reason.UNKNOWN_FIELD, "$.new") in [(each.code, each.path) for each in found.errors]


def test_a_deep_place_that_would_take_long_to_find_is_not_looked_for() -> None:
    found = refused(b'{"copy": [' + b"[]," * 20_000 + b'[]], "new": ' + b"[" * 100_000)
    assert (found.code, found.path) == (Reason.WRONG_TYPE, WHOLE)
    assert "nested too deeply" in found.message


def test_many_unknown_and_long_fields_make_no_long_rejection() -> None:
    found = refused({**{"z" * number: "y" * 10_000 for number in range(400, 460)}, "copy": "\u00e9" * 10_000})
    assert sum(each.code is Reason.UNKNOWN_FIELD for each in found.errors) == 20
    assert sum(each.code is Reason.MISSING_FIELD for each in found.errors) == len(GOOD)
    assert len(found.message) <= 1_000
    assert all(len(each.path) <= 200 and len(each.message) <= 300 for each in found.errors)


def test_a_row_of_an_arrow_batch_is_held_against_the_same_contract() -> None:
    row = {**GOOD, "at": datetime(2024, 1, 1, tzinfo=UTC)}
    assert EVENTS.check(row) is None
    found = EVENTS.check({**row, "at": datetime(2024, 1, 1), "price": math.nan, "count": 1.0, "id": None, "new": b""})  # noqa: DTZ001 - that is what is wrong
    assert found is not None
    assert [(each.code, each.path) for each in found.errors] == [
        (Reason.NULL_VALUE, "$.id"),
        (Reason.WRONG_TYPE, "$.at"),
        (Reason.OUT_OF_RANGE, "$.price"),
        (Reason.WRONG_TYPE, "$.count"),
        (Reason.UNKNOWN_FIELD, "$.new"),
    ]


def test_a_label_has_its_own_contract() -> None:
    found = LABELS.decode(b'{"id":"e1","class":"x","known":"soon","up":1}')
    assert isinstance(found, Rejection)
    assert [each.path for each in found.errors] == ["$.known", "$.up"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=7),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
CHANGES = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), JSON, max_size=5)


@given(CHANGES, st.sets(st.sampled_from(FIELDS), max_size=3))
def test_every_error_is_at_a_member_or_at_a_missing_field_and_has_a_documented_code(
    changes: dict[str, object], dropped: set[str]
) -> None:
    event = {name: value for name, value in {**GOOD, **changes}.items() if name not in dropped}
    found = EVENTS.decode(json.dumps(event).encode())
    assert EVENTS.check(event) == (found if isinstance(found, Rejection) else None)
    for error in found.errors if isinstance(found, Rejection) else ():
        assert error.code in reasons()
        assert error.path in {f"$.{name}" for name in (GOOD if error.code is Reason.MISSING_FIELD else event)}
        assert (error.code is Reason.MISSING_FIELD) == (error.path.removeprefix("$.") not in event)


@given(st.binary(max_size=80), st.integers(0, 200), st.integers(0, 3))
def test_damaged_bytes_are_a_record_or_a_rejection_with_a_documented_code(noise: bytes, at: int, cut: int) -> None:
    value = json.dumps(GOOD).encode()
    found = EVENTS.decode(value[:at] + noise + value[at + cut :])
    if isinstance(found, Rejection):
        assert {each.code for each in found.errors} <= reasons().keys()
        found.message.encode()


def test_the_schema_says_types_bounds_units_and_what_may_be_left_out() -> None:
    schema = event_model(PIPELINE).model_json_schema()
    assert list(schema["properties"]) == list(PIPELINE.event_fields)
    assert schema["required"] == [name for name in PIPELINE.event_fields if name not in {"count", "copy"}]
    assert schema["additionalProperties"] is False
    price, at, count = (schema["properties"][name] for name in ("price", "at", "count"))
    assert price == {
        "title": "price",
        "description": "Number, in AUD/MWh.",
        "type": "number",
        "minimum": 0,
        "maximum": 100.5,
        "unit": "AUD/MWh",
    }
    assert [each["type"] for each in at["anyOf"]] == ["integer", "string"]
    assert at["description"] == "Time of the event. Epoch milliseconds, or RFC 3339 text with an offset."
    assert count["anyOf"] == [{"type": "integer", "minimum": -1, "maximum": 2**63 - 1}, {"type": "null"}]
    assert schema["properties"]["size"]["enum"] == ["small", "large"]
    assert (schema["properties"]["id"]["minLength"], schema["properties"]["id"]["maxLength"]) == (1, 256)
    assert list(label_model(PIPELINE).model_json_schema()["properties"]) == list(PIPELINE.label_fields)


def test_every_reason_has_a_sentence() -> None:
    assert list(reasons()) == [str(reason) for reason in Reason]
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in reasons().values())
    assert Reason("empty") is Reason.EMPTY
