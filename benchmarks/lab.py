"""The bench: a Kafka of its own, the services as processes, and CPU accounts for both."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from benchmarks.stream import PARTITIONS, SOURCES
from headrace.local_kafka import LocalKafka
from headrace.plans import pair, plans
from headrace.supervisor import Supervisor
from runtime.bootstrap import bootstrap
from schemas.pipeline import load
from schemas.topics import physical

PATIENCE_S = 240.0


@dataclass(frozen=True, slots=True)
class Message:
    """One message to produce."""

    topic: str
    partition: int
    key: bytes
    value: bytes


@dataclass(slots=True)
class Lab:
    """A running Kafka.

    Attributes:
        brokers: Its address.
        home: A directory for files.
        kafka_pid: Its process.
    """

    brokers: str
    home: Path
    kafka_pid: int
    _producer: Producer | None = field(default=None)

    def produce(self, messages: Iterable[Message]) -> int:
        """Deliver messages as fast as librdkafka can; returns how many."""
        producer = self._producer or Producer(
            {"bootstrap.servers": self.brokers, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
        )
        self._producer = producer
        count = 0
        for count, each in enumerate(messages, 1):
            producer.produce(each.topic, each.value, each.key, each.partition)
            if count % 5000 == 0:
                producer.poll(0)
        producer.flush()
        return count

    def create(self, topics: Sequence[str], partitions: int) -> None:
        """Make plain topics for a baseline."""
        admin = AdminClient({"bootstrap.servers": self.brokers})
        for each in admin.create_topics([NewTopic(topic, partitions, 1) for topic in topics]).values():
            each.result(30)

    def ends(self, topic: str, partitions: int) -> int:
        """Messages ever written to a topic."""
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": "lab"})
        try:
            places = [TopicPartition(topic, partition) for partition in range(partitions)]
            return sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        finally:
            consumer.close()

    def kafka_cpu(self) -> float:
        """CPU seconds of the broker so far."""
        return cpu(self.kafka_pid)

    def baseline(self, module: str, prefix: str, count: int, python: str = sys.executable) -> dict[str, float]:
        """Run a baseline over `count` events; what it measured, the broker's CPU included."""
        before = self.kafka_cpu()
        command = [python, "-m", f"benchmarks.baselines.{module}", self.brokers, prefix, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            raise RuntimeError(f"baseline {module} failed: {done.stderr[-2000:]}")
        found: dict[str, float] = json.loads(lines[-1])
        own = found["cpu_seconds"]
        return {**found, "own_cpu_seconds": own, "cpu_seconds": own + self.kafka_cpu() - before}


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """A Kafka in a directory of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as directory:
        home = Path(directory)
        with LocalKafka(home / "kafka") as broker:
            yield Lab(broker.address, home, broker.pid or 0)


@contextlib.contextmanager
def services(at: Lab, name: str, text: str, on_line: Callable[[str, str], None]) -> Iterator[Supervisor]:
    """The five services on a pipeline, ready."""
    path = at.home / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    spec = load(path)
    bootstrap(at.brokers, spec, partitions=PARTITIONS, event_partitions=SOURCES)
    store = (at.home / name / "artefacts").as_uri()
    keys = at.home / name / "keys"
    pair(keys)
    children = plans(path, at.brokers, data=at.home / name / "data", artefacts=store, keys=keys)
    with Supervisor(children, on_line) as supervisor:
        supervisor.wait_ready(60)
        yield supervisor


class Told:
    """What a service says about itself: its port, and that it has its partitions."""

    def __init__(self) -> None:
        self.assigned = threading.Event()
        self.port = 0

    def line(self, _: str, text: str) -> None:
        """Hear a line."""
        if found := re.search(r'"metrics_port": ?(\d+)', text):
            self.port = int(found[1])
        if '"rebalanced"' in text and '"gained": []' not in text:
            self.assigned.set()

    def counted(self, *names: str) -> float:
        """The sum of the metrics whose lines begin so."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))


def cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def until(what: str, condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Poll until a condition holds; RuntimeError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)


def topic(pipeline: str, name: str) -> str:
    """The broker's name of a topic."""
    return physical(pipeline, name)
