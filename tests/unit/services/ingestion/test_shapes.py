"""What a message is, its headers say; its id, time and trace are kept; what it is not, it is refused as."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.v1.event import CloudEvent

from schemas import batch as b
from tests.unit.services.ingestion.reading_lab import (
    BINARY,
    LINES,
    OFFSET,
    ONE,
    STRUCTURED,
    TAKEN,
    Headers,
    column,
    event,
    message,
    read,
    reader,
    reasons,
    times,
)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER_TRACE = TRACE.replace("0a", "0b")
PLACE = f"shop.events.v1/0/{OFFSET}"


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"application/json",
        b"Application/JSON; charset=utf-8",
        b"application/vnd.shop.order+json",
        b"text/json",
        b"text/plain",
        b"application/octet-stream",
        b" application/json ;x=y",
        None,
    ],
)
def test_json_is_read_by_every_name_it_goes_by(content_type: bytes | None) -> None:
    assert column(read(b'{"n": 1}', [("content-type", content_type)]), "n") == [1.0]


@pytest.mark.parametrize(
    "content_type",
    [b"application/avro", b"application/cloudevents-batch+json", b"application/cloudevents+avro", b"\xff", b"json"],
)
def test_a_content_type_that_nobody_reads_is_refused_whatever_the_value(content_type: bytes) -> None:
    assert reasons(read(b'{"n": 1}', [("content-type", content_type)])) == [(0, "unsupported_content_type")]


@pytest.mark.parametrize("name", ["content-type", "Content-Type", "CONTENT-TYPE"])
@pytest.mark.parametrize("media", [b"application/cloudevents+json", b"Application/CloudEvents+JSON; charset=UTF-8"])
def test_the_content_type_is_read_in_any_case_and_with_parameters(name: str, media: bytes) -> None:
    assert column(read(event(id="a"), [(name, media)]), b.EVENT_ID) == ["a"]


def test_the_first_of_several_content_types_counts() -> None:
    twice = [("content-type", b"application/json"), ("Content-Type", b"application/avro")]
    assert column(read(b'{"n": 1}', twice), "n") == [1.0]


def test_headers_of_a_binary_event_beside_a_structured_one_prove_nothing() -> None:
    found = read(event(id="inside"), [*STRUCTURED, ("ce_specversion", b"1.0"), ("ce_id", b"copied")])
    assert column(found, b.EVENT_ID) == ["inside"]


def test_headers_without_a_version_make_no_event() -> None:
    assert column(read(b'{"n": 1}', BINARY[1:]), b.EVENT_ID) == [PLACE]


# --- envelopes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [STRUCTURED, BINARY])
def test_an_event_is_named_and_timed_by_its_envelope_where_the_pipeline_names_no_field(headers: Headers) -> None:
    if headers is STRUCTURED:
        found = read(event(id="é", time="2024-01-31T08:00:00.5+02:00"), headers)
    else:
        named = [*BINARY[:1], ("ce_id", "é".encode()), *BINARY[2:], ("ce_time", b"2024-01-31T08:00:00.5+02:00")]
        found = read(b'{"n": 1}', named)
    assert column(found, b.EVENT_ID) == ["é"]
    assert times(found) == [1706680800500]


def test_fields_that_the_pipeline_names_win_over_the_envelope() -> None:
    fields = f"{ONE}\n    order: {{type: text}}\n    at: {{type: timestamp}}"
    by = reader(fields, "  id: order\n  time: at")
    found = read(
        event(id="envelope", time="2024-01-31T08:00:00Z", data={"order": "o", "at": 3, "n": 1}), STRUCTURED, by
    )
    assert (column(found, b.EVENT_ID), times(found)) == (["o"], [3])


def test_without_a_time_the_broker_says_it() -> None:
    assert times(read(event(), STRUCTURED)) == [TAKEN]


@pytest.mark.parametrize(
    "time", ["2024-01-31T08:00:00", "2024-01-31", "yesterday", "", "1706688000", "2024-13-01T00:00:00Z"]
)
@pytest.mark.parametrize("structured", [True, False])
def test_a_time_that_is_no_moment_is_refused(time: str, structured: bool) -> None:
    headers = STRUCTURED if structured else [*BINARY, ("ce_time", time.encode())]
    found = read(event(time=time) if structured else b'{"n": 1}', headers)
    assert reasons(found) == [(0, "invalid_envelope")]


@pytest.mark.parametrize(
    "value",
    [
        event(id=None),
        event(source=None),
        event(type=None),
        event(specversion=None),
        event(id=""),
        event(source=""),
        event(type=""),
        event(specversion="0.3"),
        event(specversion="1.1"),
        event(id=3),
        event(time=3),
        event(datacontenttype="text/xml", data="<n/>"),
        event(data=None, data_base64="not base64", datacontenttype="application/octet-stream"),
        event(id="same").replace(b'"same"', rb'"\ud800"'),
        event(id="same").replace(b"same", b"\xff"),
        b'{"n": 1}',
        b"[" * 1_000_000,
        event(data="deep").replace(b'"deep"', b"[" * 2_000 + b"]" * 2_000),
        event(extension="deep").replace(b'"deep"', b'{"a":' * 2_000 + b"1" + b"}" * 2_000),
        b"",
        None,
        b"\0\0\0\0\1" + event(),
    ],
)
def test_a_structured_event_that_is_none_is_refused_as_an_envelope(value: bytes | None) -> None:
    assert reasons(read(value, STRUCTURED)) == [(0, "invalid_envelope")]


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_type"])
@pytest.mark.parametrize("value", [None, b"", b"\xff"])
def test_a_binary_event_without_an_attribute_is_refused_as_an_envelope(name: str, value: bytes | None) -> None:
    headers = [(each, value if each == name else said) for each, said in BINARY]
    assert reasons(read(b'{"n": 1}', headers)) == [(0, "invalid_envelope")]


def test_another_version_of_cloudevents_is_refused() -> None:
    assert reasons(read(b'{"n": 1}', [("ce_specversion", b"0.3"), *BINARY[1:]])) == [(0, "invalid_envelope")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"n": "1"}, "wrong_type"),
        ({}, "missing_field"),
        ({"n": 1, "m": 1}, "unknown_field"),
        (None, "empty"),
        ([1], "not_an_object"),
    ],
)
def test_data_is_held_to_the_contract(data: object, reason: str) -> None:
    assert reasons(read(event(data=data), STRUCTURED)) == [(0, reason)]


def test_a_key_that_is_twice_in_the_data_is_seen() -> None:
    value = event(data="x").replace(b'"x"', b'{"n": 1, "n": 2}')
    assert reasons(read(value, STRUCTURED)) == [(0, "duplicate_key")]


def test_data_in_base64_is_read() -> None:
    data = base64.b64encode(b'{"n": 4}').decode()
    assert column(read(event(data=None, data_base64=data), STRUCTURED), "n") == [4.0]


@pytest.mark.parametrize("length", [256, 257])
def test_an_id_has_a_longest_length(length: int) -> None:
    found = read(event(id="é" * length), STRUCTURED)
    assert reasons(found) == ([] if length == 256 else [(0, "out_of_range")])


@pytest.mark.parametrize(
    ("headers", "value", "trace"),
    [
        ([("traceparent", TRACE.encode())], b'{"n": 1}', TRACE),
        ([("TraceParent", TRACE.encode())], b'{"n": 1}', TRACE),
        ([*BINARY, ("ce_traceparent", TRACE.encode()), ("traceparent", OTHER_TRACE.encode())], b'{"n": 1}', TRACE),
        ([*BINARY, ("traceparent", TRACE.encode())], b'{"n": 1}', TRACE),
        ([*STRUCTURED, ("traceparent", OTHER_TRACE.encode())], event(traceparent=TRACE), TRACE),
        ([*STRUCTURED, ("traceparent", TRACE.encode())], event(), TRACE),
        ([*LINES, ("traceparent", TRACE.encode())], b'{"n": 1}', TRACE),
        ([("traceparent", TRACE[:-1].encode())], b'{"n": 1}', None),
        ([("traceparent", b"\xff")], b'{"n": 1}', None),
        ([("traceparent", None)], b'{"n": 1}', None),
        ([*STRUCTURED], event(traceparent="no trace"), None),
        ([], b'{"n": 1}', None),
    ],
)
def test_a_trace_is_kept_and_a_broken_one_is_no_reason_to_refuse(
    headers: Headers, value: bytes, trace: str | None
) -> None:
    assert column(read(value, headers), b.TRACEPARENT) == [trace]


@pytest.mark.parametrize("form", ["binary", "structured"])
def test_what_the_sdk_of_cloudevents_writes_is_read_with_id_time_and_trace(form: str) -> None:
    moment = datetime(2024, 1, 31, 8, 0, 0, 123_000, UTC)
    told: dict[str, Any] = {
        "id": "né",
        "source": "/shop",
        "type": "order",
        "time": moment,
        "traceparent": TRACE,
        "datacontenttype": "application/json",
    }
    foreign = CloudEvent(attributes=told, data={"n": 2.5})
    write = sdk.to_binary_event if form == "binary" else sdk.to_structured_event
    sent = write(foreign)
    found = read(sent.value, list(sent.headers.items()))
    assert reasons(found) == []
    assert (column(found, b.EVENT_ID), column(found, b.TRACEPARENT)) == (["né"], [TRACE])
    assert (times(found), column(found, "n")) == ([1706688000123], [2.5])


def test_what_the_sdk_says_in_base64_is_read() -> None:
    told = {"id": "i", "source": "s", "type": "t", "datacontenttype": "application/json"}
    sent = sdk.to_structured_event(CloudEvent(attributes=told, data=json.dumps({"n": 3}).encode()))
    assert column(read(sent.value, list(sent.headers.items())), "n") == [3.0]


# --- lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("media", [b"application/x-ndjson", b"application/jsonl", b"application/ndjson;charset=utf-8"])
def test_lines_are_rows_by_their_number(media: bytes) -> None:
    value = b'\n{"n": 1}\r\n  \r\n{"n": 3}\n\n{"n": 5}'
    found = read(value, [("content-type", media)])
    assert (column(found, b.ROW), column(found, "n")) == ([1, 3, 5], [1.0, 3.0, 5.0])
    assert column(found, b.EVENT_ID) == [f"{PLACE}/{row}" for row in (1, 3, 5)]
    assert reasons(found) == []


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n\n"])
def test_the_last_line_needs_no_end(end: bytes) -> None:
    assert column(read(b'{"n": 0}\n{"n": 1}' + end, LINES), b.EVENT_ID) == [PLACE, f"{PLACE}/1"]


def test_a_bad_line_is_refused_as_if_it_had_come_alone_and_replays() -> None:
    headers = [*LINES, ("x", b"\xff"), ("empty", None)]
    found = read(b'{"n": 0}\n{"n": "1"}\r\n{"n": 2}\nnonsense', headers)
    assert column(found, b.ROW) == [0, 2]
    assert reasons(found) == [(1, "wrong_type"), (3, "not_json")]
    assert [each.message.value for each in found.refused] == [b'{"n": "1"}\r', b"nonsense"]
    assert all((each.message.key, each.message.headers) == (b"key", headers) for each in found.refused)
    again = read(found.refused[0].message.value, headers)
    assert reasons(again) == [(0, "wrong_type")]


@pytest.mark.parametrize("value", [None, b"", b"\n", b"\r\n \t\r\n", b"\n" * 1_000_000])
def test_lines_that_hold_nothing_are_refused_as_a_whole(value: bytes | None) -> None:
    assert reasons(read(value, LINES)) == [(0, "empty")]


def test_too_many_lines_are_refused_as_a_whole() -> None:
    assert reasons(read(b"1\n" * 131_073, LINES)) == [(0, "too_large")]


# --- Confluent's framing ------------------------------------------------------------------------

FRAMED = b"\0\0\0\0\1"


def test_framed_documents_are_read_in_any_company() -> None:
    values = [b'{"n": 0}', FRAMED + b'{"n": 1}', b'{"n": 2}', FRAMED + b'{"n": "3"}', FRAMED, b"\0", FRAMED + b"x"]
    for first in (0, 1):
        run = [message(offset, value) for offset, value in enumerate(values)][first:]
        found = reader().read([(0, run)])
        assert column(found, b.POSITION) == [0, 1, 2][first:]
        assert [(each.message.offset, str(each.reason.code)) for each in found.refused] == [
            (3, "wrong_type"),
            (4, "not_json"),
            (5, "not_json"),
            (6, "not_json"),
        ]
        assert [each.message.value for each in found.refused] == values[3:]


@pytest.mark.parametrize("headers", [[], [("content-type", b"application/json")], BINARY])
def test_framing_is_taken_off_with_and_without_headers(headers: Headers) -> None:
    assert column(read(FRAMED + b'{"n": 1}', headers), "n") == [1.0]


def test_the_newer_framing_is_a_header_and_changes_nothing() -> None:
    schema = ("__value_schema_id", b"\1" + bytes(16))
    assert column(read(b'{"n": 1}', [schema]), "n") == [1.0]
