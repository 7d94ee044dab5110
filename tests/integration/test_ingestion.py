"""Every shape in every compression, from foreign producers through a real Kafka: rows in records, the rest refused."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.v1.event import CloudEvent

from schemas import batch as b
from tests.integration.ingesting import Bench, Sent, benched, fields

pytestmark = pytest.mark.timeout(120)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACED = ("traceparent", TRACE.encode())
ARROW = [("content-type", b"application/vnd.apache.arrow.stream")]
LINES = [("content-type", b"application/x-ndjson")]


@pytest.fixture
def bench(kafka: str, unique: str) -> Iterator[Bench]:
    with benched(kafka, unique) as made:
        yield made


def document(number: int, **changes: object) -> bytes:
    return json.dumps(fields(number, **changes)).encode()


def lines(*numbers: int, **changes: object) -> bytes:
    return b"\n".join(document(number, **changes) for number in numbers)


def arrow(*amounts: float, first: int) -> bytes:
    rows = [fields(first + n, amount=amount) for n, amount in enumerate(amounts)]
    batch = pa.RecordBatch.from_pylist([dict(row) for row in rows])
    return b.encode(batch)


def foreign(number: int, form: str, **changes: object) -> Sent:
    """What the SDK of CloudEvents writes."""
    told: dict[str, Any] = {"id": f"e{number}", "source": "/shop", "type": "order", "traceparent": TRACE}
    told |= {"time": datetime(2024, 1, 31, tzinfo=UTC), "datacontenttype": "application/json"}
    event = CloudEvent(attributes=told, data=dict(fields(number, **changes)))
    sent = sdk.to_binary_event(event) if form == "binary" else sdk.to_structured_event(event)
    return Sent(b"%d" % number, sent.value, list(sent.headers.items()))


def test_every_compression_and_every_shape_arrives_and_bad_rows_are_refused_by_reason(bench: Bench) -> None:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    for number, codec in enumerate(codecs):
        first = 1_000 * number
        bench.send([Sent(b"", document(first + n)) for n in range(100)], **{"compression.type": codec})
        several = [lines(first + 200, first + 201), arrow(1.0, 2.0, first=first + 300)]
        sent = [Sent(b"", value, headers) for value, headers in zip(several, (LINES, ARROW), strict=True)]
        bench.send(
            [*sent, foreign(first + 400, "binary"), foreign(first + 401, "structured")], **{"compression.type": codec}
        )
    bench.work()
    wanted = [*range(100), 200, 201, 300, 301, 400, 401]
    assert sorted(row["_event_id"] for row in bench.rows()) == sorted(
        f"o{1_000 * codec + n}" for codec in range(len(codecs)) for n in wanted
    )
    traces = {row["_event_id"]: row["_traceparent"] for row in bench.rows()}
    assert {name for name, trace in traces.items() if trace == TRACE} == {
        f"o{1_000 * codec + n}" for codec in range(len(codecs)) for n in (400, 401)
    }
    assert bench.letters() == []


def test_each_shape_keeps_its_good_rows_and_tells_of_its_bad_ones(bench: Bench) -> None:
    framed, bad = b"\0\0\0\0\7", {"amount": -1}
    none = [("content-type", b"image/png"), ("empty", None)]
    sent = [
        Sent(b"plain", document(1, **bad)),
        Sent(b"good", document(2), [TRACED]),
        Sent(b"framed", framed + document(3)),
        Sent(b"framed-bad", framed + document(4, **bad)),
        Sent(b"schema", document(5), [("__value_schema_id", b"\1" + bytes(16))]),
        Sent(b"lines", document(6) + b"\r\n\n" + document(7, **bad) + b"\nnonsense\n", LINES),
        Sent(b"arrow", arrow(1.0, -1.0, float("nan"), first=8), ARROW),
        Sent(b"torn", arrow(1.0, first=20)[:-30], ARROW),
        foreign(11, "binary", **bad),
        foreign(12, "structured", **bad),
        Sent(b"envelope", document(13), [("content-type", b"application/cloudevents+json")]),
        Sent(b"none", document(14), none),
        Sent(b"null", None),
    ]
    bench.send(sent)
    bench.work()
    assert sorted(row["_event_id"] for row in bench.rows()) == ["o2", "o3", "o5", "o6", "o8"]
    assert sorted((each.sent.key.decode(), each.story.row, each.story.reason) for each in bench.letters()) == [
        ("11", 0, "out_of_range"),
        ("12", 0, "out_of_range"),
        ("arrow", 1, "out_of_range"),
        ("arrow", 2, "out_of_range"),
        ("envelope", 0, "invalid_envelope"),
        ("framed-bad", 0, "out_of_range"),
        ("lines", 2, "out_of_range"),
        ("lines", 3, "not_json"),
        ("none", 0, "unsupported_content_type"),
        ("null", 0, "empty"),
        ("plain", 0, "out_of_range"),
        ("torn", 0, "undecodable_batch"),
    ]
    originals = {each.key: each.value for each in sent if each.key not in (b"lines", b"arrow")}
    for letter in bench.letters():
        assert letter.sent.value == originals.get(letter.sent.key, letter.sent.value)


def test_labels_come_in_every_shape_too(bench: Bench) -> None:
    told = [{"order": f"o{n}", "who": "w", "known": n, "back": n % 2 == 0} for n in range(5)]
    batch = b.encode(pa.RecordBatch.from_pylist(told[3:]))
    each = [json.dumps(label).encode() for label in told]
    sent = [Sent(b"a", each[0]), Sent(b"b", b"\n".join([*each[1:3], b"?"]), LINES), Sent(b"c", batch, ARROW)]
    bench.send(sent, "labels")
    bench.work()
    rows = bench.rows("outcomes")
    assert sorted((row["_event_id"], row["_label"]) for row in rows) == [(f"o{n}", 1 - n % 2) for n in range(5)]
    alone = next(row for row in rows if row["_event_id"] == "o4")
    assert b.decode(alone["_value"]).to_pylist() == told[4:]
    (letter,) = bench.letters()
    assert (letter.story.topic, letter.story.row, letter.sent.value) == ("labels", 2, b"?")
