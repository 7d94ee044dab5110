"""`headrace replay`: a file becomes a stream of events and late labels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from headrace.files import Options, messages, read
from headrace.options import (
    BROKERS,
    PIPELINE,
    BrokersOption,
    DelayOption,
    EveryOption,
    FileArgument,
    JsonOption,
    LabelOption,
    PipelineOption,
    StartOption,
    TimeOption,
)
from headrace.output import Output
from headrace.reach import require_kafka
from headrace.sending import OnProgress, Sender, Sent, carrier, partitions
from runtime.clock import SystemClock
from schemas.pipeline import load


class Spread(StrEnum):
    """How events are put into partitions."""

    KEY = "key"
    TURNS = "turns"


def replay(
    file: FileArgument,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    time: TimeOption = None,
    start: StartOption = None,
    every: EveryOption = None,
    label: LabelOption = None,
    label_delay: DelayOption = "0rows",
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Events per second.", show_default="as fast as Kafka takes them")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Ids are this and the row's number, unless the file has ids.")] = "row-",
    spread: Annotated[
        Spread | None,
        typer.Option(help="Partition by key or by turns.", show_default="key where the pipeline has an entity"),
    ] = None,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Send labels, too.")] = True,
    *,
    json: JsonOption = False,
) -> None:
    """Send a file as events and late labels, and wait until Kafka has them all.

    For example:

      headrace replay orders.csv --rate 2000 --label-delay 24h

      headrace replay elec2.csv.gz --start 1996-05-07T00:00:00Z --every 30m --label class --label-delay 48rows
    """
    spec = load(pipeline)
    options = Options.of(
        time=time, start=start, every=every, label=label, delay=label_delay, prefix=prefix, labels=labels
    )
    frame = read(file)
    inputs = messages(frame, spec, options)
    require_kafka(brokers)
    output = Output(machine=json)
    by_key = spec.events.entity is not None if spread is None else spread is Spread.KEY
    with contextlib.closing(carrier(brokers, spec.pipeline)) as way, _progress(output, frame.height) as on_progress:
        sender = Sender(way, partitions(way), SystemClock(), rate=rate, by_key=by_key)
        sent = sender.send(inputs, on_progress)
    _tell(output, file, sent)


class _Speed(ProgressColumn):
    """Events per second."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} events/s")


@contextlib.contextmanager
def _progress(output: Output, rows: int) -> Iterator[OnProgress]:
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeElapsedColumn())
    with Progress(*columns, console=output.people, disable=not output.terminal) as bar:
        task = bar.add_task("sending", total=rows)
        yield lambda events, _: bar.update(task, completed=events)


def _tell(output: Output, file: Path, sent: Sent) -> None:
    speed = sent.events / max(sent.seconds, 1e-9)
    output.give(
        {"file": str(file), "events": sent.events, "labels": sent.labels, "seconds": sent.seconds, "rate": speed}
    )
    output.say(
        f"{sent.events:,} events and {sent.labels:,} labels sent in {sent.seconds:.1f} s ({speed:,.0f} events/s)"
    )
