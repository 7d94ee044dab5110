"""The local Kafka does what its docstrings promise, also when things go wrong."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from headrace.local_kafka import (
    AlreadyRunningError,
    BrokerFailedError,
    JarChangedError,
    JarsUnavailableError,
    LocalKafka,
    LocalKafkaSettings,
    PortTakenError,
    start_detached,
    status,
    stop,
)
from headrace.local_kafka.jars import fetch_jars, locked_jars
from headrace.local_kafka.probe import PORTS, answers, free_ports
from tests.polling import eventually

pytestmark = pytest.mark.kafka

SECONDS = 30.0
UNREACHABLE = "http://127.0.0.1:9/maven2"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalKafka]:
    broker = LocalKafka(tmp_path / "home")
    yield broker
    broker.stop()


def make_topic(address: str, name: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=address)
    try:
        admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        admin.close()


def write(address: str, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=address, max_request_size=9_000_000, acks="all")
    try:
        for sent in [producer.send(topic, value, partition=0) for value in values]:
            sent.get(timeout=20)
    finally:
        producer.close()


def read(address: str, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=address, group_id=None, fetch_max_bytes=20_000_000)
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        values: list[bytes] = []
        deadline = time.monotonic() + SECONDS
        while len(values) < count and time.monotonic() < deadline:
            values += [r.value for records in consumer.poll(500).values() for r in records]
        return values
    finally:
        consumer.close()


def test_it_is_ready_in_seconds_and_its_address_answers(broker: LocalKafka) -> None:
    began = time.monotonic()
    address = broker.start()
    took = time.monotonic() - began
    print(f"ready in {took:.1f} s")
    assert answers(int(address.rpartition(":")[2]))
    assert took < 30


def test_what_was_written_survives_kill_and_restart_on_the_same_port(broker: LocalKafka) -> None:
    address = broker.start()
    make_topic(address, "kept")
    write(address, "kept", [b"one", b"two"])
    broker.kill()
    assert broker.pid is None
    assert broker.start() == address
    assert broker.restart() == address
    assert read(address, "kept", 2) == [b"one", b"two"]


def test_a_broker_that_died_by_itself_can_be_started_again(broker: LocalKafka) -> None:
    address = broker.start()
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)
    assert eventually(lambda: not answers(int(address.rpartition(":")[2])), SECONDS)
    assert broker.start() == address


def test_a_message_of_eight_megabytes_passes_and_a_topic_is_not_made_by_a_typo(kafka: str, unique: str) -> None:
    make_topic(kafka, unique)
    big = b"x" * 8 * 1024 * 1024
    write(kafka, unique, [big])
    assert read(kafka, unique, 1) == [big]
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    try:
        assert unique + "x" not in admin.list_topics()
    finally:
        admin.close()


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, signal, sys; from headrace.local_kafka import LocalKafka\n"
        "broker = LocalKafka(pathlib.Path(sys.argv[1])); broker.start(); print(broker.pid, flush=True); signal.pause()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        broker = psutil.Process(int(parent.stdout.readline()))
        guard = broker.parent()
        assert guard is not None
        parent.kill()
    assert eventually(lambda: not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE, SECONDS)
    assert eventually(lambda: not guard.is_running() or guard.status() == psutil.STATUS_ZOMBIE, SECONDS)
    assert status(tmp_path) is None


def test_a_taken_port_is_refused_with_the_mend(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"port {port} is taken.*--port"):
            LocalKafka(tmp_path, port).start()


def test_two_brokers_on_one_directory_are_refused(broker: LocalKafka, tmp_path: Path) -> None:
    address = broker.start()
    with pytest.raises(AlreadyRunningError, match=address):
        LocalKafka(tmp_path / "home").start()
    with pytest.raises(AlreadyRunningError, match=address):
        broker.start()
    assert status(tmp_path / "home") is not None


def test_a_broker_that_cannot_start_says_why_and_leaves_nothing(broker: LocalKafka, tmp_path: Path) -> None:
    (tmp_path / "home" / "data").mkdir(parents=True)
    (tmp_path / "home" / "data" / "meta.properties").write_text("version=1\nnode.id=9\ncluster.id=x\n")
    with pytest.raises(BrokerFailedError, match=r"(?s)server\.log.*node"):
        broker.start()
    assert broker.pid is None
    assert status(tmp_path / "home") is None


def test_no_download_is_a_clear_error_with_the_mend(tmp_path: Path) -> None:
    settings = LocalKafkaSettings(cache_dir=tmp_path / "cache", maven_repository=UNREACHABLE)
    with pytest.raises(JarsUnavailableError, match=r"cannot download .*\.jar.*HEADRACE_MAVEN_REPOSITORY"):
        LocalKafka(tmp_path / "home", settings=settings).start()


def test_a_repository_without_the_jar_is_a_clear_error(tmp_path: Path) -> None:
    jar = locked_jars()[0]
    _keep_all_but(jar.name, tmp_path)
    (tmp_path / "empty").mkdir()
    with (
        _serving(tmp_path / "empty") as repository,
        pytest.raises(JarsUnavailableError, match=rf"cannot download {jar.name}.*from {repository}"),
    ):
        fetch_jars(tmp_path, repository)


def test_a_doctored_jar_is_refused_and_not_kept(tmp_path: Path) -> None:
    jar = locked_jars()[0]
    folder = tmp_path / "repository" / jar.group.replace(".", "/") / jar.artifact / jar.version
    folder.mkdir(parents=True)
    (folder / jar.name).write_bytes(b"not the jar")
    cache = tmp_path / "cache"
    _keep_all_but(jar.name, cache)
    with _serving(tmp_path / "repository") as repository, pytest.raises(JarChangedError, match=jar.sha256):
        fetch_jars(cache, repository)
    assert not (cache / "kafka-jars" / jar.name).exists()


def test_a_download_goes_on_where_it_stopped_and_shows_its_progress(tmp_path: Path) -> None:
    jars, source = locked_jars(), LocalKafkaSettings()
    fetch_jars(source.cache, source.maven_repository)
    _keep_all_but(jars[0].name, tmp_path)
    folder = tmp_path / "served" / jars[0].group.replace(".", "/") / jars[0].artifact / jars[0].version
    folder.mkdir(parents=True)
    shutil.copy(source.cache / "kafka-jars" / jars[0].name, folder)
    shown: list[tuple[int, int]] = []
    with _serving(tmp_path / "served") as repository:
        paths = fetch_jars(tmp_path, repository, lambda done, total: shown.append((done, total)))
    assert shown == [(len(jars), len(jars))]
    assert all(path.exists() for path in paths)


def test_a_detached_broker_outlives_its_starter_until_it_is_stopped(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    program = "import pathlib, sys; from headrace.local_kafka import start_detached\n"
    program += "print(start_detached(pathlib.Path(sys.argv[1]), int(sys.argv[2])).address)"
    command = [sys.executable, "-c", program, str(tmp_path), str(port)]
    address = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        running = status(tmp_path)
        assert running is not None
        assert running.address == address == f"127.0.0.1:{port}"
        assert answers(port)
        with pytest.raises(AlreadyRunningError):
            start_detached(tmp_path)
    finally:
        assert stop(tmp_path)
    assert status(tmp_path) is None
    assert not stop(tmp_path)
    assert not answers(port)


def test_chosen_ports_lie_outside_the_range_of_outgoing_connections() -> None:
    assert all(port in PORTS and port < 32_768 for port in free_ports(5))


def _keep_all_but(name: str, cache: Path) -> None:
    """A cache in which every jar but one lies already; the others are never opened."""
    folder = cache / "kafka-jars"
    folder.mkdir(parents=True)
    for jar in locked_jars():
        if jar.name != name:
            (folder / jar.name).touch()


class _serving:  # noqa: N801 - reads as a verb where it is used
    """A Maven repository on loopback: the files below a directory."""

    def __init__(self, directory: Path) -> None:
        self._port = free_ports(1)[0]
        command = [sys.executable, "-m", "http.server", str(self._port), "--bind", "127.0.0.1"]
        self._server = subprocess.Popen(
            [*command, "--directory", str(directory)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> str:
        assert eventually(self._listens, SECONDS)
        return f"http://127.0.0.1:{self._port}"

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0
