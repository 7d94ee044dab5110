"""Restart is a fold: whoever dies whenever, each window feature has the bits of a run in which nobody died."""

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.memory import MemoryBroker
from runtime.metrics import Metrics
from runtime.ports import Handler, Place
from schemas import batch as b
from schemas.columns import together
from schemas.pipeline import parse
from services.features.domain.computing import Computation
from services.features.handler import Features
from services.ingestion.handler import Ingestion
from tests.unit.services.features.world import SOURCES, P, Process, broker, drain, messages

TEXT = """
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
features:
  double: amount * 2
  seen: {count: "*", over: 10s}
  mean: {mean: amount, over: 10s}
  apart: {std: amount / 3, over: 1m}
  top: {max: amount, over: 1m}
  before: {last: amount, over: 10s}
  gap: {since: "*", over: 1m}
  few: {sum: amount, over: 3 rows, within: 30s}
drift: {pane: 10s, lateness: 2s}
"""
SPEC = parse(TEXT)
NAMES = list(SPEC.features)
ROWS_ONLY = parse("""
pipeline: shop
task: binary
events: {id: order, time: at, entity: who, fields: {at: {type: timestamp}, who: {type: text}}}
labels: {id: order, time: known, field: back, type: boolean, horizon: 60s}
features: {seen: {count: "*", over: 10s}}
""")

DAY = 24 * 3_600_000

Row = tuple[int, int, int]
"""Source, position, row."""


class Shop(Process):
    def _handler(self) -> Handler:
        return Ingestion(SPEC, P, self.metrics) if self.group == "ingestion" else Features(SPEC, P, self.metrics)


@st.composite
def events(draw: st.DrawFn) -> list[tuple[Place, bytes]]:
    """Some come at once that are a day apart, and some are a day older than what came before."""
    now, out = 2 * DAY, []
    for n in range(draw(st.integers(5, 60))):
        now += draw(st.sampled_from([0, 100, 1_000, 5_000, 40_000, DAY]))
        late = draw(st.sampled_from([0, 0, 0, 500, 3_000, 70_000, DAY]))
        amount = draw(st.sampled_from([None, 0.1, 0.2, -3.7, 1e16, 12.5]))
        event = {"order": f"o{n}", "at": now - late, "who": draw(st.sampled_from("abcd")), "amount": amount}
        out.append((Place("events", draw(st.integers(0, SOURCES - 1))), json.dumps(event).encode()))
    return out


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(1, 4)),
        st.tuples(st.just("kill"), st.integers(0, 3)),
        st.tuples(st.just("another"), st.integers(1, 4)),
        st.tuples(st.just("zombie"), st.integers(0, 3)),
    ),
    max_size=25,
)


class Run:
    """Features that are killed amid their messages, doubled, and whose copies land late."""

    def __init__(self, on: MemoryBroker, size: int) -> None:
        self.on, self.size = on, size
        self.features = Shop(on, "features", size)
        self.other: Shop | None = None

    def play(self, steps: Sequence[tuple[str, int]]) -> None:
        for what, number in steps:
            getattr(self, what)(number)
        if self.other is not None:
            self.other.kill()
        self.step(1)
        drain(self.features)
        if not self.features.alive:  # it died on the way: the next one ends it
            self.step(1)
            drain(self.features)

    def step(self, number: int) -> None:
        if not self.features.alive:
            self.features = Shop(self.on, "features", self.size)
        for _ in range(number):
            self.features.step()

    def kill(self, number: int) -> None:
        self.features.fuse = number
        if not number:
            self.features.kill()

    def another(self, number: int) -> None:
        if self.other is None or not self.other.alive:
            self.other = Shop(self.on, "features", self.size)
        for _ in range(number):
            self.other.step()
        if number == 1:
            self.other.kill()

    def zombie(self, number: int) -> None:
        for partition in range(P):
            log = self.on.log(Place("features", partition))
            if len(log) > number and (message := log[-1 - number]) is not None:
                self.on.append(Place("features", partition), message.value or b"", None, message.headers)


