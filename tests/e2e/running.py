"""A running system for the end-to-end tests: services as processes on a Kafka of their own."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.following import whole
from headrace.local_kafka import LocalKafka
from headrace.plans import SERVICES, pair, plans
from headrace.rows import Input
from headrace.sending import Sender, Sent, carrier, partitions
from headrace.supervisor import Supervisor
from runtime.bootstrap import bootstrap
from runtime.clock import SystemClock
from runtime.kafka import KafkaLog
from runtime.kafka_admin import TopicShape, topic_admin
from runtime.ports import Outgoing
from schemas import batch as b
from schemas.pipeline import Pipeline, load
from schemas.topics import BY_NAME
from tests.polling import eventually


@dataclass(frozen=True)
class Running:
    """What a test may touch."""

    kafka: LocalKafka
    services: Supervisor
    spec: Pipeline
    log: KafkaLog
    said: list[str]
    crashes: list[str]
    """Child and exit code of every end that nobody asked for, kills included."""

    def send(self, inputs: Iterator[Input], rate: float) -> Sent:
        """Produce as `headrace replay` does."""
        with contextlib.closing(carrier(self.kafka.address, self.spec.pipeline)) as way:
            return Sender(way, partitions(way), SystemClock(), rate=rate, by_key=False).send(inputs)

    def problems(self) -> str:
        """What services said above info, for a failing test."""
        return "\n".join(line for line in self.said if '"level": "info"' not in line)[-4000:]

    def ids(self, topic: str) -> Counter[str]:
        """How often each event's id is on a topic of batches, counted raw."""
        found: Counter[str] = Counter()
        for _, message in whole(self.log, topic):
            found.update(b.decode(message.value).column(b.EVENT_ID).to_pylist())
        return found

    def stop(self) -> None:
        """Let every service finish, upstream first."""
        for name in self.services.names:
            self.services.stop(name)


@contextlib.contextmanager
def running(
    directory: Path,
    pipeline: Path,
    instances: Mapping[str, int] | None = None,
    *,
    services: Sequence[str] = SERVICES,
    event_partitions: int = 6,
    label_partitions: int = 6,
    first: Sequence[Outgoing] = (),
) -> Iterator[Running]:
    """Everything up and ready; everything gone afterwards. The messages of `first` are there before the services."""
    spec, said, crashes = load(pipeline), [], []  # type: Pipeline, list[str], list[str]
    with LocalKafka(directory / "kafka") as kafka:
        _make_labels(kafka.address, spec, label_partitions)
        bootstrap(kafka.address, spec, partitions=4, event_partitions=event_partitions)
        _say(kafka.address, spec, first)
        pair(directory / "keys")
        children = plans(
            pipeline,
            kafka.address,
            services=services,
            instances=instances,
            data=directory / "data",
            artefacts=(directory / "artefacts").as_uri(),
            keys=directory / "keys",
        )
        with (
            Supervisor(
                children,
                lambda name, line: said.append(f"{name}: {line}"),
                lambda name, code, _: crashes.append(f"{name} {code}"),
            ) as supervisor,
            contextlib.closing(KafkaLog(kafka.address, spec.pipeline, "test")) as log,
        ):
            supervisor.wait_ready(120)
            yield Running(kafka, supervisor, spec, log, said, crashes)


def _make_labels(address: str, spec: Pipeline, partitions: int) -> None:
    """As somebody may who made the topic before the bootstrap, which makes as many as of events."""
    labels = BY_NAME["labels"]
    shape = TopicShape(partitions, labels.config(spec.labels.horizon, 0))
    with topic_admin(address) as admin:
        admin.create({labels.physical(spec.pipeline): shape}, 1)


def _say(address: str, spec: Pipeline, first: Sequence[Outgoing]) -> None:
    with contextlib.closing(carrier(address, spec.pipeline)) as way:
        way.publish(first)
        way.confirm()


def pause(seconds: float) -> None:
    """Trouble comes at its times, whatever the system does: the stream goes on between."""
    threading.Event().wait(seconds)


def until(what: str, condition: Callable[[], bool], seconds: float, problems: Callable[[], str] = str) -> None:
    """Poll until a condition holds."""
    assert eventually(condition, seconds, pause=0.25), f"{what}: not within {seconds:.0f} s\n{problems()}"
