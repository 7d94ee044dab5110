"""An address where no broker answers is wrong at first; later the broker is away, and that passes."""

from __future__ import annotations

import pytest
from kafka.errors import KafkaConnectionError

from runtime import kafka_clients
from runtime.errors import Transient, WrongSetup
from runtime.kafka_log import PATIENCE_SECONDS, KafkaLog
from runtime.memory import VirtualClock
from runtime.ports import Place


def refuse() -> object:
    raise KafkaConnectionError


@pytest.fixture(autouse=True)
def nothing_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_clients, "_reached", set())


def test_no_answer_is_a_wrong_setup_until_there_was_one_from_that_address() -> None:
    with pytest.raises(WrongSetup, match="HEADRACE_BROKERS"):
        kafka_clients.connect("here:1", refuse)
    assert kafka_clients.connect("here:1", lambda: "client") == "client"
    with pytest.raises(Transient, match="here:1 does not answer any more"):
        kafka_clients.connect("here:1", refuse)
    with pytest.raises(WrongSetup):
        kafka_clients.connect("elsewhere:1", refuse)


def test_the_log_is_patient_with_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise Transient("away")

    monkeypatch.setattr(kafka_clients, "consumer", away)
    clock = VirtualClock()
    log = KafkaLog("here:1", "p", "g", clock=clock)
    for call in (
        lambda: log.end(Place("a", 0)),
        lambda: log.topic_id("a"),
        lambda: list(log.read(Place("a", 0), 0, 1)),
    ):
        began = clock.monotonic()
        with pytest.raises(Transient):
            call()
        assert clock.monotonic() - began >= PATIENCE_SECONDS
