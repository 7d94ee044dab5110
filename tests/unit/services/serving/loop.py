"""A serving service in memory: real artefacts, feature batches, and readers of what it said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import pyarrow as pa

from runtime.memory import MemoryBroker, MemoryCarrier
from runtime.metrics import Metrics
from runtime.model import Model, fetch, libraries, save
from runtime.ports import Message, Place
from runtime.signing import signed
from runtime.store import Store
from runtime.weighed import outgoing
from runtime.worker import Worker
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Cause, Decision, Member, Pool, Prediction
from schemas.messages import Message as Said
from schemas.pipeline import Pipeline
from schemas.pooling import Online, Weights
from services.serving.domain.pool import Scorer
from services.serving.handler import Serving
from services.training.domain.announcements import Candidate, directory, manifest_of, member_of, pool_of
from services.training.domain.estimators import Recipe
from services.training.domain.fitting import fit
from services.training.domain.rows import BEGINNING, remembered
from services.training.domain.taking import Taken
from tests.unit.services.training.loop import labelled, spec

T = TypeVar("T", bound=Said)

__all__ = ["Loop", "artefact", "features", "pool", "spec"]


def place(rows: pa.RecordBatch, pipeline: Pipeline) -> pa.RecordBatch:
    """Rows as training remembers them, from one message."""
    return remembered(rows, tuple(pipeline.features), 0, 0, BEGINNING)


def artefact(
    store: Store,
    pipeline: Pipeline,
    version: int = 1,
    *,
    turned: bool = False,
    others: Mapping[str, bytes] = MappingProxyType({}),
) -> Member:
    """A real model in the store, and its announcement."""
    rows = labelled(0, 200, turned=turned)
    recipe = Recipe(pipeline.model.estimator, pipeline.model.params)
    made = fit(recipe, rows, pipeline.feature_types, 1, "log_loss", None)
    candidate = Candidate(version, Cause(kind="first", id=f"c{version}"), 1, Taken(place(rows, pipeline)), made)
    manifest = manifest_of(pipeline, candidate, libraries())
    stored = save(store, directory(manifest), made.estimator, made.warm_up, manifest, others)
    return member_of(stored, epoch=1)


def pool(member: Member, version: int | None = None) -> Pool:
    return pool_of(member, version or member.version, 0, 60_000, member.epoch)


def features(first: int, count: int) -> pa.RecordBatch:
    """Feature rows of events first, first + 1, ..."""
    rows = labelled(first, count)
    names = [name for name, _ in b.IDENTITY]
    return rows.select([*names, "x", "z", "colour"])


class Loop:
    """A broker, a store, and serving instances that may crash."""

    def __init__(
        self, pipeline: Pipeline | None = None, partitions: int = 1, form: cloudevents.Form = "structured"
    ) -> None:
        names = ("features", "scored", "predictions", "dead-letters")
        self.broker = MemoryBroker({**dict.fromkeys(names, partitions), "models": 1, "weights": 1, "decisions": 1})
        self.spec, self.store, self.form = pipeline or spec(), Store("memory://"), form
        self.written = dict.fromkeys(range(partitions), 0)
        self.workers: list[Worker] = []
        self.online: Callable[[Online], Scorer] | None = None
        self.metrics = Metrics()
        self.handler = self._handler()

    def _handler(self) -> Serving:
        def load(member: Member) -> Model:
            return fetch(self.store, member, self.spec.feature_types)

        return Serving(self.spec, load, self.metrics, form=self.form, keys=self.store.keys, load_online=self.online)

    def start(self, on_publish: object = None, max_messages: int = 500) -> Worker:
        for each in self.workers:
            each._carrier.close()
        carrier = MemoryCarrier(self.broker, "serving", max_messages=max_messages, on_publish=on_publish)  # type: ignore[arg-type]
        self.handler = self._handler()
        worker = Worker(self.handler, carrier)
        self.workers = [worker]
        worker.start()
        return worker

    def run(self) -> None:
        while self.workers[0].step():
            pass

    def events(self, first: int, count: int, partition: int = 0) -> None:
        offset = self.written[partition]
        headers = b.Headers(coverage={"records": (offset, offset)}, through=b.Through())
        value = b.encode(features(first, count))
        self.broker.append(Place("features", partition), value, None, b.encode_headers(headers))
        self.written[partition] += 1

    def say(self, *messages: Member | Pool) -> None:
        for said in (signed(self.store.keys, each) for each in messages):
            value, headers = cloudevents.encode(said, id=said.key, source="/headrace/shop/training", form=self.form)
            self.broker.append(Place("models", 0), value, said.key.encode(), headers)

    def announce(self, version: int = 1, *, turned: bool = False) -> Member:
        member = artefact(self.store, self.spec, version, turned=turned)
        self.say(member, pool(member))
        return member

    def weigh(self, weights: Weights) -> None:
        told = outgoing(weights, self.store.keys)
        self.broker.append(Place(told.topic, told.partition), told.value, told.key)

    def refused(self) -> float:
        """How often the metric of refused artefacts was raised."""
        return self.metrics.registry.get_sample_value("headrace_refused_models_total", {"why": "artefact"}) or 0.0

    def log(self, topic: str, partition: int = 0) -> list[Message]:
        return [message for message in self.broker.log(Place(topic, partition)) if message is not None]

    def predictions(self) -> list[Prediction]:
        return [_read(message, Prediction) for message in self.log("predictions")]

    def decisions(self) -> list[Decision]:
        return [_read(message, Decision) for message in self.log("decisions")]

    def scored(self) -> pa.RecordBatch:
        return pa.concat_batches([b.decode(message.value) for message in self.log("scored")])

    def positions(self) -> list[int]:
        return [int(position) for position in np.asarray(self.scored().column(b.POSITION))]


def _read(message: Message, kind: type[T]) -> T:
    return cloudevents.decode(message.value or b"", message.headers).read(kind)
