"""The past of a pipeline: its events and labels from a file become examples, by the handlers of the services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from headrace.files import Input, Options, digest, messages, read
from headrace.loop import Loop, memory_broker
from headrace.simulate import turns
from runtime.memory import VirtualClock
from runtime.model import fetch
from runtime.ports import Message, Place
from runtime.store import Store
from schemas.pipeline import Pipeline
from services.features.handler import Features
from services.ingestion.handler import Ingestion
from services.serving.handler import Serving
from services.training.domain.announcements import HISTORY


class History(NamedTuple):
    """A file of events with labels.

    Attributes:
        name: The same file, specification and options have the same.
        rows: How many it has.
        partitions: Of the examples that are made of it.
        inputs: Its events and labels in time order.
    """

    name: str
    rows: int
    partitions: int
    inputs: Iterator[Input]


def history(file: Path, spec: Pipeline, options: Options, partitions: int) -> History:
    """Read a file.

    Raises:
        WrongUse: There is none, or it does not fit the pipeline.
    """
    frame = read(file)
    inputs = messages(frame, spec, options)
    return History(f"{HISTORY}{digest(file, spec, options, partitions)}", frame.height, partitions, inputs)


def examples(spec: Pipeline, inputs: Iterable[Input], partitions: int) -> Iterator[tuple[int, Sequence[Message]]]:
    """The examples, turn by turn: partition and messages; what was read is let go of.

    All rows have one source: the file's order is that of time, and no row is late.
    """
    load_model = partial(fetch, Store("memory://"), features=spec.feature_types)
    loop = Loop(
        [
            ("ingestion", lambda metrics: Ingestion(spec, partitions, metrics)),
            ("features", lambda metrics: Features(spec, partitions, metrics)),
            ("serving", lambda metrics: Serving(spec, load_model, metrics)),
        ],
        spec,
        memory_broker(VirtualClock(), partitions, sources=1),
    )
    read = dict.fromkeys(range(partitions), 0)
    for _ in turns(loop, spec, inputs):
        for each, start in read.items():
            place = Place("examples", each)
            read[each] = loop.log.end(place)
            if messages := list(loop.log.read(place, start, read[each])):
                yield each, messages
        loop.broker.forget()
