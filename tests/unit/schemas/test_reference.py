"""References: read back as written, summed over strata, refused where they contradict themselves."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bins import Axes, Bins, Stream
from schemas.bins_learning import learn
from schemas.reference import MOST_PANES, BadReferenceError, Reference, strata_count, strata_of

HOUR = 3_600_000


def reference() -> Reference:
    random = np.random.default_rng(0)
    given = {"a": pa.array(random.normal(size=1_000)), "b": pa.array(random.normal(size=1_000))}
    given |= {"city": pa.array([f"c{each}" for each in random.integers(0, 5, 1_000)])}
    bins = learn(pa.record_batch(given), {"a": "number", "b": "number", "city": "category"}, labels=("no", "yes"))
    panes = bins.count(given, np.arange(1_000) // 10, 100)
    return Reference.of(bins, panes, strata_of(np.arange(100) * HOUR // 2, ["hour_of_day"]), ["hour_of_day"])


WHOLE = reference()


def test_a_reference_is_read_as_it_was_written() -> None:
    again = Reference.from_bytes(WHOLE.to_bytes())
    assert again.bins.streams == WHOLE.bins.streams
    assert again.bins.axes is not None
    assert WHOLE.bins.axes is not None
    assert again.bins.axes.columns == WHOLE.bins.axes.columns
    assert np.array_equal(again.bins.axes.normal, WHOLE.bins.axes.normal)
    assert np.array_equal(again.bins.axes.loadings, WHOLE.bins.axes.loadings)
    assert again.seasons == WHOLE.seasons
    for name in ("counts", "visits", "panes", "strata"):
        assert np.array_equal(getattr(again, name), getattr(WHOLE, name))
    assert again.to_bytes() == WHOLE.to_bytes()


def test_strata_add_up_to_the_whole_and_visits_are_stretches_of_time() -> None:
    assert np.array_equal(WHOLE.pooled, WHOLE.panes.sum(axis=0))
    assert np.array_equal(WHOLE.counts[0], WHOLE.panes[WHOLE.strata == 0].sum(axis=0))
    assert WHOLE.visits.tolist() == [3] * 2 + [2] * 22


def test_only_the_newest_panes_are_kept_apart() -> None:
    bins = Bins((Stream("a", "features", "numeric", edges=(0.0,)),))
    panes = np.zeros((MOST_PANES + 10, 17), np.int32)
    panes[:, 0] = np.arange(len(panes))
    found = Reference.of(bins, panes)
    assert found.panes[:, 0].tolist() == list(range(10, MOST_PANES + 10))
    assert found.pooled[0] == panes[:, 0].sum()


def test_parts_in_order_of_time_make_the_whole() -> None:
    first = Reference.of(WHOLE.bins, WHOLE.panes[:40], WHOLE.strata[:40], WHOLE.seasons)
    then = Reference.of(WHOLE.bins, WHOLE.panes[40:], WHOLE.strata[40:], WHOLE.seasons)
    both = first.together(then)
    assert np.array_equal(both.counts, WHOLE.counts)
    assert np.array_equal(both.panes, WHOLE.panes)


def test_strata_are_hours_and_days_from_monday_in_utc() -> None:
    monday = 4 * 24 * HOUR  # 1970-01-05
    times = np.array([monday, monday + 5 * HOUR, monday + 6 * 24 * HOUR + 23 * HOUR])
    assert strata_of(times, ["hour_of_day"]).tolist() == [0, 5, 23]
    assert strata_of(times, ["day_of_week"]).tolist() == [0, 0, 6]
    assert strata_of(times, ["day_of_week", "hour_of_day"]).tolist() == [0, 5, 167]
    assert strata_of(times, []).tolist() == [0, 0, 0]
    assert (strata_count([]), strata_count(["hour_of_day"]), strata_count(["hour_of_day", "day_of_week"])) == (
        1,
        24,
        168,
    )


@given(st.binary(max_size=200))
def test_bytes_that_are_none_are_refused(value: bytes) -> None:
    with pytest.raises(BadReferenceError, match=r"reference\.arrow"):
        Reference.from_bytes(value)


@given(st.integers(0, len(WHOLE.to_bytes()) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_harmless(place: int, value: int) -> None:
    changed = bytearray(WHOLE.to_bytes())
    changed[place] = value
    try:
        found = Reference.from_bytes(bytes(changed))
    except BadReferenceError:
        return
    assert found.counts.shape == (24, found.bins.cells)
    assert found.bins.count({"a": np.array([0.0]), "b": np.array([1.0])}, np.array([0]), 1).sum() >= 2


def replaced(**changes: Any) -> Reference:
    stream = dataclasses.replace(WHOLE.bins.streams[0], **changes)
    return dataclasses.replace(WHOLE, bins=Bins((stream, *WHOLE.bins.streams[1:]), WHOLE.bins.axes))


def with_axes(columns: tuple[str, ...], scores: int) -> Reference:
    axes = WHOLE.bins.axes
    assert axes is not None
    return dataclasses.replace(WHOLE, bins=Bins(WHOLE.bins.streams, Axes(columns, axes.normal, axes.loadings[:scores])))


FOREIGN: Any = ("full_moon",)
WRONG = {
    "edges": replaced(edges=(2.0, 1.0)),
    "kind": replaced(kind="circle"),
    "family": replaced(family="foreign"),
    "leading": replaced(leading=31),
    "one name": replaced(name="b"),
    "counts": dataclasses.replace(WHOLE, counts=WHOLE.counts[:-1]),
    "panes": dataclasses.replace(WHOLE, panes=WHOLE.panes[:-1]),
    "visits": dataclasses.replace(WHOLE, visits=-WHOLE.visits),
    "strata": dataclasses.replace(WHOLE, strata=WHOLE.strata + 24),
    "seasons": dataclasses.replace(WHOLE, seasons=FOREIGN),
    "axes": with_axes(("z", "b"), 2),
    "reshape": with_axes(("a", "b"), 1),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_contradiction_is_refused_by_name(what: str) -> None:
    with pytest.raises(BadReferenceError, match=what):
        Reference.from_bytes(WRONG[what].to_bytes())
