"""A running system for the end-to-end tests: all services as processes on a Kafka of their own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.local_kafka import LocalKafka
from headrace.plans import plans
from headrace.rows import Input
from headrace.sending import Sender, Sent, carrier, partitions
from headrace.supervisor import Supervisor
from runtime.bootstrap import bootstrap
from runtime.clock import SystemClock
from runtime.kafka import KafkaLog
from schemas.pipeline import Pipeline, load


@dataclass(frozen=True)
class Running:
    """What a test may touch."""

    kafka: LocalKafka
    services: Supervisor
    spec: Pipeline
    log: KafkaLog
    said: list[str]

    def send(self, inputs: Iterator[Input], rate: float) -> Sent:
        """Produce as `headrace replay` does."""
        with contextlib.closing(carrier(self.kafka.address, self.spec.pipeline)) as way:
            return Sender(way, partitions(way), SystemClock(), rate=rate, by_key=False).send(inputs)

    def problems(self) -> str:
        """What services said above info, for a failing test."""
        return "\n".join(line for line in self.said if '"level": "info"' not in line)[-4000:]


@contextlib.contextmanager
def running(directory: Path, pipeline: Path, instances: Mapping[str, int] | None = None) -> Iterator[Running]:
    """Everything up and ready; everything gone afterwards."""
    spec, said = load(pipeline), []  # type: Pipeline, list[str]
    with LocalKafka(directory / "kafka") as kafka:
        bootstrap(kafka.address, spec, partitions=4, event_partitions=6)
        children = plans(
            pipeline,
            kafka.address,
            instances=instances,
            data=directory / "data",
            artefacts=(directory / "artefacts").as_uri(),
        )
        with (
            Supervisor(children, lambda name, line: said.append(f"{name}: {line}")) as services,
            contextlib.closing(KafkaLog(kafka.address, spec.pipeline, "test")) as log,
        ):
            services.wait_ready(120)
            yield Running(kafka, services, spec, log, said)


def until(what: str, condition: Callable[[], bool], seconds: float, problems: Callable[[], str] = str) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s\n{problems()}"
        time.sleep(0.25)
