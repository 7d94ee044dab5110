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

# of a file of rows
TimeOption = Annotated[str | None, typer.Option("--time", help="Column with the event time.")]
StartOption = Annotated[str | None, typer.Option("--start", help="Event time of the first row, for files without one.")]
EveryOption = Annotated[str | None, typer.Option("--every", help="Event time from row to row, such as 30m.")]
LabelOption = Annotated[
    str | None, typer.Option("--label", help="Column with the label; by default called like the pipeline's field.")
]
DelayOption = Annotated[str, typer.Option("--label-delay", help="How late a label is: 24h, or 48rows.")]
FileArgument = Annotated[Path, typer.Argument(help="CSV, NDJSON (also .gz) or Parquet, in time order.")]

PIPELINE = Path("pipeline.yaml")
DEFAULT_PORT = 9092
BROKERS = f"127.0.0.1:{DEFAULT_PORT}"
KAFKA_HOME = Path(".headrace/kafka")
