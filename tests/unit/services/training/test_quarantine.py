"""No dataset ever holds a row of bad data, and bad data costs no row that is right."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import batch as b
from schemas.artefact import Quarantine
from services.training.domain.quarantine import clean, held, shortened
from services.training.domain.rows import ORDER, content_digest, numbers, remembered, sorted_rows
from services.training.domain.taking import Taken, dataset_of, remake
from services.training.domain.window import Window
from tests.unit.services.training.loop import STEP, dataset, labelled, spec

TYPES = spec().feature_types
NAMES = list(TYPES)
SIZE = 20


def rows_of(first: int, ages: list[int], sources: list[int]) -> pa.RecordBatch:
    """Rows that are labelled one after the other, so many steps after their events."""
    rows = labelled(first, len(ages))
    events = pa.array((np.arange(first, first + len(ages)) - np.array(ages)) * STEP, pa.timestamp("ms", "UTC"))
    rows = rows.set_column(rows.schema.names.index(b.TIME), b.TIME, events)
    return rows.set_column(rows.schema.names.index(b.SOURCE), b.SOURCE, pa.array(sources, pa.int16()))


@pytest.mark.parametrize(
    ("quarantine", "found"),
    [
        (Quarantine(3 * STEP), [3, 4, 5]),
        (Quarantine(3 * STEP, 5 * STEP), [3, 4]),
        (Quarantine(3 * STEP, None, 1), [3, 5]),
        (Quarantine(0, 4 * STEP, 0), [0, 2]),
        (Quarantine(5 * STEP, 3 * STEP), []),
    ],
)
def test_a_row_is_held_back_by_its_event_time_and_its_source(quarantine: Quarantine, found: list[int]) -> None:
    rows = rows_of(0, [0] * 6, [0, 1] * 3)
    assert np.flatnonzero(held(rows, [quarantine])).tolist() == found
    assert clean(rows, [quarantine]).num_rows == 6 - len(found)


def test_it_is_the_event_that_counts_and_not_when_its_label_came() -> None:
    assert held(rows_of(10, [5], [0]), [Quarantine(5 * STEP, 6 * STEP)]).all()
    assert not held(rows_of(10, [5], [0]), [Quarantine(6 * STEP)]).any()


def test_the_earliest_end_holds_in_whichever_order_ends_are_heard() -> None:
    begun = Quarantine(3)
    assert shortened(shortened(begun, 9), 7) == shortened(shortened(begun, 7), 9) == Quarantine(3, 7)


MOMENT = st.integers(0, 150).map(lambda each: each * STEP)
QUARANTINES = st.lists(
    st.builds(Quarantine, MOMENT, st.none() | MOMENT, st.none() | st.integers(0, 2)), min_size=1, max_size=3
)
PARTS = st.lists(st.integers(1, 15), min_size=1, max_size=10)


@settings(max_examples=40, deadline=None)
@given(
    parts=PARTS,
    quarantines=QUARANTINES,
    told=st.lists(st.integers(0, 10), min_size=3, max_size=3),
    seed=st.integers(0, 99),
)
def test_no_dataset_ever_holds_a_row_in_quarantine_and_each_is_found_again(
    parts: list[int], quarantines: list[Quarantine], told: list[int], seed: int
) -> None:
    window, first, log, random = Window(NAMES, 1, SIZE, 0), 0, [], np.random.default_rng(seed)
    for offset, count in enumerate(parts):
        rows = rows_of(first, random.integers(0, 30, count).tolist(), random.integers(0, 3, count).tolist())
        log.append(remembered(rows, NAMES, 0, offset, 0))
        window.add(0, offset, rows, (first + count) * STEP)
        first += count
        window.quarantined = tuple(each for each, at in zip(quarantines, told, strict=False) if at <= offset)
        found = dataset(window, window.frontier)
        if found is not None:
            assert not held(found, window.quarantined).any()
            _found_again(window, found, pa.concat_batches(log))
        window.trim()


def _found_again(window: Window, rows: pa.RecordBatch, log: pa.RecordBatch) -> None:
    said = dataset_of(Taken(rows, window.quarantined), 0, TYPES, learnt=False)
    found = remake(said, lambda _: [log], NAMES)
    assert found is not None
    assert content_digest(found, TYPES) == said.digest


@settings(max_examples=40, deadline=None)
@given(
    parts=PARTS,
    start=st.integers(0, 100),
    closed=st.integers(0, 12),
    right=st.integers(0, 99),
)
def test_bad_data_costs_no_row_that_is_right_however_the_window_was_trimmed(
    parts: list[int], start: int, closed: int, right: int
) -> None:
    window, first, log = Window(NAMES, 1, SIZE, 0), 0, []
    for offset, count in enumerate(parts):
        rows = rows_of(first, [3] * count, [0] * count)
        log.append(remembered(rows, NAMES, 0, offset, 0))
        window.add(0, offset, rows, (first + count) * STEP)
        first += count
        stop = (start + right) * STEP if offset >= closed else None
        window.quarantined = (Quarantine(start * STEP, stop),)
        found = dataset(window, window.frontier)
        everything = clean(pa.concat_batches(log), window.quarantined)
        wanted = sorted_rows(everything.filter(pa.array(numbers(everything, ORDER) <= window.frontier)))
        wanted = wanted.slice(max(0, wanted.num_rows - SIZE))
        assert ([] if found is None else found.column(b.POSITION).to_pylist()) == wanted.column(b.POSITION).to_pylist()
        window.trim()


def test_bad_data_that_does_not_end_takes_a_bounded_memory() -> None:
    window = Window(NAMES, 1, SIZE, 0)
    window.quarantined = (Quarantine(50 * STEP),)
    for first in range(0, 1_000, 10):
        window.add(0, first, labelled(first, 10), (first + 10) * STEP)
        window.trim()
    rows = window.rows
    assert rows is not None
    assert rows.num_rows <= 3 * SIZE
    found = dataset(window, window.frontier)
    assert found is not None
    assert found.column(b.POSITION).to_pylist() == list(range(30, 50))
