"""Counts of several partitions become one order, each pane once."""

import pyarrow as pa
import pytest

from schemas import batch as b
from services.drift.domain.merging import Key, Lane, Merge, Rows
from services.drift.domain.panes import losses
from tests.unit.services.drift.stream import PANE, Row, examples

Counted = tuple[pa.RecordBatch, b.Headers, tuple[int, int]]


def counts(panes: tuple[int, int], *rows: Row, through: int = 0, piece: int = 0, pieces: int = 1) -> Counted:
    headers = b.Headers(panes=panes, coverage={"examples": (0, through)}, piece=piece, pieces=pieces)
    return losses(examples(rows)), headers, panes


def positions(rows: Rows) -> list[int]:
    return [int(position) for position in rows.keys[2]]


def test_rows_come_in_order_of_time_source_position_and_newest_member_first() -> None:
    batch, *_ = counts((0, 0), Row(5, 10, ((1, 0.9), (2, 0.1))), Row(4, 10, source=1), Row(9, 3))
    rows = Rows.merged([batch])
    assert positions(rows) == [9, 5, 5, 4]
    assert rows.member.tolist() == [1, 2, 1, 1]
    assert positions(rows.behind(Key(10, 0, 5, 0))) == [4]


def test_panes_are_settled_by_the_slowest_partition() -> None:
    merge = Merge(2, PANE)
    merge.lanes[0].add(0, *counts((0, 2), Row(1, 100), Row(2, 2_100)))
    assert len(merge.settle()) == 0
    merge.lanes[1].add(0, *counts((0, 0), Row(3, 50)))
    assert positions(merge.settle()) == [3, 1]
    merge.prune()
    assert len(merge.settle()) == 0
    merge.lanes[1].add(1, *counts((1, 5), Row(4, 1_000), through=8))
    assert positions(merge.settle()) == [4, 2]
    assert merge.through(2) == {"examples/0": 0, "examples/1": 8}
    assert merge.positions(1) == {0: 0, 1: 1}
    merge.prune()
    assert merge.positions(3) == {0: 1, 1: 1}


def test_a_partition_that_said_nothing_yet_holds_all_back() -> None:
    merge = Merge(2, PANE)
    merge.lanes[0].add(0, *counts((0, 9), Row(1, 100)))
    assert len(merge.settle()) == 0
    assert merge.positions(0) == {0: 0}


def test_a_zombies_repeat_is_let_through_once() -> None:
    lane = Lane(PANE)
    lane.add(0, *counts((0, 1), Row(1, 100)))
    lane.add(1, *counts((0, 1), Row(1, 100)))
    lane.add(2, *counts((1, 2), Row(2, 1_500), Row(3, 2_000)))
    assert [row["_position"] for batch in lane.take(2) for row in batch.to_pylist()] == [1, 3]


@pytest.mark.parametrize("order", [(0, 0, 1), (0, 1, 0), (1, 0, 1)])
def test_panes_close_when_all_pieces_are_there_however_often(order: tuple[int, ...]) -> None:
    lane = Lane(PANE)
    for offset, piece in enumerate(order):
        lane.add(offset, *counts((0, 0), Row(piece, 100), piece=piece, pieces=2))
        assert (lane.closed == 0) is ({0, 1} <= set(order[: offset + 1]))
    assert sorted(row["_position"] for batch in lane.take(0) for row in batch.to_pylist()) == [0, 1]


def test_a_lane_goes_on_from_its_first_unfinished_piece() -> None:
    lane = Lane(PANE)
    assert lane.position(0) is None
    lane.add(4, *counts((0, 0), Row(1, 100)))
    lane.add(5, *counts((1, 1), Row(2, 1_100), piece=0, pieces=2))
    lane.prune(0)
    assert lane.position(1) == 5


def test_a_missing_pane_shows() -> None:
    lane = Lane(PANE)
    assert lane.follows(7)
    lane.add(0, *counts((7, 8)))
    assert lane.follows(9)
    assert not lane.follows(10)
