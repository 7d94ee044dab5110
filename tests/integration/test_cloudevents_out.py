"""What the services write is read by a foreign client with the foreign SDK, from a real Kafka, in either form."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import polars as pl
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import kafka as sdk
from confluent_kafka import Consumer, Message

from runtime.bootstrap import bootstrap
from runtime.fanout import Fanout
from runtime.kafka import KafkaCarrier
from runtime.ports import Outgoing
from schemas.cloudevents import Form
from schemas.messages import Pool, Prediction
from schemas.pipeline import parse, template
from schemas.predictions import Predictions
from schemas.public import examples
from schemas.topics import physical

ROWS = 5
FRAME = pl.DataFrame(
    {
        "_event_id": [f"é{i}" for i in range(ROWS)],
        "_entity": ["k"] * ROWS,
        "_time": [1_700_000_000_000] * ROWS,
        "_source": [1] * ROWS,
        "_position": range(ROWS),
        "_row": [0] * ROWS,
        "_traceparent": [None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] + [None] * (ROWS - 2),
        "_prediction": [0.25] * ROWS,
        "_pool": [3] * ROWS,
    }
).with_columns(pl.col("_time").cast(pl.Datetime("ms", "UTC")), pl.col("_position").cast(pl.Int64))


def consumed(kafka: str, topic: str, count: int) -> Iterator[Message]:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    deadline = time.monotonic() + 30
    with closing(consumer):
        while count:
            assert time.monotonic() < deadline, f"{count} messages of {topic} did not come"
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                count -= 1
                yield message


def understood(message: Message) -> BaseCloudEvent:
    headers: Any = message.headers()
    return sdk.from_kafka_event(sdk.KafkaMessage(dict(headers), None, message.value() or b""))


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_predictions_leave_through_librdkafka_and_the_sdk_reads_them(kafka: str, unique: str, form: Form) -> None:
    spec = parse(template(unique))
    bootstrap(kafka, spec, partitions=1)
    keys, values, headers = Predictions(spec, form).encode(FRAME)
    fanout = Fanout(kafka, unique)
    told = zip(keys, values, headers, strict=False)  # the headers of structured ones never end
    fanout.publish([Outgoing("predictions", 0, value, key, story) for key, value, story in told])
    fanout.confirm()
    fanout.close()
    messages = list(consumed(kafka, physical(unique, "predictions"), ROWS))
    assert {message.key() for message in messages} == {b"k"}
    for number, event in enumerate(map(understood, messages)):
        assert (event.get_id(), event.get_subject()) == (f"1-{number}-0", f"é{number}")
        assert Prediction.from_json(json.dumps(event.get_data()).encode()).probability == 0.25


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_announcements_leave_through_kafka_python_and_the_sdk_reads_them(kafka: str, unique: str, form: Form) -> None:
    spec = parse(template(unique))
    bootstrap(kafka, spec, partitions=1)
    said = next(each for each in examples(spec, form) if isinstance(each.message, Pool))
    carrier = KafkaCarrier(kafka, unique, "test")
    with closing(carrier):
        carrier.publish([Outgoing("models", 0, said.value, said.key.encode(), said.headers)])
        carrier.confirm()
    (message,) = consumed(kafka, physical(unique, "models"), 1)
    event = understood(message)
    assert event.get_subject() == f"{unique}/pool"
    assert Pool.from_json(json.dumps(event.get_data()).encode()) == said.message
