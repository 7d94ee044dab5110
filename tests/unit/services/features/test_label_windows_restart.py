"""Each row's label windows are of the labels that its message says were known, whoever wrote it after what crash."""

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.again import compare, compute, copy
from runtime.fold import Fold
from runtime.memory import MemoryBroker, MemoryLog
from runtime.ports import Handler, Message, Place
from schemas import batch as b
from schemas.checks import windowed
from schemas.columns import together
from schemas.pipeline import parse
from services.features.domain.labelled import times
from services.features.domain.windows_labels import Labels, LabelWindows
from services.features.handler import Features
from services.ingestion.handler import Ingestion
from tests.unit.services.features.world import SOURCES, P, Process, broker, drain, messages, rest

SPEC = parse("""
pipeline: shop
task: binary
events:
  id: order
  time: at
  entity: who
  fields:
    at: {type: timestamp}
    who: {type: text}
    amount: {type: number}
labels: {id: order, time: known, field: back, type: boolean, horizon: 60s}
features:
  amount: amount
  rate: {mean: label, over: 10s}
  known: {count: label, over: 1m}
  apart: {std: label, over: 1m}
  newest: {last: label, over: 10s}
  gap: {since: label, over: 1m}
  few: {sum: amount, over: 3 rows, within: 30s}
drift: {pane: 10s, lateness: 2s}
""")
WINDOWS = {name: window for name, window in windowed(SPEC).items() if window.labels}

Item = tuple[Place, bytes]
Row = tuple[int, int, int]
"""Source, position, row."""


class Shop(Process):
    def _handler(self) -> Handler:
        return Ingestion(SPEC, P, self.metrics) if self.group == "ingestion" else Features(SPEC, P, self.metrics)


@st.composite
def scripts(draw: st.DrawFn) -> list[Item]:
    """Events, each with a label at once or much later."""
    now, timed = 1_000_000, []
    for n in range(draw(st.integers(5, 40))):
        now += draw(st.sampled_from([0, 100, 1_000, 5_000, 40_000]))
        at = now - draw(st.sampled_from([0, 0, 0, 500, 3_000, 70_000]))
        known = max(at, now + draw(st.sampled_from([-400, 0, 300, 2_000, 30_000])))
        who = draw(st.sampled_from("abcd"))
        event = {"order": f"o{n}", "at": at, "who": who, "amount": n}
        label = {"order": f"o{n}", "known": known, "who": who, "back": draw(st.booleans())}
        timed.append((now, Place("events", draw(st.integers(0, SOURCES - 1))), json.dumps(event).encode()))
        arrives = known + draw(st.sampled_from([0, 0, -20_000, 20_000]))
        timed.append((arrives, Place("labels", 0), json.dumps(label).encode()))
    return [(place, value) for _, place, value in sorted(timed)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(1, 15)),
        st.tuples(st.just("step"), st.integers(1, 3)),
        st.tuples(st.just("kill"), st.integers(0, 3)),
        st.tuples(st.just("another"), st.integers(1, 3)),
        st.tuples(st.just("zombie"), st.integers(0, 3)),
    ),
    max_size=25,
)


class Run:
    """Features beside an ingestion that goes on, killed amid their messages, doubled, with copies that land late."""

    def __init__(self, script: Sequence[Item], size: int) -> None:
        self.on, self.size, self.left = broker(), size, list(script)
        self.ingestion = Shop(self.on, "ingestion", size)
        self.features = Shop(self.on, "features", size)
        self.other: Shop | None = None

    def play(self, steps: Sequence[tuple[str, int]]) -> None:
        for what, number in steps:
            getattr(self, what)(number)
        if self.other is not None:
            self.other.kill()
        self.feed(len(self.left))
        for _ in range(2):  # the first one may die on the way
            self.step(1)
            drain(self.features)

    def feed(self, number: int) -> None:
        now, self.left = self.left[:number], self.left[number:]
        for place, value in now:
            self.on.append(place, value)
        drain(self.ingestion)

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


def fresh(on: MemoryBroker, place: Place) -> list[pa.RecordBatch]:
    """The batches of a partition, copies of rows dropped."""
    fold, out = Fold((place.topic,)), []
    for message in on.log(place):
        assert message is not None
        out.append(
            fold.take(place.topic, message.offset, b.decode(message.value), b.decode_headers(message.headers))[0]
        )
    return out


def knowing(outcomes: Sequence[pa.RecordBatch], records: Sequence[pa.RecordBatch]) -> dict[Row, str]:
    """Label windows of the rows when exactly these labels are known."""
    windows = LabelWindows(WINDOWS, SPEC.drift.lateness, 100)
    if outcomes:
        labels = together(outcomes)
        values = np.array(labels.column(b.LABEL).to_pylist(), np.float64)
        windows.arrive(Labels(labels.column(b.ENTITY), times(labels), values))
    rows = together(records)
    found = windows.ask(rows.column(b.ENTITY), times(rows))
    own = {name: rows.column(name) for name in (b.SOURCE, b.POSITION, b.ROW)}
    return bits(pa.RecordBatch.from_pydict({**own, **{k: pa.array(v, from_pandas=True) for k, v in found.items()}}))


def bits(rows: pa.RecordBatch) -> dict[Row, str]:
    return {
        (row[b.SOURCE], row[b.POSITION], row[b.ROW]): repr(
            [None if row[name] is None else float(row[name]).hex() for name in WINDOWS]
        )
        for row in rows.to_pylist()
    }


def written(on: MemoryBroker) -> Iterator[tuple[int, int, dict[Row, str]]]:
    """Partition, the last label known, and the rows of each message."""
    for partition, message, headers in messages(on, "features"):
        yield partition, headers.coverage["outcomes"][1], bits(b.decode(message.value))


