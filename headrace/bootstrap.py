"""`headrace bootstrap`: the topics of a pipeline, and its first model from history."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from headrace.errors import RunFailed
from headrace.files import Options
from headrace.history import History, examples, history
from headrace.keys_command import first_keys
from headrace.options import (
    BROKERS,
    PIPELINE,
    BrokersOption,
    DelayOption,
    EveryOption,
    JsonOption,
    LabelOption,
    PipelineOption,
    StartOption,
    TimeOption,
)
from headrace.output import Output
from headrace.reach import require_kafka
from runtime import bootstrap as topics
from runtime import settings
from runtime.kafka import KafkaCarrier
from runtime.keys import keys_of
from runtime.ports import LogReader, Outgoing
from runtime.signing import Keys
from runtime.store import Store
from schemas.messages import Member
from schemas.pipeline import Pipeline, load
from services.training.founding import Founding
from services.training.knowledge import announced
from services.training.reading import checkpoint
from services.training.settings import Settings

BOOTSTRAP = "bootstrap"


def bootstrap(
    file: Annotated[
        Path | None, typer.Argument(help="History with labels: CSV, NDJSON (also .gz) or Parquet, in time order.")
    ] = None,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    time: TimeOption = None,
    start: StartOption = None,
    every: EveryOption = None,
    label: LabelOption = None,
    label_delay: DelayOption = "0rows",
    *,
    json: JsonOption = False,
) -> None:
    """Make the topics of a pipeline; with a file also its first model, so that it predicts from the first event on.

    Features are computed as the services compute them, the fit is the one that training would make, and training, which
    may run or not, takes the model for its first. The store and the key that signs are training's: HEADRACE_ARTEFACTS,
    HEADRACE_SIGNING_KEY. Refused where there is a model already.

    For example:

      headrace bootstrap

      headrace bootstrap orders-2025.csv.gz --label-delay 24h

      headrace bootstrap elec2.parquet --start 1996-05-07T00:00:00Z --every 30m --json
    """
    spec, given = load(pipeline), settings.read(topics.Settings)
    options = Options.of(time=time, start=start, every=every, label=label, delay=label_delay)
    output = Output(machine=json)
    past = None if file is None else history(file, spec, options, given.partitions)
    require_kafka(brokers)
    text = pipeline.read_text("utf-8")
    made = topics.bootstrap(brokers, spec, text, given.partitions, given.event_partitions, given.replication)
    output.say("\n".join(made.lines()))
    member = None if past is None else _first(past, spec, brokers, first_keys(output), output)
    output.give({**asdict(made), "member": None if member is None else member.model_dump(mode="json")})


def _first(past: History, spec: Pipeline, brokers: str, given: Settings, output: Output) -> Member:
    """What history says is said, signed and bounded as training would."""
    store = Store(given.artefacts, keys_of(given, given.signing_key))
    store.check()
    with contextlib.closing(KafkaCarrier(brokers, spec.pipeline, BOOTSTRAP)) as way:
        refuse_second(way.log, store.keys)
        trusted = settings.names(given.trusted_types)
        founding = Founding(spec, store, past.name, past.partitions, given.dataset_bytes, trusted)
        _tell(founding, past, spec, output)
        founded = founding.fit(epoch_of(way.log, store.keys))
        refuse_second(way.log, store.keys)
        publish(way, founded.steps)
    member = founded.member
    figures = ", ".join(f"{name} {value:.4g}" for name, value in sorted(member.metrics.items()))
    output.say(f"member 1 on {member.rows:,} rows: {figures}\nstored at {member.uri}; pool 1 answers from now on")
    return member


def _tell(founding: Founding, past: History, spec: Pipeline, output: Output) -> None:
    """Have a founding take the examples of a history."""
    shown = track(past.inputs, "reading", total=2 * past.rows, console=output.people, disable=not output.terminal)
    for partition, found in examples(spec, shown, past.partitions):
        founding.take(partition, found)
    output.say(f"{founding.labelled:,} labelled rows of {past.rows:,}; fitting")


def epoch_of(log: LogReader, keys: Keys) -> int:
    """The epoch of the controller that leads or led last: what is said in it every later one knows and follows."""
    return max(checkpoint(log).epoch, announced(log, keys).epoch, 1)


def refuse_second(log: LogReader, keys: Keys) -> None:
    """Return where there is no model yet.

    Raises:
        RunFailed: There is one.
    """
    newest = announced(log, keys).newest
    if newest is not None:
        raise RunFailed(
            f"{newest.model} has a model already, version {newest.version}: history makes the first one and no other. "
            "For a fit on what came since: headrace operator retrain --reason ..."
        )


def publish(way: KafkaCarrier, steps: Sequence[Sequence[Outgoing]]) -> None:
    """Write, list after list; each is on the log before the next."""
    for step in steps:
        way.publish(step)
        way.confirm()
