"""The tail of the output is where a restart begins: the message that covers most, wherever it lies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtime.errors import HoleFound, WrongSetup
from runtime.memory import Group, MemoryBroker, MemoryLog
from runtime.ports import Message, Place
from runtime.tail import WINDOW, restore, windows
from schemas import batch as b

OUTPUT = Place("features", 1)
INPUTS = ("records",)


class World:
    """An output to write, and a log that may have forgotten its beginning."""

    def __init__(self, *, begin: int = 0) -> None:
        self.broker = MemoryBroker({"records": 2, "outcomes": 2, "features": 2})
        self.log = Forgetting(self.broker, begin)
        for topic in ("records", "outcomes"):
            for _ in range(500):
                self.broker.append(Place(topic, 1), b"")

    def output(self, last: int, *, first: int = 0, top: int | None = None, piece: int = 0, pieces: int = 1) -> None:
        tops = {b.EVENTS: {0: last if top is None else top}}
        headers = b.Headers(
            coverage={"records": (first, last)}, piece=piece, pieces=pieces, through=b.Through(tops=tops)
        )
        self.broker.append(OUTPUT, b"", None, b.encode_headers(headers))

    def commit(self, **offsets: int) -> None:
        committed = {Place(topic, 1): offset for topic, offset in offsets.items()}
        self.broker.groups.setdefault("g", Group()).committed.update(committed)

    def mark(self) -> int:
        return restore(self.log, OUTPUT, INPUTS)[0].marks["records"]


class Forgetting(MemoryLog):
    """A log whose retention deleted everything below an offset."""

    def __init__(self, broker: MemoryBroker, begin: int) -> None:
        super().__init__(broker, "g")
        self._begin = begin
        self.reads: list[tuple[int, int]] = []

    def begin(self, place: Place) -> int:  # noqa: ARG002 - the port's signature
        return self._begin

    def read(self, place: Place, start: int, stop: int) -> Iterator[Message]:
        self.reads.append((start, stop))
        return super().read(place, max(start, self._begin), stop)


def test_an_output_that_was_never_written_begins_at_minus_one() -> None:
    fold, message = restore(World().log, OUTPUT, INPUTS)
    assert (fold.marks, message) == ({"records": -1}, None)


def test_the_newest_message_is_restored_with_its_map() -> None:
    world = World()
    for last in range(5):
        world.output(last, first=last)
    fold, message = restore(world.log, OUTPUT, INPUTS)
    assert fold.marks == {"records": 4}
    assert fold.tops == {b.EVENTS: {0: 4}}
    assert message is not None
    assert message.offset == 4


def test_what_else_a_zombie_has_seen_more_of_does_not_hide_what_covers_the_commit() -> None:
    world = World()
    for records, outcomes in ((98, 45), (95, 60)):
        headers = b.Headers(coverage={"records": (90, records), "outcomes": (40, outcomes)}, through=b.Through())
        world.broker.append(OUTPUT, b"", None, b.encode_headers(headers))
    world.commit(records=99)
    assert world.mark() == 98


def test_only_the_newest_window_is_read_when_it_reaches_the_commit() -> None:
    world = World()
    for last in range(500):
        world.output(last, first=last)
    world.commit(records=480)
    assert world.mark() == 499
    assert world.log.reads == [(500 - WINDOW, 500)]


@pytest.mark.parametrize("late", [1, WINDOW, 20 * WINDOW])
def test_late_writes_of_a_zombie_hide_nothing_that_was_committed(late: int) -> None:
    world = World()
    for last in range(10):
        world.output(last, first=last)
    for _ in range(late):
        world.output(2, first=2)
    world.commit(records=9)
    assert world.mark() == 9


def test_offsets_without_a_message_are_passed_over() -> None:
    world = World()
    world.output(3)
    for _ in range(3 * WINDOW):
        world.broker.skip(OUTPUT)
    assert world.mark() == 3


def test_messages_without_coverage_are_passed_over() -> None:
    world = World()
    world.output(3)
    world.broker.append(OUTPUT, b"", None, [("trace", b"x")])
    assert world.mark() == 3


def test_a_piece_that_is_not_the_last_one_leaves_the_mark_before_its_input() -> None:
    world = World()
    world.output(4)
    world.output(9, first=5, top=7, piece=1, pieces=3)
    fold, _ = restore(world.log, OUTPUT, INPUTS)
    assert fold.marks == {"records": 4}
    assert fold.tops == {b.EVENTS: {0: 7}}


def test_a_late_piece_of_a_zombie_does_not_hide_that_its_input_was_finished() -> None:
    world = World()
    world.output(9, first=0, top=3, piece=0, pieces=4)
    world.output(9, first=0, top=9)  # the next owner wrote the rest in one message
    world.output(9, first=0, top=6, piece=1, pieces=4)
    world.commit(records=10)
    assert world.mark() == 9


def test_of_pieces_cut_by_two_writers_the_one_that_holds_more_counts() -> None:
    world = World()
    world.output(9, first=0, top=6, piece=2, pieces=4)
    world.output(9, first=0, top=8, piece=0, pieces=2)
    fold, _ = restore(world.log, OUTPUT, INPUTS)
    assert fold.tops == {b.EVENTS: {0: 8}}


def test_a_commit_above_what_the_output_covers_is_a_hole_and_says_the_way_out() -> None:
    world = World()
    world.output(4)
    world.commit(records=6)
    with pytest.raises(HoleFound, match=r"records/1 is committed up to offset 5.*features/1 covers.*up to 4.*new name"):
        world.mark()


def test_a_commit_without_any_output_is_a_hole() -> None:
    world = World()
    world.commit(records=6)
    with pytest.raises(HoleFound, match="up to -1"):
        world.mark()


def test_where_retention_deleted_the_whole_output_the_commit_is_the_mark() -> None:
    world = World(begin=5)
    for _ in range(5):
        world.output(9)
    world.commit(records=10)
    assert world.mark() == 9


def test_every_input_has_its_own_mark() -> None:
    world = World()
    headers = b.Headers(coverage={"records": (0, 7), "outcomes": (0, 3)})
    world.broker.append(OUTPUT, b"", None, b.encode_headers(headers))
    world.commit(records=8, outcomes=4)
    fold, _ = restore(world.log, OUTPUT, ("records", "outcomes"))
    assert fold.marks == {"records": 7, "outcomes": 3}
    world.commit(outcomes=5)
    with pytest.raises(HoleFound, match="outcomes/1 is committed up to offset 4"):
        restore(world.log, OUTPUT, ("records", "outcomes"))


def test_an_input_that_ends_before_its_mark_is_another_log_and_the_way_out_is_said() -> None:
    world = World()
    world.output(500)
    with pytest.raises(WrongSetup, match=r"records/1 ends at offset 500.*covers it up to 500.*made again.*new name"):
        world.mark()


@pytest.mark.parametrize("headers", [[("coverage", b"{")], [("through", b"[]")], []])
def test_a_foreign_message_is_passed_over(headers: list[tuple[str, bytes]]) -> None:
    world = World()
    world.output(3)
    world.broker.append(OUTPUT, b"", None, headers)
    assert world.mark() == 3


@pytest.mark.parametrize(("count", "stop"), [(0, None), (5, None), (WINDOW, None), (300, None), (300, 100)])
def test_windows_hold_each_message_once_the_newest_window_first(count: int, stop: int | None) -> None:
    world = World()
    for last in range(count):
        world.output(last)
    found = [[message.offset for message in window] for window in windows(world.log, OUTPUT, stop)]
    assert [offset for window in reversed(found) for offset in window] == list(range(count if stop is None else stop))
    assert all(len(window) <= WINDOW * 4**index for index, window in enumerate(found))
