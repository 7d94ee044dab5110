"""`headrace simulate`: the handlers of all services in one process and in virtual time, over a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated
from zlib import crc32

import typer
from rich.progress import track

from headrace.drift.document import write_all
from headrace.drift.reading import stories
from headrace.errors import WrongUse
from headrace.files import Input, Options, digest, messages, read
from headrace.loop import PARTITIONS, SOURCES, TURN, Loop, memory_broker
from headrace.options import (
    PIPELINE,
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
from headrace.report import report
from headrace.settings import trusted_types
from headrace.story import tell
from runtime.memory import VirtualClock
from runtime.model import fetch
from runtime.online import fetch_online
from runtime.references import References
from runtime.signing import keys_in_memory
from runtime.store import Store
from schemas.checks import several_owners
from schemas.pipeline import Pipeline, load
from services.drift.handler.counting import Counter
from services.drift.handler.judging import Judge
from services.features.handler import Features
from services.ingestion.handler import Ingestion
from services.serving.handler import Serving
from services.training.handler import Training

RATE = 2_000.0
"""Messages per virtual second: what the clock tells ingestion of idle sources."""


def simulate(
    file: FileArgument,
    pipeline: PipelineOption = PIPELINE,
    time: TimeOption = None,
    start: StartOption = None,
    every: EveryOption = None,
    label: LabelOption = None,
    label_delay: DelayOption = "0rows",
    partitions: Annotated[int, typer.Option(min=1, help="P, the internal partitions.")] = PARTITIONS,
    artefacts: Annotated[str, typer.Option(help="Where models go; memory forgets them.")] = "memory://",
    episodes: Annotated[
        Path | None, typer.Option(help="Directory for a page about each drift episode.", file_okay=False)
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Run the whole loop over a file, without Kafka, and tell what happened.

    For example:

      headrace simulate orders.csv --label-delay 24h

      headrace simulate elec2.csv.gz --start 1996-05-07T00:00:00Z --every 30m --label-delay 48rows --json
    """
    spec = load(pipeline)
    if (reason := several_owners(spec, partitions)) is not None:
        raise WrongUse(reason)
    options = Options.of(time=time, start=start, every=every, label=label, delay=label_delay)
    output = Output(machine=json)
    frame = read(file)
    inputs = list(messages(frame, spec, options))
    name, store = digest(file, spec, options, partitions), Store(artefacts, keys_in_memory())
    loop = assemble(spec, store, partitions, name, trusted_types())
    run(loop, spec, track(inputs, "simulating", console=output.people, disable=not output.terminal))
    tell(output, report(loop.log))
    if episodes is not None:
        write_all(stories(loop.log), spec.pipeline, episodes)


def assemble(
    spec: Pipeline,
    store: Store,
    partitions: int = PARTITIONS,
    name: str = "",
    trusted: Sequence[str] = (),
    sources: int = SOURCES,
) -> Loop:
    """All services on a new broker in memory.

    Args:
        spec: The pipeline.
        store: Where models and archive go.
        partitions: P.
        name: In a store that others use, too, it keeps their archives apart.
        trusted: Types that models may hold besides those of the list.
        sources: Partitions of events and labels.
    """
    load_model = partial(fetch, store, features=spec.feature_types, trusted=trusted)
    load_online = partial(fetch_online, store, types=spec.feature_types, classes=len(spec.classes))
    return Loop(
        [
            ("ingestion", lambda metrics: Ingestion(spec, partitions, metrics)),
            ("features", lambda metrics: Features(spec, partitions, metrics)),
            ("serving", lambda metrics: Serving(spec, load_model, metrics, keys=store.keys, load_online=load_online)),
            ("drift", lambda metrics: Counter(spec, References(store, metrics), metrics)),
            ("drift-judge", lambda metrics: Judge(spec, References(store, metrics), metrics)),
            ("training", lambda metrics: Training(spec, store, metrics, trusted=trusted)),
        ],
        spec,
        memory_broker(VirtualClock(), partitions, sources, name=name),
    )


def run(loop: Loop, spec: Pipeline, inputs: Iterable[Input], size: int = TURN) -> None:
    """Produce the messages in turns of so many, each followed by a round of all services."""
    for _ in turns(loop, spec, inputs, size):
        pass


def turns(loop: Loop, spec: Pipeline, inputs: Iterable[Input], size: int = TURN) -> Iterator[None]:
    """The same, turn by turn."""
    counts, sources = {"events": 0, "labels": 0}, loop.log.partitions("events")
    for number, each in enumerate(inputs, 1):
        turn = crc32(each.key) if spec.events.entity else counts[each.kind]
        counts[each.kind] += 1
        loop.say(each.kind, turn % sources, each.value, each.key)
        loop.clock.advance(1 / RATE)
        if number % size == 0:
            loop.settle()
            yield
    loop.settle()
    yield
