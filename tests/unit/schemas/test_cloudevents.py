import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from schemas.cloudevents import CONTENT_TYPE, EnvelopeError, Form, decode, encode, type_of
from schemas.messages import MESSAGES, DriftEpisode, Message, Prediction, Wish
from tests.unit.schemas.test_messages import EXAMPLES

WISH = Wish(id="w1", kind="retrain", subject="shop", who="ada", reason='"new" prices')


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


def test_an_earlier_version_is_read_where_the_newer_one_covers_it_and_no_other_is() -> None:
    episode = EXAMPLES[1]
    for version, readable in ((1, True), (2, True), (3, False)):
        value, headers = encode(episode, id="e", source="/s", type=f"headrace.drift-episode.v{version}")
        if readable:
            assert decode(value, headers).read(DriftEpisode) == decode(value, headers).message() == episode
        else:
            with pytest.raises(EnvelopeError, match=r"is a headrace.drift-episode.v3, not a headrace.drift-episode.v2"):
                decode(value, headers).read(DriftEpisode)


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
        (wish_bytes(), [("content-type", b"application/cloudevents+avro"), ("ce_id", b"1")]),
        (b"[" + wish_bytes() + b"]", [("content-type", b"application/cloudevents-batch+json")]),
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


# --- the binary form --------------------------------------------------------------------------

FORMS: tuple[Form, ...] = ("structured", "binary")
WHEN = datetime(2024, 1, 1, tzinfo=UTC)


def sent(message: Message, form: Form) -> tuple[bytes, list[tuple[str, bytes]]]:
    return encode(message, id="1-é", source="/headrace/shop/cli", subject="shop", time=WHEN, form=form)


def test_in_the_binary_form_attributes_are_headers_and_the_value_is_the_data() -> None:
    value, headers = sent(WISH, "binary")
    assert json.loads(value) == WISH.model_dump(mode="json")
    assert dict(headers) == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": "1-é".encode(),
        "ce_source": b"/headrace/shop/cli",
        "ce_type": b"headrace.wish.v1",
        "ce_subject": b"shop",
        "ce_time": b"2024-01-01T00:00:00.000Z",
        "ce_dataschema": b"urn:headrace:schemas/wish/1",
    }


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.what)
def test_both_forms_say_the_same(message: Message) -> None:
    structured, binary = (decode(*sent(message, form)) for form in FORMS)
    assert structured == binary
    assert structured.message() == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.what)
def test_no_form_has_an_empty_value_which_would_delete_on_a_compacted_topic(message: Message) -> None:
    assert all(json.loads(sent(message, form)[0]) for form in FORMS)


def test_the_content_type_decides_and_not_the_headers_that_came_along() -> None:
    value, headers = sent(WISH, "structured")
    stray = [(name, b"of another event") for name, _ in sent(WISH, "binary")[1] if name.startswith("ce_")]
    assert decode(value, [*stray, *headers]).id == "1-é"


@pytest.mark.parametrize("kind", [None, b"application/json; charset=utf-8", b"text/json", b"Application/vnd.shop+JSON"])
def test_a_binary_event_may_name_its_json_in_any_way(kind: bytes | None) -> None:
    value, headers = sent(WISH, "binary")
    given = [(name.upper(), text) for name, text in headers if name != "content-type"]
    assert decode(value, [("content-type", kind), *given]).read(Wish) == WISH


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ce_specversion": b"0.3"}, "ce_specversion is '0.3'"),
        ({"ce_id": b""}, "must not be empty"),
        ({"ce_source": b"\xff"}, "not UTF-8"),
        ({"ce_type": None}, "application/json with the headers ce_specversion, ce_id"),
        ({"content-type": b"application/avro"}, "content-type is 'application/avro'"),
    ],
)
def test_a_broken_binary_event_is_an_envelope_error(changes: dict[str, bytes | None], problem: str) -> None:
    value, headers = sent(WISH, "binary")
    with pytest.raises(EnvelopeError, match=problem):
        decode(value, (dict[str, bytes | None](headers) | changes).items())


@pytest.mark.parametrize("value", [b"", b"null", b"{", b"\xff"])
def test_a_binary_event_without_its_data_is_an_envelope_error(value: bytes) -> None:
    with pytest.raises(EnvelopeError, match="not a valid"):
        decode(value, sent(WISH, "binary")[1]).read(Wish)


# --- the SDK of CloudEvents as the foreign side -----------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.what)
def test_the_sdk_reads_what_we_write_in_either_form(message: Message, form: Form) -> None:
    value, headers = sent(message, form)
    event = sdk.from_kafka_event(sdk.KafkaMessage(dict(headers), None, value))
    given = (event.get_id(), event.get_source(), event.get_subject(), event.get_time())
    assert given == ("1-é", "/headrace/shop/cli", "shop", WHEN)
    assert (event.get_type(), event.get_datacontenttype()) == (type_of(type(message)), "application/json")
    assert event.get_data() == message.model_dump(mode="json")


def foreign() -> Any:
    attributes = {"id": "w1", "source": "/partner", "type": "headrace.wish.v1", "time": WHEN, "traceparent": "00-1"}
    return CloudEvent({**attributes, "datacontenttype": "application/json"}, WISH.model_dump(mode="json"))


@pytest.mark.parametrize("write", [sdk.to_structured, sdk.to_binary])
def test_we_read_what_the_sdk_writes_in_either_form(write: Any) -> None:
    message = write(foreign(), JSONFormat())
    envelope = decode(message.value, message.headers.items())
    assert (envelope.id, envelope.source, envelope.read(Wish)) == ("w1", "/partner", WISH)


def test_our_structured_events_carry_no_header_by_which_the_sdk_would_take_them_for_binary_ones() -> None:
    assert {name for model in EXAMPLES for name, _ in sent(model, "structured")[1]} == {"content-type"}
    assert len(MESSAGES) == len(EXAMPLES)
