"""`headrace backtest`: recorded rows under another policy, beside the one that runs."""

import io
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from headrace.backtest import pages
from headrace.backtest.command import changes, compared
from headrace.backtest.judging import LEAST, Losses, Side, verdict
from headrace.backtest.rows import recorded, write
from headrace.demo.stream import readings
from headrace.drift.reading import Story
from headrace.errors import WrongUse
from headrace.files import Options, messages
from headrace.following import whole
from headrace.loop import memory_broker
from headrace.output import Output
from headrace.report import report
from headrace.simulate import assemble
from headrace.simulate import run as run_loop
from runtime.memory import MemoryLog, VirtualClock
from runtime.ports import LogReader, Place
from runtime.signing import keys_in_memory
from runtime.store import Store
from schemas import batch as b
from schemas.messages import DriftEpisode, moment
from schemas.pipeline import load, parse

PIPELINE = Path(__file__).parents[2] / "data" / "pumps.yaml"
SPEC = load(PIPELINE)
OPTIONS = Options.of(start="2026-01-01T00:00:00Z", every="1s", delay="300rows", prefix="reading-")
TEXT = PIPELINE.read_text()
OTHER = parse(TEXT.replace("settle: 1000", "settle: 500"))
START, MINUTE = 1_767_225_600_000, 60_000


@pytest.fixture(scope="module")
def log() -> LogReader:
    """The demo's readings, whose errors rise on the way."""
    ended = assemble(SPEC, Store("memory://", keys_in_memory()), 2)
    run_loop(ended, SPEC, messages(readings(6_000, 4_000, 7), SPEC, OPTIONS))
    return ended.log


def sides(log: LogReader, start: int = 0, stop: int | None = None) -> tuple[Side, Side]:
    return compared(log, SPEC, OTHER, start, stop, Output(machine=True))


@pytest.fixture(scope="module")
def both(log: LogReader) -> tuple[Side, Side]:
    """The whole run under both policies."""
    return sides(log)


def test_the_policy_that_runs_comes_out_as_it_ran(log: LogReader, both: tuple[Side, Side]) -> None:
    running, changed = both
    was = report(log)
    assert (running.members, running.episodes) == (len(was.members), len(was.episodes))
    assert (running.judged, running.metric.accuracy) == (was.judged, was.accuracy)
    assert running.metric.log_loss == was.log_loss
    assert running.trainings >= running.members > 1
    assert running.fit_seconds > 0
    assert running.kinds == {"concept": 1}
    assert (running.false_alarms, running.unknown) == (0, 0)
    assert changed.judged == running.judged
    assert changed.metric.accuracy != running.metric.accuracy


def test_a_stretch_in_the_middle_is_run_from_its_beginning_without_a_model(log: LogReader) -> None:
    running, changed = sides(log, START + 20 * MINUTE, START + 80 * MINUTE)
    assert running.members > 0
    assert 0 < running.judged == changed.judged < 60 * 60


def test_a_stretch_without_rows_is_refused_and_the_newest_row_is_named(log: LogReader) -> None:
    with pytest.raises(WrongUse, match="no rows of this stretch of event time: name another; the newest is 2026"):
        sides(log, START + 10_000 * MINUTE)


def test_rows_come_in_the_order_of_event_time_and_none_is_lost(log: LogReader) -> None:
    found = list(recorded(log, 0))
    assert [each.time for each in found] == sorted(each.time for each in found)
    for topic in ("features", "outcomes"):
        rows = sum(b.decode(message.value).num_rows for _, message in whole(log, topic))
        assert sum(each.rows for each in found if each.place.topic == topic) == rows == 6_000
    middle = START + 40 * MINUTE
    cut = list(recorded(log, middle, middle + 20 * MINUTE))
    assert all(middle <= each.time < middle + 20 * MINUTE for each in cut)


def test_a_batch_that_was_cut_into_pieces_is_replayed_from_its_first_one_on() -> None:
    broker = memory_broker(VirtualClock(), 1)
    log = MemoryLog(broker, "test")
    for at, piece in ((0, 0), (50, 1), (60, 0), (70, 1), (80, 0)):
        columns: dict[str, Any] = {name: [0] for name, _ in b.IDENTITY}
        columns |= {b.EVENT_ID: ["x"], b.ENTITY: [None], b.TRACEPARENT: [None], b.TIME: [at]}
        batch = pa.RecordBatch.from_pydict(columns, pa.schema(list(b.IDENTITY)))
        headers = b.encode_headers(b.Headers(piece=piece, pieces=2))
        broker.append(Place("features", 0), b.encode(batch), None, headers)
    assert [each.time for each in recorded(log, 50)] == [60, 70, 80]
    assert [each.time for each in recorded(log, 0, 65)] == [0, 50, 60, 70]


