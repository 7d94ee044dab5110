"""The sampler: a sound run has no skew whoever dies whenever, and each kind of real skew is counted and told."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.memory import MemoryBroker, VirtualClock
from runtime.metrics import Metrics
from runtime.ports import Handler, Place
from runtime.worker import COMMIT_SECONDS
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Decision
from schemas.pipeline import Pipeline, parse
from services.features.auditing import QUIET_MS
from services.features.domain import sampling
from services.features.domain.computing import Computation
from services.features.domain.labelled import times
from services.features.domain.pairing import of_records
from services.features.domain.shadow import Shadow
from services.features.domain.windows_panes import Panes
from services.features.handler import Features
from services.ingestion.handler import Ingestion
from tests.unit.services.features.test_windows_restart import SPEC, STEPS, TEXT, Run, events
from tests.unit.services.features.world import SOURCES, P, Process, drain, rest

PLAIN_TEXT = """
pipeline: shop
task: binary
events:
  id: order
  time: at
  entity: who
  fields:
    at: {type: timestamp}
    who: {type: text}
    amount: {type: number, nullable: true}
labels: {id: order, time: known, field: back, type: boolean, horizon: 60s}
features: {double: amount * 2, name: who}
drift: {pane: 10s, lateness: 2s}
"""
PLAIN = parse(PLAIN_TEXT)
ROWS = 400


def world() -> MemoryBroker:
    counts = dict.fromkeys(("records", "outcomes", "features", "scored", "examples", "dead-letters"), P)
    return MemoryBroker({"events": SOURCES, "labels": 1, "decisions": 1, **counts}, VirtualClock())


@dataclass
class Shop(Process):
    """As elsewhere, with a share of its own."""

    share: float = 1.0

    def _handler(self) -> Handler:
        if self.group == "ingestion":
            return Ingestion(self.spec, P, self.metrics)
        if self.group == "features":
            return Features(self.spec, P, self.metrics, share=self.share)
        return super()._handler()


class Story(Run):
    """Features that are killed, doubled and copied, and a serving that scores what they write."""

    def __init__(self, on: MemoryBroker, size: int, share: float) -> None:
        self.share, self.seen = share, list[Metrics]()
        self.serving = Shop(on, "serving", size)
        super().__init__(on, size)
        self.features.kill()

    def new(self) -> Any:
        shop = Shop(self.on, "features", self.size, spec=SPEC, share=self.share)
        self.seen.append(shop.metrics)
        return shop

    def step(self, number: int) -> None:
        if not self.features.alive:
            self.features = self.new()
        for _ in range(number):
            self.features.step()
            self.serving.step()
            self.on.clock.advance(COMMIT_SECONDS / 2)

    def another(self, number: int) -> None:
        other = self.other if self.other is not None and self.other.alive else self.new()
        self.other = other
        for _ in range(number):
            other.step()
        if number == 1:
            other.kill()

    def count(self, name: str, **labels: str) -> float:
        return sum(counted(each, name, **labels) for each in self.seen)


def sent(on: MemoryBroker, first: int = 0, rows: int = ROWS) -> None:
    for n in range(first, first + rows):
        event = {"order": f"o{n}", "at": n * 700, "who": f"w{n % 7}", "amount": n % 13 / 7}
        on.append(Place("events", n % SOURCES), json.dumps(event).encode())


def told(on: MemoryBroker) -> list[Decision]:
    messages = [message for message in on.log(Place("decisions", 0)) if message is not None]
    return [cloudevents.decode(each.value or b"", each.headers).read(Decision) for each in messages]


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"headrace_{name}_rows_total", labels) or 0


def all_of(on: MemoryBroker, spec: Pipeline = SPEC) -> tuple[Shop, Shop, Shop]:
    ingestion, features, serving = (Shop(on, each, spec=spec) for each in ("ingestion", "features", "serving"))
    return ingestion, features, serving


def alter(on: MemoryBroker, feature: str, row: int, value: float | str) -> None:
    """A served row of partition 0 says something else."""
    place = Place("scored", 0)
    for offset, message in enumerate(on.log(place)):
        assert message is not None
        batch = b.decode(message.value)
        if row < batch.num_rows:
            values = batch.column(feature).to_pylist()
            values[row] = value
            altered = pa.array(values, batch.schema.field(feature).type)
            index = batch.schema.get_field_index(feature)
            changed = batch.set_column(index, feature, altered)
            on.log(place)[offset] = message._replace(value=b.encode(changed))  # type: ignore[attr-defined]  # Stored
            return
        row -= batch.num_rows
    raise AssertionError("there is no such row")


@pytest.mark.parametrize("spec", [SPEC, PLAIN], ids=["windows", "plain"])
def test_every_row_of_a_sound_run_is_checked_and_none_is_skewed(spec: Pipeline) -> None:
    on = world()
    processes = all_of(on, spec)
    sent(on)
    rest(*processes)
    metrics = processes[1].metrics
    assert counted(metrics, "audited", features="expressions") == ROWS
    assert counted(metrics, "audited", features="windows") == (ROWS if spec is SPEC else 0)
    assert counted(metrics, "skewed") == 0
    assert told(on) == []


@settings(max_examples=25, deadline=None)
@given(events(), STEPS, st.integers(1, 20), st.sampled_from([1.0, 0.5, 0.1]))
def test_whoever_dies_whenever_a_sound_run_has_no_skew(
    script: list[tuple[Place, bytes]], steps: list[tuple[str, int]], size: int, share: float
) -> None:
    on = world()
    for place, value in script:
        on.append(place, value)
    drain(Shop(on, "ingestion", size, spec=SPEC))
    story = Story(on, size, share)
    story.play(steps)
    story.step(3)
    rest(story.serving, story.features)
    assert story.count("skewed") == 0
    assert told(on) == []
    assert share < 1 or story.count("audited", features="windows") > 0


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from(["entity", "partition"]), st.sampled_from([0.05, 0.2, 0.5]), st.booleans()
)
def test_windows_of_chosen_rows_have_the_bits_of_all_rows_whatever_was_left_out(
    seed: int, per: str, share: float, rewound: bool
) -> None:
    spec = parse(f"{TEXT}windows: {{per: {per}}}")
    random = np.random.default_rng(seed)
    every = some_rows(random, 1_000)
    computation, shadow = Computation(spec), Shadow(spec, 0, share)
    computation.begin(0)
    served = computation.compute(every, [(0, every.num_rows)])
    at = rewind(shadow, spec, every) if rewound else 0
    while at < every.num_rows:
        size = int(random.integers(1, 150))
        shadow.take(every.slice(at, size))
        shadow.served(served.slice(at, size))
        at += size
        pairs = shadow.look() if random.random() < 0.3 or at >= every.num_rows else None
        if pairs is not None:
            whole = shadow.comparable(pairs)
            for name, form in spec.features.items():
                assert not (pairs.differing(name) & (whole if isinstance(form, dict) else True)).any()


def rewind(shadow: Shadow, spec: Pipeline, every: pa.RecordBatch) -> int:
    """Read again the rows before the 600th as far as windows reach, in three parts."""
    margin = spec.longest_window // 24
    highest = np.maximum.accumulate(times(every))
    start = int((highest < highest[599] - spec.longest_window - margin).sum())
    for part in np.array_split(np.arange(start, 600), 3):
        if len(part):
            shadow.take(every.slice(int(part[0]), len(part)))
            shadow.compute()
    shadow.rewound(margin)
    return 600


def some_rows(random: np.random.Generator, count: int) -> pa.RecordBatch:
    """Rows of one partition of records, some late, with long pauses."""
    now = 1_000_000 + np.cumsum(random.choice([0, 50, 200, 1_000, 30_000], count, p=[0.2, 0.3, 0.3, 0.17, 0.03]))
    late = random.choice([0, 500, 3_000, 20_000, 70_000], count, p=[0.7, 0.1, 0.1, 0.07, 0.03])
    time = pa.array(now - late, pa.timestamp("ms", "UTC"))
    who = pa.array([f"w{each}" for each in random.integers(0, int(random.choice([3, 20, 200])), count)])
    columns = {
        "_source": pa.array(random.integers(0, 2, count), pa.int16()),
        "_position": pa.array(np.arange(count)),
        "_row": pa.array(np.zeros(count), pa.int32()),
        "_event_id": pa.array([f"o{n}" for n in range(count)]),
        "_entity": who,
        "_time": time,
        "_traceparent": pa.nulls(count, pa.string()),
        "at": time,
        "who": who,
        "amount": pa.array(random.normal(size=count), mask=random.random(count) < 0.1),
    }
    return pa.RecordBatch.from_pydict(columns)


def altered_amid(feature: str, value: float) -> tuple[MemoryBroker, Shop, dict[str, Any]]:
    """A run in which one served value was altered before features saw it: the run, features, and the row as it was."""
    on = world()
    ingestion, features, serving = all_of(on)
    sent(on)
    drain(ingestion)
    while not on.log(Place("features", 0)):
        features.step()
    drain(serving)
    (first, *_) = on.log(Place("scored", 0))
    assert first is not None
    row = b.decode(first.value).to_pylist()[30]
    alter(on, feature, 30, value)
    rest(features, serving)
    return on, features, row


@pytest.mark.parametrize(("feature", "value"), [("double", -1.0), ("mean", 1e-9), ("seen", 3.0)])
def test_an_altered_value_is_counted_and_told_once_with_row_feature_and_values(feature: str, value: float) -> None:
    on, features, row = altered_amid(feature, value)
    assert counted(features.metrics, "skewed") == 1
    (line,) = told(on)
    identity = f"{row['_source']}-{row['_position']}-{row['_row']}"
    assert (line.step, line.service, line.subject) == ("skewed", "features", f"{feature}@{identity}")
    assert line.evidence["event_id"] == row["_event_id"]
    assert line.evidence["feature"] == feature
    assert (line.evidence["served"], line.evidence["recomputed"]) == (value, row[feature])
    assert str(value) in line.reason


def test_a_feature_that_stays_skewed_has_a_line_an_hour_and_every_row_is_counted() -> None:
    on = world()
    older = parse(PLAIN_TEXT.replace("amount * 2", "amount * 3"))
    ingestion, serving = Shop(on, "ingestion", spec=PLAIN), Shop(on, "serving")
    wrong = Shop(on, "features", spec=older)
    metrics = wrong.metrics
    audit = Features(PLAIN, P, metrics, share=1)._audit
    wrong.handler._audit = audit  # type: ignore[attr-defined]  # it computes by an older definition and checks by this
    first = 0
    for hours in (0, 1, 2):
        sent(on, first, 50)
        first += 50
        rest(ingestion, wrong, serving)
        rest(ingestion, wrong, serving)
        assert len(told(on)) == P * (hours + 1)
        on.clock.advance(QUIET_MS / 1000)
    assert counted(metrics, "skewed") > 100


@pytest.mark.parametrize(
    ("old", "new", "feature"),
    [("amount * 2", "amount * 3", "double"), ("{mean: amount, over: 10s}", "{mean: amount, over: 20s}", "mean")],
)
def test_a_new_owner_finds_rows_that_an_older_definition_computed(old: str, new: str, feature: str) -> None:
    on = world()
    older = parse(TEXT.replace(old, new))
    ingestion, features, serving = all_of(on, older)
    sent(on)
    rest(ingestion, features, serving)
    assert counted(features.metrics, "skewed") == 0
    features.kill()
    newer = Shop(on, "features", spec=parse(TEXT))
    rest(newer, serving)
    assert counted(newer.metrics, "skewed") > 0
    assert {line.evidence["feature"] for line in told(on)} == {feature}


def test_a_corrupted_state_of_windows_is_found() -> None:
    on = world()
    processes = all_of(on)
    sent(on)
    rest(*processes)
    features = processes[1]
    windows = features.handler._computation._windows[0]  # type: ignore[attr-defined]  # the state in service
    for state in (each for each in windows._states.values() if isinstance(each, Panes)):
        for values in state._parts.values():
            np.add(values, 1, out=values)
    sent(on, ROWS, 50)
    rest(*processes)
    rest(*processes)
    assert counted(features.metrics, "skewed") > 0


def test_the_same_rows_and_entities_are_chosen_by_everybody_and_they_are_the_share() -> None:
    names = pa.array([f"customer-{n}" for n in range(100_000)])
    hashes = sampling.of_texts(names)
    assert np.array_equal(hashes[500:600], sampling.of_texts(names.slice(500, 100)))
    assert int(sampling.of_texts(pa.array(["headrace"]))[0]) == HASH
    for stretch in (0, 7):
        some = sampling.chosen(sampling.in_turn(hashes, np.full(len(hashes), stretch)), 0.01)
        assert 850 < some.sum() < 1_150
    rows = pa.RecordBatch.from_pydict(
        {"_source": pa.array([1] * 9_999, pa.int16()), "_position": range(9_999), "_row": [0] * 9_999}
    )
    assert 60 < sampling.chosen(sampling.of_rows(rows), 0.01).sum() < 140
    assert sampling.chosen(hashes, 1.0).all()


def test_entities_of_one_stretch_are_not_those_of_the_next() -> None:
    hashes = sampling.of_texts(pa.array([f"{n}" for n in range(50_000)]))
    turns = [sampling.chosen(sampling.in_turn(hashes, np.full(len(hashes), each)), 0.02) for each in range(200)]
    assert np.any(turns, axis=0).mean() > 0.95


@pytest.mark.parametrize("texts", [[], [""], ["", "a", ""], ["ä" * 300, "a"]])
def test_texts_of_any_length_have_a_hash(texts: Sequence[str]) -> None:
    hashes = sampling.of_texts(pa.array(texts, pa.string()))
    assert len(hashes) == len(texts)
    assert len(set(hashes.tolist())) == len(set(texts))


def test_what_depends_on_labels_that_had_arrived_is_left_out() -> None:
    form = {"mean": "label", "over": "24h"}
    fields = {name: getattr(SPEC, name) for name in Pipeline.model_fields}
    both = Pipeline.model_construct(**{**fields, "features": {**SPEC.features, "up": form}})
    assert "up" in both.feature_types
    assert of_records(both).features == SPEC.features
    assert of_records(both).feature_types == SPEC.feature_types
    assert of_records(both).longest_window == SPEC.longest_window
    named = parse(TEXT.replace("amount:", "label:").replace("amount", "label"))
    assert of_records(named).features == named.features


def test_with_a_share_of_none_nothing_is_computed_again() -> None:
    on = world()

    features = Shop(on, "features", spec=SPEC, share=0)
    sent(on)
    rest(Shop(on, "ingestion", spec=SPEC), features, Shop(on, "serving"))
    assert on.log(Place("scored", 0))
    assert counted(features.metrics, "audited", features="expressions") == 0


HASH = 5717594419457854232
