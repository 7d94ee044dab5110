"""Losses, and which rows are complete."""

import math

import pyarrow as pa

from schemas import batch as b
from services.drift.domain.panes import OpenPanes, judged, times
from tests.unit.services.drift.stream import Row, examples


def counts(*rows: Row) -> pa.RecordBatch:
    return judged(examples(rows))


def test_the_first_member_is_judged_and_what_no_member_scored_is_not() -> None:
    rows = counts(Row(1, 10, ((1, 0.9), (2, 0.1))), Row(2, 20, ()), Row(3, 30, ((2, 0.1), (1, 0.9)), 1))
    assert [(row["_position"], row["member"], row["wrong"], row["label"]) for row in rows.to_pylist()] == [
        (1, 1, False, 1.0),
        (3, 2, True, 1.0),
    ]
    assert rows.column("loss").to_pylist() == [-math.log(0.9), -math.log(0.1)]


def test_a_correction_is_judged_no_second_time() -> None:
    rows = examples([Row(1, 10, label=0), Row(1, 20, label=1)])
    corrected = rows.append_column(b.CORRECTION, pa.array([False, True]))
    assert judged(corrected).equals(judged(rows.slice(0, 1)))


def test_a_pane_closes_when_the_watermark_is_its_end_and_the_lateness() -> None:
    panes = OpenPanes(1_000, 300)
    panes.add(counts(Row(1, 999), Row(2, 1_000)))
    assert panes.close(None) is None
    panes.close(1_299)
    assert panes.closed == -1
    closed = panes.close(1_300)
    assert closed is not None
    assert closed[0] == (0, 0)
    assert times(closed[1]).tolist() == [999]
    assert panes.close(2_299) is None
    assert panes.close(5_300) is not None
    assert panes.closed == 4


def test_a_watermark_that_steps_back_opens_nothing_again() -> None:
    panes = OpenPanes(1_000, 0)
    panes.close(5_000)
    assert panes.close(2_000) is None
    assert panes.closed == 4


def test_rows_of_closed_panes_are_late_and_left_out() -> None:
    panes = OpenPanes(1_000, 0, closed=3)
    assert panes.add(counts(Row(1, 3_999), Row(2, 4_000))) == 1
    closed = panes.close(9_000)
    assert closed is not None
    assert closed[1].column(b.POSITION).to_pylist() == [2]


def test_a_row_that_was_added_twice_is_counted_once_and_rows_come_in_order() -> None:
    panes = OpenPanes(1_000, 0, closed=-1)
    panes.add(counts(Row(7, 500, source=1), Row(3, 500), Row(9, 100)))
    panes.add(counts(Row(3, 500), Row(2, 500, ((2, 0.9), (1, 0.9)))))
    closed = panes.close(1_000)
    assert closed is not None
    found = [(row["_source"], row["_position"], row["member"]) for row in closed[1].to_pylist()]
    assert found == [(0, 9, 1), (0, 2, 2), (0, 3, 1), (1, 7, 1)]
