"""Options that several commands share, so that they mean the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

PipelineOption = Annotated[
    Path, typer.Option("--pipeline", "-p", help="The pipeline to run.", envvar="HEADRACE_PIPELINE", dir_okay=False)
]
BrokersOption = Annotated[
    str, typer.Option("--brokers", help="Kafka bootstrap servers, host:port,host:port.", envvar="HEADRACE_BROKERS")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON for programs on stdout, and nothing else there.")]
PortOption = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the local Kafka.")]
HomeOption = Annotated[Path, typer.Option("--home", help="Directory of the local Kafka: its data and log.")]

PIPELINE = Path("pipeline.yaml")
DEFAULT_PORT = 9092
BROKERS = f"127.0.0.1:{DEFAULT_PORT}"
KAFKA_HOME = Path(".headrace/kafka")
