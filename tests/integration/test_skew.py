"""`headrace skew` on a real Kafka: sound, skewed, a part of the log, and records that were deleted."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import TopicPartition

from headrace.cli import run
from runtime import kafka_clients as clients
from runtime.bootstrap import bootstrap
from runtime.kafka import KafkaLog
from runtime.memory import MemoryBroker
from runtime.ports import Place
from schemas.messages import moment as utc
from schemas.messages import rfc3339
from schemas.pipeline import parse
from schemas.topics import physical
from tests.unit.headrace.test_skew import ROWS, served
from tests.unit.services.features.test_skew import alter
from tests.unit.services.features.test_windows_restart import TEXT
from tests.unit.services.features.world import P

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def file(kafka: str, unique: str, tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(TEXT.replace("pipeline: shop", f"pipeline: {unique}"))
    bootstrap(kafka, parse(path.read_text()), path.read_text(), P, 1)
    return path


@pytest.fixture
def log(kafka: str, unique: str) -> Iterator[KafkaLog]:
    made = KafkaLog(kafka, unique, "test")
    yield made
    made.close()


def laid(on: MemoryBroker, kafka: str, unique: str) -> None:
    """Copy what ran in memory to Kafka."""
    producer = clients.producer(kafka)
    for topic in ("records", "scored"):
        for partition in range(P):
            for message in on.log(Place(topic, partition)):
                assert message is not None
                headers = list(message.headers)
                producer.send(physical(unique, topic), message.value, partition=partition, headers=headers)
                producer.flush()  # a batch has one append time
    producer.close()


def test_a_range_is_checked_and_the_exit_code_tells(
    kafka: str, unique: str, file: Path, log: KafkaLog, capsys: pytest.CaptureFixture[str]
) -> None:
    on = served(parse(file.read_text()))
    laid(on, kafka, unique)
    words = ["skew", "-p", str(file), "--brokers", kafka, "--json"]
    assert run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["sound"], told["missing"]) == (ROWS, True, 0)
    middle = next(iter(log.read(Place("scored", 1), 10, 11))).timestamp
    moment = rfc3339(utc(middle))
    assert run([*words, "--from", moment]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["rows"] < ROWS
    assert run([*words, "--last", "50"]) == 0
    assert 50 <= json.loads(capsys.readouterr().out)["rows"] < ROWS / 2


def test_skew_on_the_log_ends_with_1_and_is_shown_to_a_person(
    kafka: str, unique: str, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    on = served(parse(file.read_text()), 200)
    alter(on, "top", 60, 123.5)
    laid(on, kafka, unique)
    assert run(["skew", "-p", str(file), "--brokers", kafka]) == 1
    told = capsys.readouterr().out
    assert "123.5" in told
    assert "rows with skew: 1 of 200" in told


def test_deleted_records_are_refused_and_the_moment_that_is_named_can_be_checked(
    kafka: str, unique: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laid(served(parse(file.read_text())), kafka, unique)
    admin = clients.admin(kafka)
    admin.delete_records({TopicPartition(physical(unique, "records"), p): 6 for p in range(P)})
    admin.close()
    words = ["skew", "-p", str(file), "--brokers", kafka]
    assert run(words) == 2
    refusal = capsys.readouterr().err
    assert "begins at offset 6" in refusal
    moment = refusal.split("--from ")[1].strip()
    assert run([*words, "--from", moment]) == 0
