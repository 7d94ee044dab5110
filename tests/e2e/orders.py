"""A stream of orders, a model that scores it, and the examples of services that nobody disturbs.

Each internal partition gets all its rows from one partition of events, so that their order, which windows depend on, is
that of the producer, whoever handles them and whenever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple
from zlib import crc32

import numpy as np
import polars as pl
import pyarrow as pa

from headrace.following import whole
from headrace.loop import Loop, memory_broker
from runtime.memory import VirtualClock
from runtime.model import fetch, libraries, save
from runtime.ports import Message, Outgoing, Place
from runtime.signing import signed
from runtime.store import Store
from schemas import batch as b
from schemas.cloudevents import encode
from schemas.columns import together
from schemas.contract import ARROW_STREAM
from schemas.messages import Cause
from schemas.pipeline import Pipeline
from services.features.handler import Features
from services.ingestion.handler import Ingestion
from services.serving.handler import Serving
from services.training.domain.announcements import Candidate, directory, manifest_of, member_of, pool_of
from services.training.domain.estimators import Recipe
from services.training.domain.fitting import fit
from services.training.domain.rows import BEGINNING, remembered
from services.training.domain.taking import Taken

PARTITIONS = 4
CHUNK, SEED = 2_000, 5
START = 1_790_000_000_000
LATE_MS, EARLY_MS = 300_000, 60_000
"""How late an event comes at most, and how long before its event a label."""

PIPELINE = """\
pipeline: storm
task: binary
events:
  id: order
  time: at
  entity: customer
  fields:
    at: {type: timestamp}
    customer: {type: text}
    amount: {type: number, nullable: true}
    items: {type: integer}
labels: {id: order, time: known_at, field: returned, type: boolean, horizon: 2h}
features:
  per_item: amount / nullif(items, 0)
  orders: {count: "*", over: 1h}
  mean: {mean: amount, over: 1h}
  apart: {std: amount / 3, over: 1h}
  top: {max: amount, over: 20 rows, within: 2h}
  gap: {since: "*", over: 1h}
drift: {lateness: 30m}
model: {estimator: logistic_regression}
"""

Portion = list[Outgoing]
"""What is sent together: events, and the labels that are known by then."""


class Orders(NamedTuple):
    """All events as they come, and all labels in the order in which they are known.

    Attributes:
        step_ms: From event to event.
    """

    events: pl.DataFrame
    labels: pl.DataFrame
    step_ms: int


def orders(rows: int, step_ms: int, wait_ms: int) -> Orders:
    """Returned when the amount is large; every 50th event out of order, every 9th amount missing, some labels twice.

    Args:
        rows: How many events.
        step_ms: From event to event.
        wait_ms: How long after its event a label comes at most.
    """
    row, numbers = np.arange(rows), np.random.default_rng(SEED)
    amount = numbers.gamma(2.0, 30.0, rows)
    at = START + row * step_ms - np.where(row % 50 == 0, numbers.integers(0, LATE_MS, rows), 0)
    customer = [f"c-{each}" for each in (row * 31 % 997).tolist()]
    frame = pl.DataFrame(
        {
            "partition": [crc32(each.encode()) % PARTITIONS for each in customer],
            "order": [f"o-{each}" for each in row.tolist()],
            "at": at,
            "customer": customer,
            "amount": pl.Series(np.where(row % 9 == 0, np.nan, amount), nan_to_null=True),
            "items": row % 4,
            "known_at": at + numbers.integers(-EARLY_MS, wait_ms, rows),
            "returned": amount > 50.0,
        }
    )
    labels = frame.select("partition", "order", "customer", "known_at", "returned")
    again = labels[::100].with_columns(pl.col("known_at") + 1, ~pl.col("returned"))
    known = pl.concat([labels, again]).sort("known_at", maintain_order=True)
    return Orders(frame.drop("known_at", "returned"), known, step_ms)


def portions(stream: Orders, *, batches: bool = True) -> Iterator[Portion]:
    """The stream in the order in which it is sent, as Arrow batches or as JSON, a message a row."""
    form = _batches if batches else _documents
    known, begin = stream.labels["known_at"].to_numpy(), 0
    for first in range(0, len(stream.events), CHUNK):
        stop = first + CHUNK
        end = int(np.searchsorted(known, START + stop * stream.step_ms)) if stop < len(stream.events) else len(known)
        yield [*form("events", stream.events[first:stop]), *form("labels", stream.labels[begin:end])]
        begin = end


def _batches(topic: str, rows: pl.DataFrame) -> Iterator[Outgoing]:
    headers = [("content-type", ARROW_STREAM.encode())]
    for (place,), part in rows.partition_by("partition", as_dict=True, include_key=False).items():
        table = part.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
        yield Outgoing(topic, int(place), b.encode(table.to_batches()[0]), None, headers)


def _documents(topic: str, rows: pl.DataFrame) -> Iterator[Outgoing]:
    values = rows.select(pl.struct(pl.exclude("partition")).struct.json_encode()).to_series()
    for place, value in zip(rows["partition"], values, strict=True):
        yield Outgoing(topic, place, value.encode())


def model(spec: Pipeline, store: Store, learned: Sequence[Portion]) -> Portion:
    """The announcement of a model that was fitted on the examples of some portions."""
    rows = undisturbed(spec, store, learned)
    made = fit(Recipe(spec.model.estimator, spec.model.params), rows, spec.feature_types, 1, spec.metric, None)
    candidate = Candidate(
        1, Cause(kind="first", id="c1"), 1, Taken(remembered(rows, tuple(spec.features), 0, 0, BEGINNING)), made
    )
    manifest = manifest_of(spec, candidate, libraries())
    member = member_of(save(store, directory(manifest), made.estimator, made.warm_up, manifest), epoch=1)
    said = []
    for each in (member, pool_of(member, 1, 0, 60_000, 1)):
        value, headers = encode(signed(store.keys, each), id=each.key, source="/headrace/storm/training")
        said.append(Outgoing("models", 0, value, each.key.encode(), headers))
    return said


def undisturbed(spec: Pipeline, store: Store, sent: Sequence[Portion]) -> pa.RecordBatch:
    """The examples of services that nobody disturbs, in memory."""
    load = partial(fetch, store, features=spec.feature_types)
    broker = memory_broker(VirtualClock(), PARTITIONS, PARTITIONS)
    loop = Loop(
        [
            ("ingestion", lambda metrics: Ingestion(spec, PARTITIONS, metrics)),
            ("features", lambda metrics: Features(spec, PARTITIONS, metrics)),
            ("serving", lambda metrics: Serving(spec, load, metrics, keys=store.keys)),
        ],
        spec,
        broker,
    )
    for portion in sent:
        for each in portion:
            broker.append(Place(each.topic, each.partition), each.value, each.key, each.headers)
        loop.settle()
    return examples([message for _, message in whole(loop.log, "examples")])


def examples(messages: Sequence[Message]) -> pa.RecordBatch:
    """All rows of the messages of examples."""
    return together([batch for each in messages if (batch := b.decode(each.value)).num_rows])
