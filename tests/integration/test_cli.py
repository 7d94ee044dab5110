"""The command line as a person meets it: exit codes, one clear message with the mend, and JSON for programs."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import psutil
import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.polling import eventually

ROOT = Path(__file__).parents[2]
NOBODY = "127.0.0.1:9"
SECONDS = 90
pytestmark = pytest.mark.timeout(240)
"""Each test runs several processes that import for seconds; a busy machine takes its time."""

PIPELINE = """
pipeline: {name}
task: binary
events:
  id: event_id
  time: at
  fields:
    at: {{type: timestamp}}
    x: {{type: number}}
labels: {{id: event_id, time: known_at, field: y, type: boolean, horizon: 24h}}
features: {{x: x}}
"""


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from headrace.cli import main; main()", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more}


def headrace(*arguments: str | Path, cwd: Path | None = None, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments),
        check=False,
        env=environment(**more),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.fixture
def pipeline(tmp_path: Path, unique: str) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(PIPELINE.format(name=unique))
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    pl.DataFrame({"x": [i / 2 for i in range(100)], "y": [i % 2 for i in range(100)]}).write_csv(path)
    return path


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


REPLAY = ("--start", "2026-01-01T00:00:00Z", "--every", "1s", "--label-delay", "10rows")


def bootstrapped(pipeline: Path, brokers: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "runtime.bootstrap"],
        env=environment(HEADRACE_PIPELINE=str(pipeline), HEADRACE_BROKERS=brokers),
        check=True,
        capture_output=True,
        timeout=SECONDS,
    )


def values(brokers: str, topic: str) -> list[dict[str, object]]:
    consumer = KafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest")
    try:
        partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found: list[dict[str, object]] = []
        while any(consumer.position(each) < ends[each] for each in partitions):
            for messages in consumer.poll(500).values():
                found += [json.loads(message.value) for message in messages]
        return found
    finally:
        consumer.close()


@pytest.mark.parametrize("words", [["up"], ["status"], ["watch", "--once"]])
def test_no_kafka_at_the_address_names_how_to_get_one(pipeline: Path, words: list[str]) -> None:
    ended = headrace(*words, "-p", pipeline, "--brokers", NOBODY)
    assert ended.returncode == 2
    assert "headrace kafka start" in ended.stderr
    assert "--kafka" in ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr


def test_replay_without_kafka_names_how_to_get_one(pipeline: Path, rows: Path) -> None:
    ended = headrace("replay", rows, "-p", pipeline, *REPLAY, "--brokers", NOBODY)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "headrace kafka start" in ended.stderr


def test_an_address_without_a_port_is_wrong_use(pipeline: Path) -> None:
    ended = headrace("status", "-p", pipeline, "--brokers", "localhost")
    assert ended.returncode == 2
    assert "host:port" in ended.stderr


def test_a_taken_port_is_named_with_the_mend(tmp_path: Path, busy_port: int) -> None:
    ended = headrace("kafka", "start", "--port", str(busy_port), "--home", tmp_path / "kafka")
    assert ended.returncode == 1
    assert f"port {busy_port} is taken" in ended.stderr
    assert "--port" in ended.stderr


def test_a_kafka_that_cannot_be_downloaded_is_named_with_the_mend(tmp_path: Path, pipeline: Path) -> None:
    nothing = {"HEADRACE_CACHE_DIR": str(tmp_path / "cache"), "HEADRACE_MAVEN_REPOSITORY": "http://127.0.0.1:9/maven2"}
    for words in (["kafka", "start", "--home", str(tmp_path / "kafka")], ["up", "-p", str(pipeline), "--kafka"]):
        ended = headrace(*words, cwd=tmp_path, **nothing)
        assert ended.returncode == 1
        assert "HEADRACE_MAVEN_REPOSITORY" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_no_kafka_to_ask_about_is_exit_code_1_and_json_says_so(tmp_path: Path) -> None:
    ended = headrace("kafka", "status", "--home", tmp_path, "--json")
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == {"running": False, "address": None, "pid": None}


def test_replay_before_the_topics_exist_names_what_makes_them(kafka: str, pipeline: Path, rows: Path) -> None:
    ended = headrace("replay", rows, "-p", pipeline, *REPLAY, "--brokers", kafka)
    assert ended.returncode == 2
    assert "headrace up" in ended.stderr


def test_replay_puts_every_event_and_label_on_the_log(kafka: str, pipeline: Path, rows: Path, unique: str) -> None:
    bootstrapped(pipeline, kafka)
    ended = headrace("replay", rows, "-p", pipeline, *REPLAY, "--brokers", kafka, "--json")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["events"], told["labels"]) == (100, 100)
    events, labels = values(kafka, f"{unique}.events.v1"), values(kafka, f"{unique}.labels.v1")
    assert (
        {each["event_id"] for each in events}
        == {each["event_id"] for each in labels}
        == {f"row-{i}" for i in range(100)}
    )
    known = {each["event_id"]: each["known_at"] for each in labels}
    assert all(known[each["event_id"]] == each["at"] + 10_000 for each in events)  # type: ignore[operator]

    looked = headrace("status", "-p", pipeline, "--brokers", kafka, "--json")
    assert looked.returncode == 0, looked.stderr
    status = json.loads(looked.stdout)
    assert status["topics"]["events"] == 100
    assert status["lag"]["ingestion"] == 200
    assert status["pool"] is None

    shown = headrace("watch", "-p", pipeline, "--brokers", kafka, "--once")
    assert shown.returncode == 0, shown.stderr
    assert "100 events" in shown.stdout


def test_up_runs_until_a_signal_and_leaves_nothing_behind(kafka: str, pipeline: Path, tmp_path: Path) -> None:
    words: list[str | Path] = [
        "up",
        "-p",
        pipeline,
        "--brokers",
        kafka,
        "--services",
        "ingestion",
        "--instances",
        "ingestion=2",
        "--json",
    ]
    log = tmp_path / "up.log"
    with log.open("w") as out:
        process = subprocess.Popen(command(*words), env=environment(), cwd=tmp_path, stdout=out, stderr=out)

    def said(event: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    both = {"ingestion-1", "ingestion-2"}
    try:
        assert eventually(lambda: both <= {each.get("instance") for each in said("started")}, SECONDS)
        children = psutil.Process(process.pid).children()
        assert len(children) == 2
        children[0].kill()
        assert eventually(lambda: said("crashed"), SECONDS)
        assert eventually(lambda: len(said("started")) == 4, SECONDS)
        children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert not any(child.is_running() for child in children)
    finally:
        process.kill()
        process.wait()


def test_up_stops_everything_when_a_setup_is_wrong(kafka: str, pipeline: Path, tmp_path: Path) -> None:
    ended = headrace(
        "up", "-p", pipeline, "--brokers", kafka, "--services", "ingestion", cwd=tmp_path, HEADRACE_LOG_LEVEL="LOUD"
    )
    assert ended.returncode == 2
    assert "ingestion cannot run" in ended.stderr
    assert "HEADRACE_LOG_LEVEL" in ended.stderr


def test_up_refuses_a_pipeline_with_a_mistake_before_it_starts_anything(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(
        PIPELINE.format(name="a").replace("features: {x: x}", "features: {x: y + 1}")
    )
    ended = headrace("up", "-p", tmp_path / "pipeline.yaml", "--kafka", cwd=tmp_path)
    assert ended.returncode == 2
    assert "pipeline.yaml" in ended.stderr
    assert not (tmp_path / ".headrace").exists()