@settings(max_examples=30, deadline=None)
@given(scripts(), STEPS, st.integers(1, 20), st.sampled_from([1_500, b.MAX_BYTES]))
def test_every_row_has_the_bits_of_the_labels_that_its_message_covers(
    script: list[Item], steps: list[tuple[str, int]], size: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(b, "MAX_BYTES", most)  # batches are cut into pieces, and death comes between two of them
        run = Run(script, size)
        run.play(steps)
    found = proved(run.on)
    assert found == sum(place.topic == "events" for place, _ in script)


def proved(on: MemoryBroker) -> int:
    """Number of rows: each has the bits of what its message covers, no reader finds a hole, and the log reads again."""
    found: set[Row] = set()
    for partition in range(P):
        outcomes, records = (fresh(on, Place(topic, partition)) for topic in ("outcomes", "records"))
        told = [(last, rows) for lane, last, rows in written(on) if lane == partition]
        known = {last: knowing(outcomes[: last + 1], records) for last in {last for last, _ in told}}
        assert [{row: known[last][row] for row in rows} for last, rows in told] == [rows for _, rows in told]
        found |= {row for _, rows in told for row in rows}
    again, log = broker(), MemoryLog(on, "again")
    for topic in ("records", "outcomes"):
        copy(log, again, topic)
    compute(SPEC, again, MemoryLog(again, "again"), log)
    finding = compare("features", keyed(on), keyed(again))
    assert (finding.recorded, finding.different) == (len(found), 0), finding
    return len(found)


def keyed(on: MemoryBroker) -> dict[str, object]:
    out: dict[str, object] = {}
    for partition in range(P):
        for rows in fresh(on, Place("features", partition)):
            out |= {str([row[name] for name in (b.SOURCE, b.POSITION, b.ROW)]): row for row in rows.to_pylist()}
    return out


def script_of(count: int) -> list[Item]:
    """An event each second; its label is known and comes half a second later."""
    out = []
    for n in range(count):
        event = {"order": f"o{n}", "at": n * 1_000, "who": "a", "amount": n}
        label = {"order": f"o{n}", "known": n * 1_000 + 500, "who": "a", "back": n % 3 == 0}
        out += [(Place("events", 0), json.dumps(event).encode()), (Place("labels", 0), json.dumps(label).encode())]
    return out


def test_a_restart_reads_no_further_back_than_label_windows_reach() -> None:
    run = Run(script_of(500), 1)
    run.play([])
    log = MemoryLog(run.on, "features")
    plain, read = log.read, [0] * P

    def counted(place: Place, start: int, stop: int) -> Iterator[Message]:
        for message in plain(place, start, stop):
            read[place.partition] += place.topic == "outcomes"
            yield message

    log.read = counted  # type: ignore[method-assign]  # the log of this test alone
    for partition in range(P):
        Features(SPEC, P, run.features.metrics).restore(Place("records", partition), log)
    assert 64 < max(read) < 100


def test_a_restart_in_a_long_stream_changes_no_bit() -> None:
    run = Run(script_of(170), 1)
    run.feed(310)
    drain(run.features)
    run.features.kill()
    run.play([])
    assert proved(run.on) == 170


def test_rows_left_by_a_crash_amid_pieces_know_what_the_first_piece_knew() -> None:
    rows = [{"order": f"o{n}", "at": 60_000, "who": "a", "amount": n} for n in range(40)]
    tardy = [{"order": f"x{n}", "known": 50_000, "who": "a", "back": True} for n in range(5)]
    run = Run([(Place("events", 0), json.dumps(each).encode()) for each in rows], 40)
    run.left += [(Place("labels", 0), json.dumps(each).encode()) for each in tardy]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(b, "MAX_BYTES", 1_500)
        run.feed(40)
        run.features.fuse = 2
        run.features.step()
        assert not run.features.alive
        run.play([])
    assert proved(run.on) == 40
    told = {row["known"] for _, m, _ in messages(run.on, "features") for row in b.decode(m.value).to_pylist()}
    assert told == {0}
    after = {"order": "after", "at": 60_000, "who": "a", "amount": 0}
    run.left = [(Place("events", 0), json.dumps(after).encode())]
    run.play([])
    assert proved(run.on) == 41
    assert max(row["known"] for _, m, _ in messages(run.on, "features") for row in b.decode(m.value).to_pylist()) == 5


def test_labels_that_came_behind_the_last_row_are_known_to_the_next_one_after_a_restart() -> None:
    """No row covered them: features says nothing of them, the group has committed them."""
    script = script_of(3)
    run = Run([script[0], script[1]], 1)
    run.play([])
    run.left = [script[3]]
    run.feed(1)
    rest(run.features)
    run.features.kill()
    late = {"order": "late", "at": 30_000, "who": "a", "amount": 1}
    run.left = [(Place("events", 0), json.dumps(late).encode())]
    run.play([])
    rows = [row for _, message, _ in messages(run.on, "features") for row in b.decode(message.value).to_pylist()]
    assert [(row[b.EVENT_ID], row["known"]) for row in rows] == [("o0", 0), ("late", 2)]


def test_features_tell_nobody_that_time_has_passed_labels() -> None:
    """The join reads scored and outcomes: it must not give up rows whose labels only features has read."""
    run = Run(script_of(20), 5)
    run.play([])
    through = [headers.through for _, _, headers in messages(run.on, "features")]
    assert through
    assert all(each is not None and b.LABELS in each.tops and set(each.watermarks) == {b.EVENTS} for each in through)
