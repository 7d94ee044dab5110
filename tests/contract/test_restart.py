"""Restart = read your own output's tail: whatever lies at the end of it, no row is lost and none comes twice."""

from __future__ import annotations

import pytest

from tests.contract.rig import Rig
from tests.contract.rows import record, rows_in, rows_seen
from tests.contract.test_delivery import FEATURES, RECORDS, committed, expected, feed


def relayed(rig: Rig, count: int) -> None:
    """Relay what is there, drain: the output holds `count` rows."""
    relay = rig.start("relay")
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= count, f"{count} rows relayed")
    assert relay.drain().code == 0


def test_an_empty_output_starts_at_the_beginning(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1})
    relay = rig.start("relay")
    rig.until(lambda: relay.said("restored"), "the restore")
    assert rig.read(FEATURES) == []
    feed(rig, RECORDS, 0, 3)
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 3, "three rows relayed")
    assert rows_in(rig.read(FEATURES)) == expected(0, 3)


@pytest.mark.parametrize("aborted", [1, 20], ids=["one", "more than the window"])
def test_transaction_markers_at_the_end_of_the_output_are_no_end(rig: Rig, aborted: int) -> None:
    rig.make({"records": 1, "features": 1})
    feed(rig, RECORDS, 0, 5)
    relayed(rig, 5)
    for _ in range(aborted):
        rig.marker(FEATURES)
    feed(rig, RECORDS, 5, 5)
    rig.commit({RECORDS: 2})  # the commit of a crashed worker lags behind its output
    rig.start("relay")
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 10, "all rows relayed")
    assert rows_in(rig.read(FEATURES)) == expected(0, 10)


def test_transaction_markers_in_the_input_are_passed_over(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1})
    rig.marker(RECORDS)
    feed(rig, RECORDS, 0, 2)
    rig.marker(RECORDS)
    feed(rig, RECORDS, 2, 2)
    rig.marker(RECORDS)
    relayed(rig, 4)
    feed(rig, RECORDS, 4, 1)
    relayed(rig, 5)
    assert rows_in(rig.read(FEATURES)) == expected(0, 5)


@pytest.mark.parametrize("copies", [1, 20], ids=["the last message", "more than the window"])
def test_a_late_write_of_a_zombie_at_the_end_is_not_the_tail(rig: Rig, copies: int) -> None:
    rig.make({"records": 1, "features": 1})
    feed(rig, RECORDS, 0, 1)
    relayed(rig, 1)
    old = rig.read(FEATURES)[0]
    feed(rig, RECORDS, 1, 4)
    relayed(rig, 5)
    for _ in range(copies):
        rig.append(FEATURES, old.value, old.headers, old.key)
    feed(rig, RECORDS, 5, 5)
    rig.start("relay")
    rig.until(lambda: (0, 9) in rows_in(rig.read(FEATURES)), "all rows relayed")
    assert rows_seen("features", rig.read(FEATURES)) == expected(0, 10)
    assert len(rows_in(rig.read(FEATURES))) == 10 + copies


def test_the_map_is_restored_too_so_repeats_of_a_source_are_dropped(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1})
    feed(rig, RECORDS, 0, 5)
    relayed(rig, 5)
    rig.append(RECORDS, *record(0, [3, 4, 5], after=2))  # ingestion restarted at its commit
    relayed(rig, 6)
    assert rows_in(rig.read(FEATURES)) == expected(0, 6)


def test_a_hole_in_the_input_stops_the_worker_and_says_where(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1})
    feed(rig, RECORDS, 0, 3)
    relayed(rig, 3)
    rig.append(RECORDS, *record(0, [9], after=7))
    relay = rig.start("relay")
    rig.until(relay.ended, "the worker's end")
    ending = relay.ended()
    assert ending is not None
    assert (ending.code, ending.error) == (1, "HoleFound")
    assert "records offset 3" in ending.text
    assert "position 7 of source 0" in ending.text
    assert committed(rig) <= 3
    assert rows_in(rig.read(FEATURES)) == expected(0, 3)


def test_a_commit_above_the_output_stops_the_worker_and_says_where(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1})
    feed(rig, RECORDS, 0, 5)
    relayed(rig, 5)
    feed(rig, RECORDS, 5, 5)
    rig.commit({RECORDS: 8})
    relay = rig.start("relay")
    rig.until(relay.ended, "the worker's end")
    ending = relay.ended()
    assert ending is not None
    assert (ending.code, ending.error) == (1, "HoleFound")
    assert "records/0 is committed up to offset 7" in ending.text
    assert "up to 4" in ending.text
