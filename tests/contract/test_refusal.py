"""Nothing lands that came behind a refused message: restarts would take it for the end of an output without holes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from runtime import kafka_clients
from runtime.errors import DeliveryFailed
from runtime.fanout import Fanout
from runtime.kafka import KafkaCarrier, KafkaLog
from runtime.ports import Outgoing, Place
from runtime.streams import StreamsCarrier
from schemas.topics import physical

FEATURES = Place("features", 0)
SMALL, LARGE = b"small", bytes(5_000)
SECONDS = 30
pytestmark = pytest.mark.timeout(120)


def through_kafka(brokers: str, pipeline: str, _: Path) -> KafkaCarrier:
    return KafkaCarrier(brokers, pipeline, "g")


def through_librdkafka(brokers: str, pipeline: str, _: Path) -> KafkaCarrier:
    return KafkaCarrier(brokers, pipeline, "g", fan_out=frozenset({"features"}))


def through_faust(brokers: str, pipeline: str, home: Path) -> StreamsCarrier:
    carrier = StreamsCarrier(brokers, pipeline, "g", datadir=home)
    carrier.subscribe(["records"])
    deadline = time.monotonic() + SECONDS
    while not carrier.poll(0.1).gained:
        assert time.monotonic() < deadline, "nothing was assigned"
    return carrier


CARRIERS: Mapping[str, Callable[[str, str, Path], KafkaCarrier | StreamsCarrier]] = {
    "kafka": through_kafka,
    "librdkafka": through_librdkafka,
    "streams": through_faust,
}


@pytest.fixture
def topics(kafka: str, unique: str) -> str:
    """Address of a broker where the pipeline's features take messages of 2,000 bytes."""
    client = kafka_clients.admin(kafka)
    wanted = {"num_partitions": 1, "replication_factor": 1, "configs": {"max.message.bytes": "2000"}}
    client.create_topics({physical(unique, name): wanted for name in ("records", "features")}, wait_for_metadata=True)
    client.close()
    return kafka


@pytest.mark.parametrize("earlier", [0, 3], ids=["the first message", "a later message"])
@pytest.mark.parametrize("name", CARRIERS)
def test_closing_does_not_deliver_what_came_behind_a_refused_message(
    topics: str, unique: str, tmp_path: Path, name: str, earlier: int
) -> None:
    carrier = CARRIERS[name](topics, unique, tmp_path)
    before = [b"%d" % number for number in range(earlier)]
    for value in before:
        carrier.publish([Outgoing(*FEATURES, value)])
        carrier.confirm()
    carrier.publish([Outgoing(*FEATURES, LARGE), *[Outgoing(*FEATURES, SMALL)] * 20])
    with pytest.raises(DeliveryFailed):
        carrier.confirm()
    carrier.close()
    log = KafkaLog(topics, unique, "reader")
    assert [each.value for each in log.read(FEATURES, 0, log.end(FEATURES))] == before
    log.close()


def test_what_a_client_cannot_encode_is_a_delivery_failure(topics: str, unique: str) -> None:
    strange = Outgoing(*FEATURES, b"value", None, [("null", None)])  # type: ignore[list-item]
    carrier = KafkaCarrier(topics, unique, "g")
    with pytest.raises(DeliveryFailed, match="features/0"):
        carrier.publish([strange])
    carrier.close()
    fanout = Fanout(topics, unique)
    with pytest.raises(DeliveryFailed, match="features/0"):
        fanout.publish([strange._replace(value="no bytes", headers=[("name", 3)])])  # type: ignore[arg-type, list-item]
    fanout.close()
