"""`headrace up`: the services as child processes against any Kafka, with one log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from headrace import local_kafka
from headrace.keys_command import first_keys
from headrace.options import (
    BROKERS,
    DEFAULT_PORT,
    KAFKA_HOME,
    PIPELINE,
    BrokersOption,
    JsonOption,
    PipelineOption,
    PortOption,
)
from headrace.output import Output
from headrace.plans import SERVICES, chosen, counted, plans
from headrace.reach import require_kafka
from headrace.service_logs import ServiceLogs
from headrace.stopping import signals
from headrace.supervisor import Supervisor
from runtime.bootstrap import PARTITIONS, bootstrap
from schemas.pipeline import load

UP = "up"
WAIT_S = 0.2


def up(
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    services: Annotated[
        str | None, typer.Option(help=f"Only these, with commas: {','.join(SERVICES)}.", show_default="all")
    ] = None,
    instances: Annotated[list[str] | None, typer.Option(help="More than one of a service: ingestion=2.")] = None,
    partitions: Annotated[
        int, typer.Option(min=1, help="P, the internal partitions of new topics.", envvar="HEADRACE_PARTITIONS")
    ] = PARTITIONS,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of POST /v1/predict; 0 for any.")] = 8080,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65530, help="Port of the first /metrics, the others count up; 0 for any.")
    ] = 0,
    kafka: Annotated[bool, typer.Option("--kafka", help="Start a local Kafka, too, unless it runs.")] = False,
    port: PortOption = DEFAULT_PORT,
    *,
    json: JsonOption = False,
) -> None:
    """Run the services until Ctrl-C; makes missing topics, restarts what crashes, stops when a setup is wrong.

    For example:

      headrace up --kafka

      headrace up -p shop/pipeline.yaml --brokers broker-1:9092,broker-2:9092

      headrace up --services features,serving --instances features=2
    """
    spec = load(pipeline)
    names, counts = chosen(services), counted(instances or [])
    output = Output(machine=json)
    logs = ServiceLogs(output)
    with kafka_for(brokers, own=kafka, port=port, output=output) as address:
        if "training" in names:
            first_keys(output)
        bootstrap(address, spec, pipeline.read_text("utf-8"), partitions)
        children = plans(
            pipeline, address, services=names, instances=counts, http_port=http_port, metrics_port=metrics_port
        )
        supervisor = Supervisor(
            children, logs.line, lambda name, code, pause: logs.tell(name, "crashed", exit_code=code, again_in_s=pause)
        )
        _run(supervisor, logs, address)
        supervisor.raise_refusal()


@contextlib.contextmanager
def kafka_for(
    brokers: str, *, own: bool, port: int = DEFAULT_PORT, home: Path = KAFKA_HOME, output: Output
) -> Iterator[str]:
    """The address of the Kafka to use: the one named, or one that runs as long as the context.

    Raises:
        WrongSetup: Nobody answers at the address.
        LocalKafkaError: The own one cannot start.
    """
    if not own:
        require_kafka(brokers)
        yield brokers
    elif running := local_kafka.status(home):
        output.say(f"Kafka runs already at {running.address}")
        yield running.address
    else:
        with local_kafka.LocalKafka(home, port) as broker:
            output.say(f"Kafka answers at {broker.address}; its data stays in {home}")
            yield broker.address


def _run(supervisor: Supervisor, logs: ServiceLogs, address: str) -> None:
    """Until a signal comes or a child says that its setup is wrong; all have ended when this returns."""
    with signals() as asked, supervisor:
        logs.tell(UP, "started", services=",".join(supervisor.names), brokers=address)
        while asked.by is None and not supervisor.ended.wait(WAIT_S):
            pass
        logs.tell(UP, "stopping", because=asked.by or f"{supervisor.refused} ended with exit code 2")
    logs.tell(UP, "stopped")
