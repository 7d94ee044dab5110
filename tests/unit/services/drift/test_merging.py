"""Counts of several partitions become one order, each pane once."""

import numpy as np
import pyarrow as pa
import pytest

from schemas import batch as b
from schemas.bins import LABEL, LOSS
from schemas.bins_learning import learn
from schemas.task import Target
from services.drift.domain.lanes import Lane
from services.drift.domain.merging import Key, Merge, Rows
from services.drift.domain.panes import judged
from services.drift.domain.sums import Sums, by_panes
from services.drift.domain.tallies import TALLIED
from tests.unit.services.drift.stream import PANE, Row, examples

Counted = tuple[pa.RecordBatch, b.Headers, tuple[int, int]]


def counts(panes: tuple[int, int], *rows: Row, through: int = 0, piece: int = 0, pieces: int = 1) -> Counted:
    headers = b.Headers(panes=panes, coverage={"examples": (0, through)}, piece=piece, pieces=pieces)
    return judged(examples(rows)), headers, panes


def lane_of_examples() -> Lane:
    return Merge(1, PANE).lanes[0]


def positions(rows: Rows) -> list[int]:
    return [int(position) for position in rows.keys[2]]


def test_rows_come_in_order_of_time_source_and_position() -> None:
    batch, *_ = counts((0, 0), Row(5, 10, ((1, 0.9), (2, 0.1))), Row(4, 10, source=1), Row(9, 3))
    rows = Rows.merged([batch])
    assert positions(rows) == [9, 5, 4]
    assert rows.member.tolist() == [1, 1, 1]
    assert positions(rows.behind(Key(10, 0, 5, 0))) == [4]


@pytest.mark.parametrize(
    ("output", "label", "loss"), [(0.5, 1, 0.0), (0.5, 0, 1.0), (0.49, 1, 1.0), (0.49, 0, 0.0), (1.0, 1, 0.0)]
)
def test_a_loss_is_one_where_the_likelier_class_was_wrong(output: float, label: int, loss: float) -> None:
    batch, *_ = counts((0, 0), Row(4, 0, ((3, output),), label))
    rows = Rows.merged([batch])
    assert rows.errors(None).tolist() == [loss]
    given = output if label else 1 - output
    assert rows.columns == {"_label": [label], "_loss": [-np.log(given)]}


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
    lane = lane_of_examples()
    lane.add(0, *counts((0, 1), Row(1, 100)))
    lane.add(1, *counts((0, 1), Row(1, 100)))
    lane.add(2, *counts((1, 2), Row(2, 1_500), Row(3, 2_000)))
    assert [row["_position"] for batch in lane.take(2) for row in batch.to_pylist()] == [1, 3]


@pytest.mark.parametrize("order", [(0, 0, 1), (0, 1, 0), (1, 0, 1)])
def test_panes_close_when_all_pieces_are_there_however_often(order: tuple[int, ...]) -> None:
    lane = lane_of_examples()
    for offset, piece in enumerate(order):
        lane.add(offset, *counts((0, 0), Row(piece, 100), piece=piece, pieces=2))
        assert (lane.closed == 0) is ({0, 1} <= set(order[: offset + 1]))
    assert sorted(row["_position"] for batch in lane.take(0) for row in batch.to_pylist()) == [0, 1]


def test_a_lane_goes_on_from_its_first_unfinished_piece() -> None:
    lane = lane_of_examples()
    assert lane.position(0) is None
    lane.add(4, *counts((0, 0), Row(1, 100)))
    lane.add(5, *counts((1, 1), Row(2, 1_100), piece=0, pieces=2))
    lane.prune(0)
    assert lane.position(1) == 5


def test_a_missing_pane_shows() -> None:
    lane = lane_of_examples()
    assert lane.follows(7)
    lane.add(0, *counts((7, 8)))
    assert lane.follows(9)
    assert not lane.follows(10)


def test_joined_rows_are_counted_by_panes_with_the_bins_of_the_newest_anchor_so_far() -> None:
    losses = np.linspace(0.01, 3, 160)
    rows = pa.RecordBatch.from_pydict({"x": np.arange(160.0)})
    bins = learn(rows, {"x": "number"}, None, losses, ("no", "yes"))
    old, new = ((1, 0.9),), ((2, 0.6), (1, 0.2))
    batch, *_ = counts(
        (0, 3), Row(1, 100, old), Row(2, 200, old, 0, 1), Row(3, 1_100, old), Row(4, 1_200, new), Row(5, 3_300, old)
    )
    merged = Rows.merged([batch])
    found = list(by_panes(merged, PANE, lambda member: bins if member == 2 else None))
    assert [(pane.pane, pane.anchor, pane.sources, positions(rows)) for pane, rows in found] == [
        (0, 1, (0, 1), [1, 2]),
        (1, 2, (0,), [4]),
        (3, 2, (), []),
    ]
    assert [pane.counts.shape for pane, _ in found] == [(2, 0), (1, bins.cells), (0, bins.cells)]
    own = found[1][0].counts[0]
    assert own[bins.part(LABEL, "classes")].tolist() == [0, 1, 0]
    place = int(np.argmax(own[bins.part(LOSS, "loss")]))
    assert bins.streams[-1].edges[place - 1] < -np.log(0.6) <= bins.streams[-1].edges[place]
    assert not any(pane.quality.any() for pane, _ in found)
    assert [pane.anchor for pane, _ in by_panes(merged, PANE, lambda _: None, anchor=7)] == [7, 7, 7]
    assert list(by_panes(Rows.merged([]), PANE, lambda _: None)) == []


