"""The past of a pipeline: its events and labels from a file become examples, by the handlers of the services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from headrace.files import Input
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