def ingested(script: Sequence[tuple[Place, bytes]], size: int) -> MemoryBroker:
    on = broker()
    ingestion = Shop(on, "ingestion", size)
    for start in range(0, len(script), size):
        for place, value in script[start : start + size]:
            on.append(place, value)
        drain(ingestion)
    return on


def undisturbed(on: MemoryBroker) -> dict[Row, str]:
    """All rows of each partition in one call."""
    out: dict[Row, str] = {}
    for partition in range(P):
        parts = [b.decode(message.value) for each, message, _ in messages(on, "records") if each == partition]
        if parts:
            computation, rows = Computation(SPEC), together(parts)
            computation.begin(partition)
            out |= bits(computation.compute(rows, [(partition, rows.num_rows)]))
    return out


def bits(rows: pa.RecordBatch) -> dict[Row, str]:
    return {
        (row[b.SOURCE], row[b.POSITION], row[b.ROW]): repr([row[name] and float(row[name]).hex() for name in NAMES])
        for row in rows.to_pylist()
    }


def written(on: MemoryBroker) -> Iterator[tuple[Row, str]]:
    for _, message, _ in messages(on, "features"):
        yield from bits(b.decode(message.value)).items()


@settings(max_examples=30, deadline=None)
@given(events(), STEPS, st.integers(1, 20), st.sampled_from([1_500, b.MAX_BYTES]))
def test_every_row_has_the_bits_of_an_undisturbed_run(
    script: list[tuple[Place, bytes]], steps: list[tuple[str, int]], size: int, most: int
) -> None:
    on = ingested(script, size)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(b, "MAX_BYTES", most)  # batches are cut into pieces, and death comes between two of them
        run = Run(on, size)
        run.play(steps)
    expected = undisturbed(on)
    assert len(expected) == len(script)
    found = list(written(on))
    assert {row for row, _ in found} == set(expected)
    assert all(expected[row] == told for row, told in found)


def test_a_restart_reads_no_further_back_than_windows_reach() -> None:
    script = [
        (Place("events", 0), json.dumps({"order": f"o{n}", "at": n * 1_000, "who": "a", "amount": n}).encode())
        for n in range(1_000)
    ]
    on = ingested(script, 1)
    drain(Shop(on, "features", 1))
    read: list[int] = []
    again = Shop(on, "features", 1)
    log = again.carrier.log
    plain = log.read

    def counted(place: Place, start: int, stop: int) -> Iterator[object]:
        for message in plain(place, start, stop):
            read.extend([1] if place.topic == "records" else [])
            yield message

    log.read = counted  # type: ignore[method-assign,assignment]  # the log of this process alone
    again.step()
    assert 60 < len(read) < 150


def test_rows_without_a_place_are_counted() -> None:
    few = SPEC.model_copy(update={"windows": SPEC.windows.model_copy(update={"entities": 1})})
    on, metrics = broker(), Metrics()
    script = [(Place("events", 0), json.dumps({"order": f"o{n}", "at": 1, "who": f"w{n}"}).encode()) for n in range(9)]
    on = ingested(script, 9)

    class Narrow(Process):
        def _handler(self) -> Handler:
            return Features(few, P, metrics)

    drain(Narrow(on, "features"))
    assert metrics.registry.get_sample_value("headrace_windowless_rows_total") == 9 - P


def test_windows_over_rows_alone_need_no_column_of_the_event() -> None:
    script = [(Place("events", 0), json.dumps({"order": f"o{n}", "at": n, "who": "a"}).encode()) for n in range(9)]
    parts = [b.decode(message.value) for _, message, _ in messages(ingested(script, 9), "records")]
    computation, rows = Computation(ROWS_ONLY), together(parts)
    computation.begin(0)
    assert computation.compute(rows, [(0, 9)]).column("seen").to_pylist() == [float(n) for n in range(9)]