def tallied(panes: tuple[int, int], *rows: tuple[int, int, int, list[int], list[int]], through: int = 0) -> Counted:
    names = TALLIED.names
    batch = pa.RecordBatch.from_pylist([dict(zip(names, row, strict=True)) for row in rows], TALLIED)
    return batch, b.Headers(panes=panes, coverage={"scored": (0, through)}), panes


def test_counts_of_scored_rows_add_up_over_partitions_and_a_zombies_panes_count_once() -> None:
    sums = Sums(2, lambda member: 4 * member)
    first = tallied((0, 1), (0, 0, 3, [0], [5]), (0, 1, 3, [0, 2], [4, 1]), (1, 1, 0, [3], [9]))
    sums.lanes[0].add(0, *first)
    assert sums.settle() == []
    sums.lanes[0].add(1, *first)
    sums.lanes[1].add(0, *tallied((-1, 0), (0, 0, 0, [1], [2]), (0, 1, 3, [2], [6]), through=7))
    (found,) = sums.settle()
    assert (found.pane, found.anchor, found.sources) == (0, 1, (0, 3))
    assert found.counts.tolist() == [[0, 0, 0, 0], [4, 0, 7, 0]]
    assert found.quality[:, :2].tolist() == [[0, 2], [5, 0]]
    assert sums.through(0) == {"scored/0": 0, "scored/1": 7}
    sums.prune()
    sums.lanes[1].add(1, *tallied((1, 5), (1, 2, 0, [7], [1]), through=8))
    (found,) = sums.settle()
    assert (found.pane, found.anchor, found.counts.tolist()) == (1, 2, [[0, 0, 0, 0, 0, 0, 0, 1]])
    assert sums.positions(1) == {0: 0, 1: 1}


def test_what_was_counted_with_bins_that_are_gone_counts_nothing() -> None:
    sums = Sums(1, lambda _: 0, anchor=5)
    sums.lanes[0].add(0, *tallied((0, 0), (0, 5, 0, [1, 2], [3, 3]), (0, 0, 0, [0], [3])))
    (found,) = sums.settle()
    assert (found.anchor, found.counts.shape, found.quality[0, 0]) == (5, (1, 0), 3)


NUMBER = Target("regression")
SEVERAL = Target("multiclass", ("a", "b", "c"))


def answered(outputs: list[list[float]], labels: pa.Array) -> pa.RecordBatch:
    """Joined rows of one member."""
    rows = examples([Row(i, 10 * i) for i in range(len(outputs))])
    for name, column in ((b.OUTPUTS, pa.array(outputs, pa.list_(pa.float64()))), (b.LABEL, labels)):
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


def test_in_regression_the_witness_hears_how_great_a_loss_is_among_those_of_the_reference() -> None:
    rows = pa.RecordBatch.from_pydict({"x": np.arange(160.0)})
    bins = learn(rows, {"x": "number"}, np.arange(160.0), np.arange(160.0), np.arange(160.0))
    told = answered([[5.0], [5.0], [5.0], [np.nan]], pa.array([5.0, 85.0, 1e9, 0.0]))
    merged = Rows.merged([judged(told, NUMBER)])
    assert merged.loss.tolist() == [0.0, 80.0, 1e9 - 5.0]
    assert merged.errors(bins).tolist() == pytest.approx([0.0, 0.5, 1.0], abs=0.05)
    assert merged.errors(None).tolist() == [0.0, 0.0, 0.0]
    counts = bins.count(merged.columns, np.zeros(3, np.int64), 1)[0]
    assert counts[bins.part(LABEL, "numeric")].sum() == counts[bins.part(LOSS, "loss")].sum() == 3


def test_of_several_classes_the_witness_hears_whether_it_was_the_wrong_one() -> None:
    told = answered([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], pa.array([1, 2], pa.int8()))
    merged = Rows.merged([judged(told, SEVERAL)])
    assert merged.errors(None).tolist() == [0.0, 1.0]
    np.testing.assert_allclose(merged.loss, -np.log([0.5, 0.1]))
    assert merged.label.tolist() == [1.0, 2.0]
