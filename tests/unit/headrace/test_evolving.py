"""What evolution calls fine is fine: all services are stopped, get the new file, and go on with the same log."""

import json
from functools import partial

import numpy as np
import pytest

from headrace.loop import Loop, memory_broker
from runtime.memory import MemoryBroker, VirtualClock
from runtime.model import fetch
from runtime.ports import LogReader, Place
from runtime.references import References
from runtime.store import Store
from schemas import cloudevents
from schemas.evolution import compare, refusals
from schemas.messages import Member, Prediction, Wish
from schemas.pipeline import Pipeline, parse
from services.drift.handler.counting import Counter
from services.drift.handler.judging import Judge
from services.features.handler import Features
from services.ingestion.handler import Ingestion
from services.serving.handler import Serving
from services.training.handler import Training

PARTITIONS = 2
OLD = """
pipeline: shop
task: binary
events:
  time: at
  id: order
  fields:
    at: {type: timestamp}
    x: {type: number, min: -9}
labels: {id: order, time: known, field: good, type: boolean, horizon: 24h}
features: {x: x}
model: {estimator: logistic_regression}
drift: {lateness: 1s, pane: 10s}
training: {min_rows: 100, window: 400, cooldown: 1s}
"""
EDITS = {
    "a nullable field and features before and behind the old one": [
        ("    x: {", "    y: {type: number, nullable: true}\n    x: {"),
        ("{x: x}", "{y: 'coalesce(y, -1)', x: x, half: x / 2}"),
    ],
    "a category": [
        ("min: -9}", "min: -9}\n    colour: {type: category, nullable: true}"),
        ("{x: x}", "{colour: colour, x: x}"),
    ],
    "wider bounds and null": [("min: -9}", "nullable: true}")],
    "another estimator, a later horizon, more patience": [
        ("logistic_regression", "hist_gradient_boosting"),
        ("24h", "48h"),
        ("lateness: 1s", "lateness: 3s"),
    ],
}


def services(spec: Pipeline, store: Store, broker: MemoryBroker) -> Loop:
    load = partial(fetch, store, features=spec.feature_types)
    return Loop(
        [
            ("ingestion", lambda metrics: Ingestion(spec, PARTITIONS, metrics)),
            ("features", lambda metrics: Features(spec, PARTITIONS, metrics)),
            ("serving", lambda metrics: Serving(spec, load, metrics, keys=store.keys)),
            ("drift", lambda metrics: Counter(spec, References(store), metrics)),
            ("drift-judge", lambda metrics: Judge(spec, References(store), metrics)),
            ("training", lambda metrics: Training(spec, store, metrics)),
        ],
        spec,
        broker,
    )


def feed(loop: Loop, first: int, count: int, **more: object) -> None:
    """Events and their labels, without letting the services see them."""
    chance = np.random.default_rng(first)
    for number in range(first, first + count):
        x, at = max(-8.0, float(chance.normal())), 1_700_000_000_000 + number * 1_000
        event = {"order": f"o{number}", "at": at, "x": x, **more}
        label = {"order": f"o{number}", "known": at + 10, "good": bool(x + chance.normal(scale=0.3) > 0)}
        loop.say("events", number % PARTITIONS, json.dumps(event).encode(), None)
        loop.say("labels", number % PARTITIONS, json.dumps(label).encode(), None)


def live(loop: Loop, first: int, count: int, **more: object) -> None:
    for start in range(first, first + count, 50):
        feed(loop, start, 50, **more)
        loop.settle()


def said(log: LogReader, topic: str, kind: type[Prediction] | type[Member]) -> list[Prediction | Member]:
    places = [Place(topic, each) for each in range(log.partitions(topic))]
    told = [cloudevents.decode(m.value or b"", m.headers) for p in places for m in log.read(p, 0, log.end(p))]
    return [each.read(kind) for each in told if each.type == cloudevents.type_of(kind)]


def wish(loop: Loop) -> None:
    value = Wish(id="w1", kind="retrain", subject="shop", who="me", reason="a new feature")
    loop.say("operator", 0, cloudevents.encode(value, id="w1", source="/me")[0], b"shop")


@pytest.mark.parametrize("name", EDITS)
def test_a_pipeline_goes_on_with_a_file_that_is_fine(name: str) -> None:
    text = OLD
    for old, new in EDITS[name]:
        assert old in text
        text = text.replace(old, new)
    before, after = parse(OLD), parse(text)
    assert compare(before, after)
    assert refusals(compare(before, after)) == []

    store, broker = Store("memory://"), memory_broker(VirtualClock(), PARTITIONS, PARTITIONS)
    loop = services(before, store, broker)
    live(loop, 0, 300)
    feed(loop, 300, 100)
    for upstream, depth in ((0, 2), (1, 1)):  # some rows are records, some are features, when the services stop
        for _ in range(depth):
            loop._workers[upstream].step(0)
    for worker in loop._workers:
        worker._carrier.close()

    loop = services(after, store, broker)
    assert [loop.log.end(Place("predictions", each)) for each in range(PARTITIONS)] != [0, 0]
    more = {"y": 1.0} if "y" in after.event_fields else {"colour": "red"} if "colour" in after.event_fields else {}
    live(loop, 400, 300, **more)
    wish(loop)
    live(loop, 700, 300, **more)

    predictions = [each for each in said(loop.log, "predictions", Prediction) if isinstance(each, Prediction)]
    assert sorted(each.event_id for each in predictions) == sorted(f"o{number}" for number in range(1_000))
    assert all(each.pool for each in predictions if int(each.event_id[1:]) >= 300)
    assert [loop.log.end(Place("dead-letters", each)) for each in range(PARTITIONS)] == [0, 0]
    members = [each for each in said(loop.log, "models", Member) if isinstance(each, Member)]
    assert [(each.cause.kind, list(each.features)) for each in members] == [
        ("first", ["x"]),
        ("operator", list(after.features)),
    ]