def test_what_is_written_first_does_not_look_like_the_beginning_of_a_log(log: LogReader) -> None:
    broker = memory_broker(VirtualClock(), 2)
    each = next(recorded(log, START + 40 * MINUTE))
    write(broker, each, first=True)
    (message,) = MemoryLog(broker, "test").read(each.place, 0, 10)
    assert message.offset == 1
    assert message.value == each.message.value


# --- what may change --------------------------------------------------------------------------


def test_a_policy_may_change_and_what_changed_is_told() -> None:
    assert changes(SPEC, OTHER) == ["drift.settle: 1000 → 500"]


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("temperature: temperature", "temperature: temperature + 1", "features.temperature"),
        ("horizon: 1h", "horizon: 2h", "labels.horizon"),
        ("flow:        {type: number, min: 0", "flow:        {type: number, min: 1", "events.fields.flow.min"),
    ],
)
def test_a_file_that_changes_what_rows_are_is_refused_with_the_mend(old: str, new: str, path: str) -> None:
    assert old in TEXT
    with pytest.raises(WrongUse, match=path) as refused:
        changes(SPEC, parse(TEXT.replace(old, new)))
    assert "Put these back" in str(refused.value)


def test_a_file_that_changes_nothing_is_refused() -> None:
    with pytest.raises(WrongUse, match="change something in model, drift, training, strategy"):
        changes(SPEC, SPEC)


# --- false alarms -----------------------------------------------------------------------------


def episode(kind: str = "covariate", family: str = "features", anchor: int = 1) -> Story:
    start = moment(START)
    return Story(DriftEpisode.written(
        id="e1", state="opened", family=family, kind=kind, anchor=anchor, detector="counts", statistic=5.0,
        threshold=4.5, detected_at=start + timedelta(minutes=1), estimated_start=start, rows=40, positions={},
        reason="x", epoch=1,
    ))  # fmt: skip


def judged(before: Sequence[float], after: Sequence[float], late: int = 0) -> Losses:
    rows = len(before) + len(after)
    times = START + np.arange(-len(before), len(after))
    return Losses(times - late, times, np.ones(rows, np.int64), np.array([*before, *after]))


def test_an_episode_is_a_false_alarm_where_the_error_of_its_anchor_did_not_rise() -> None:
    rng = np.random.default_rng(7)
    low, high = rng.uniform(0, 1, 500).tolist(), rng.uniform(0.3, 1.3, 500).tolist()
    assert verdict(episode(), judged(low, high), 1_000) == "rise"
    assert verdict(episode(), judged(low, low), 1_000) == "false"
    assert verdict(episode(), judged(high, low), 1_000) == "false"
    assert verdict(episode(), judged(low, high[: LEAST - 1]), 1_000) == "unknown"
    assert verdict(episode(anchor=2), judged(low, high), 1_000) == "unknown"
    assert verdict(episode("bad_data"), judged(low, high), 1_000) == "unknown"


def test_a_concept_episode_is_judged_by_the_time_of_the_labels_and_a_feature_one_by_that_of_the_events() -> None:
    low, high = [0.0, 1.0] * 250, [1.0, 2.0] * 250
    late = judged(low, high, late=500)
    assert verdict(episode("concept", "concept"), late, 500) == "rise"
    assert verdict(episode(), late, 500) == "unknown"


def test_both_policies_are_drawn_side_by_side(both: tuple[Side, Side]) -> None:
    console = Console(width=120, file=io.StringIO(), color_system=None)
    console.print(pages.changes(changes(SPEC, OTHER)), pages.table(*both))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for name in ("settle: 1000", "trainings", "seconds of fits", "false alarms", "delay of detection", "log loss"):
        assert name in text
    assert f"{both[0].metric.accuracy:.4f}" in text
    assert set(both[0].as_json()) >= {"trainings", "episodes", "false_alarms", "delay_rows", "fit_seconds", "metric"}
