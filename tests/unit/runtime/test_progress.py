"""When a partition counts as stuck: its position stands still for a minute while the log goes on before it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.memory import MemoryBroker, MemoryCarrier, VirtualClock
from runtime.metrics import Metrics
from runtime.ports import Place
from runtime.progress import LOOK_SECONDS, STUCK_SECONDS, Progress
from runtime.service import Context, Process
from runtime.settings import ServiceSettings
from runtime.worker import Worker
from schemas.pipeline import load, template
from tests.unit.runtime.test_worker import Echo

FIRST, SECOND = Place("records", 0), Place("records", 1)


class Reader(MemoryCarrier):
    """A carrier whose positions and ends a test writes down; it notes what it is asked about."""

    def __init__(self) -> None:
        super().__init__(MemoryBroker({"records": 2, "a": 1, "out": 1}), "g")
        self.read: dict[Place, int] = {}
        self.log_ends: dict[Place, int] = {}
        self.asked: list[list[Place]] = []

    def positions(self) -> Mapping[Place, int]:
        return dict(self.read)

    def ends(self, places: Sequence[Place]) -> Mapping[Place, int]:
        self.asked.append(sorted(places))
        return {place: self.log_ends[place] for place in places if place in self.log_ends}


class Rig:
    """A look every five seconds of virtual time."""

    def __init__(self) -> None:
        self.carrier, self.clock, self.metrics = Reader(), VirtualClock(), Metrics()
        self.progress = Progress(self.carrier, self.clock, self.metrics)

    def wait(self, seconds: float) -> list[str]:
        for _ in range(int(seconds / LOOK_SECONDS)):
            self.clock.advance(LOOK_SECONDS)
            self.progress.look()
        return self.progress.stuck

    def lag(self, place: Place) -> float | None:
        labels = {"topic": place.topic, "partition": str(place.partition)}
        return self.metrics.registry.get_sample_value("headrace_stuck_messages", labels)


def test_a_partition_that_stands_still_for_a_minute_with_messages_before_it_is_stuck() -> None:
    rig = Rig()
    rig.carrier.read, rig.carrier.log_ends = {FIRST: 17, SECOND: 5}, {FIRST: 40, SECOND: 5}
    assert rig.wait(STUCK_SECONDS) == []
    assert rig.wait(LOOK_SECONDS) == ["records/0 stands at 17, the log ends at 40"]
    assert (rig.lag(FIRST), rig.lag(SECOND)) == (23, None)


def test_one_message_in_a_minute_is_progress() -> None:
    rig = Rig()
    rig.carrier.log_ends = {FIRST: 1_000}
    for position in range(10):
        rig.carrier.read = {FIRST: position}
        assert rig.wait(STUCK_SECONDS) == []


def test_a_message_that_ends_a_long_silence_has_its_minute_from_then_on() -> None:
    rig = Rig()
    rig.carrier.read, rig.carrier.log_ends = {FIRST: 3}, {FIRST: 3}
    assert rig.wait(3_600) == []
    rig.carrier.log_ends = {FIRST: 4}
    assert rig.wait(STUCK_SECONDS - LOOK_SECONDS) == []
    assert rig.wait(2 * LOOK_SECONDS) != []


def test_the_time_of_a_long_restore_does_not_count() -> None:
    rig = Rig()
    rig.carrier.read, rig.carrier.log_ends = {FIRST: 17}, {FIRST: 40}
    rig.wait(2 * LOOK_SECONDS)
    rig.clock.advance(10 * STUCK_SECONDS)
    assert rig.wait(LOOK_SECONDS) == []
    assert rig.wait(STUCK_SECONDS) != []


def test_a_partition_whose_start_is_not_found_is_stuck_and_one_whose_end_is_unknown_is_not() -> None:
    rig = Rig()
    rig.carrier.read, rig.carrier.log_ends = {FIRST: -1, SECOND: 5}, {FIRST: 0}
    assert rig.wait(2 * STUCK_SECONDS) == ["records/0 stands at -1, the log ends at 0"]


def test_a_stuck_partition_that_moves_or_goes_is_forgotten() -> None:
    rig = Rig()
    rig.carrier.read, rig.carrier.log_ends = {FIRST: 0, SECOND: 0}, {FIRST: 9, SECOND: 9}
    assert len(rig.wait(2 * STUCK_SECONDS)) == 2
    rig.carrier.read = {FIRST: 1}
    assert rig.wait(LOOK_SECONDS) == []
    assert (rig.lag(FIRST), rig.lag(SECOND)) == (None, None)


def test_it_is_told_once_and_again_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headrace.worker")
    rig = Rig()
    rig.carrier.read, rig.carrier.log_ends = {FIRST: 7}, {FIRST: 9}
    rig.wait(10 * STUCK_SECONDS)
    rig.carrier.read = {FIRST: 8}
    rig.wait(LOOK_SECONDS)
    assert [record.message for record in caplog.records] == ["partition_stuck", "partition_moves"]
    assert vars(caplog.records[0])["place"] == FIRST
    assert (vars(caplog.records[0])["position"], vars(caplog.records[0])["end"]) == (7, 9)


def test_only_what_stands_still_is_asked_about_and_once_in_five_seconds() -> None:
    rig = Rig()
    for step in range(1_000):
        rig.carrier.read = {FIRST: step, SECOND: 0}
        rig.clock.advance(LOOK_SECONDS / 100)
        rig.progress.look()
    assert rig.carrier.asked[1:] == [[SECOND]] * (len(rig.carrier.asked) - 1)
    assert 9 <= len(rig.carrier.asked) <= 10


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=60))
def test_stuck_is_what_had_lag_at_every_look_of_a_minute_without_moving(moves: list[tuple[int, int]]) -> None:
    rig = Rig()
    position = end = 0
    rig.carrier.read, rig.carrier.log_ends = {FIRST: 0}, {FIRST: 0}
    rig.wait(LOOK_SECONDS)
    looks_behind = 0
    for written, taken in moves:
        end += written
        moved = min(taken, end - position)
        position += moved
        rig.carrier.read, rig.carrier.log_ends = {FIRST: position}, {FIRST: end}
        looks_behind = 0 if moved or position == end else looks_behind + 1
        assert bool(rig.wait(LOOK_SECONDS)) == (looks_behind >= STUCK_SECONDS / LOOK_SECONDS)


def test_the_page_says_which_partition_keeps_which_worker_from_being_ready(tmp_path: Path) -> None:
    carrier, clock = Reader(), VirtualClock()
    file = tmp_path / "pipeline.yaml"
    file.write_text(template("stuck"))
    workers = [Worker(Echo(), carrier, clock=clock), Worker(Echo(), Reader(), clock=clock)]
    process = Process(Context("idle", ServiceSettings(), load(file)), workers)
    carrier.read, carrier.log_ends = {FIRST: 17}, {FIRST: 40}
    for worker in workers:
        worker.start()
    for _ in range(int(STUCK_SECONDS / LOOK_SECONDS) + 1):
        clock.advance(LOOK_SECONDS)
        for worker in workers:
            worker.step()
    assert json.loads(json.dumps(process._ready())) == {
        "worker-0": False,
        "worker-1": True,
        "worker-0: records/0 stands at 17, the log ends at 40": False,
    }
