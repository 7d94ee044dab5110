"""Window features are those of a brute-force reading of their definition, however the rows are cut into batches."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.windows import AGGREGATES, OF_ROWS, PANES, Window, read
from services.features.domain import windows_panes, windows_rows
from services.features.domain.windows import Windows

LATENESS = 50
HUGE = 1e300
FORMS: dict[str, dict[str, object]] = {
    f"{each}_{name}": {each: of, **bounds}
    for each in AGGREGATES
    for name, of, bounds in (
        ("short", "x", {"over": "24ms"}),
        ("long", "x", {"over": "1s"}),
        ("few", "x", {"over": "3 rows", "within": "1s"}),
        ("one", "x", {"over": "1 row", "within": "240ms"}),
        ("rows", "*", {"over": "500ms"}),
    )
    if of != "*" or each in OF_ROWS
}
WINDOWS = {name: read(form, {"x": "number"}) for name, form in FORMS.items()}


@dataclass(frozen=True)
class Row:
    entity: str
    time: int
    x: float | None


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    """Entities of any weight; time goes on by little, by much and backwards."""
    now, rows = draw(st.sampled_from([0, -700, 1_700_000_000_123])), []
    numbers = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 0.1, 1e16, -1e16, 1e308]), st.floats(-1e6, 1e6))
    for _ in range(draw(st.integers(1, 60))):
        now += draw(st.sampled_from([0, 0, 1, 1, 7, 40, 400, 3_000]))
        late = draw(st.sampled_from([0, 0, 0, 1, 30, 300, 2_000]))
        rows.append(Row(draw(st.sampled_from("aaab")), now - late, draw(numbers)))
    return rows


def run(windows: Windows, rows: Sequence[Row], cuts: Sequence[int]) -> list[dict[str, float]]:
    edges = [0, *sorted({min(each, len(rows)) for each in cuts} - {0, len(rows)}), len(rows)]
    out: list[dict[str, float]] = []
    for start, stop in pairwise(edges):
        part = rows[start:stop]
        found = windows.step(
            pa.array([row.entity for row in part], pa.string()),
            np.array([row.time for row in part], np.int64),
            {"x": np.array([math.nan if row.x is None else row.x for row in part])},
        )
        out += pl.DataFrame(found).to_dicts()
    return out


def brute(rows: Sequence[Row], window: Window) -> list[float]:
    return [_value(rows, index, window) for index in range(len(rows))]


def _value(rows: Sequence[Row], index: int, window: Window) -> float:
    row, pane = rows[index], window.pane
    newest = max(each.time for each in rows[: index + 1])
    last = row.time // pane
    first = max(last, (newest - window.kept(LATENESS)) // pane) - PANES
    before = [each for each in rows[:index] if each.entity == row.entity]
    before = before if window.rows is None else before[-window.rows :]
    inside = [each for each in before if first <= each.time // pane <= last]
    if window.of != "*":
        inside = [each for each in inside if each.x is not None]
    if window.rows is None:
        inside = sorted(inside, key=lambda each: each.time // pane)
    return _aggregate(window, inside, row.time)


def _aggregate(window: Window, rows: Sequence[Row], now: int) -> float:
    if window.aggregate == "count":
        return float(len(rows))
    if not rows:
        return math.nan
    if window.aggregate == "since":
        return max(now - max(row.time for row in rows), 0) / 1_000
    return _number(window, [(row.time // window.pane, (row.x or 0.0) + 0.0) for row in rows])


def _number(window: Window, values: Sequence[tuple[int, float]]) -> float:
    plain = [value for _, value in values]
    if window.aggregate in {"min", "max", "last"}:
        return {"min": min(plain), "max": max(plain), "last": plain[-1]}[window.aggregate]
    if window.aggregate == "std":
        return _deviation(plain)
    total = _sum(plain) if window.rows is not None else _sum(_by_pane(values))
    return total if window.aggregate == "sum" else total / len(plain)


def _by_pane(values: Sequence[tuple[int, float]]) -> list[float]:
    return [_sum([value for each, value in values if each == pane]) for pane in sorted({pane for pane, _ in values})]


def _sum(values: Sequence[float]) -> float:
    total = 0.0
    for each in values:
        total += each
    return total


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        return math.nan
    exact = [Fraction(each) for each in values]
    mean = sum(exact) / len(exact)
    squares = sum((each - mean) ** 2 for each in exact) / (len(exact) - 1)
    return math.sqrt(squares) if squares < HUGE else math.nan


def same(ours: float, theirs: float, window: Window, scale: float) -> bool:
    if window.aggregate == "std":  # the only one whose steps are not those of its definition
        large = scale * scale > HUGE
        close = math.isclose(ours, theirs, rel_tol=1e-6, abs_tol=1e-7 * scale)
        return large or close or (math.isnan(ours) and math.isnan(theirs))
    return math.isnan(ours) if not math.isfinite(theirs) else bits(ours) == bits(theirs)


def bits(value: float) -> bytes:
    return b"null" if math.isnan(value) else struct.pack("<d", value)


@settings(max_examples=30, deadline=None)
@given(streams(), st.lists(st.integers(0, 60), max_size=8), st.sampled_from([(1_024, 16), (7, 1)]))
def test_windows_are_what_their_definition_says_bit_for_bit(
    rows: list[Row], cuts: list[int], sizes: tuple[int, int]
) -> None:
    with pytest.MonkeyPatch.context() as patched:  # so few rows would fill neither a step nor a line
        patched.setattr(windows_panes, "CHUNK", sizes[0])
        patched.setattr(windows_rows, "CHUNK", sizes[0])
        patched.setattr(windows_rows, "SPARE", sizes[1])
        patched.setattr(windows_rows, "SPARE_OF_ALL", 0)
        out = run(Windows(WINDOWS, LATENESS, 100), rows, cuts)
    scale = max((abs(row.x) for row in rows if row.x is not None), default=0.0)
    for name, window in WINDOWS.items():
        for index, expected in enumerate(brute(rows, window)):
            ours = out[index][name]
            assert same(ours, expected, window, scale), (name, index, ours, expected)


@settings(max_examples=30, deadline=None)
@given(streams(), st.lists(st.integers(0, 60), max_size=8), st.integers(1, 2))
def test_no_cutting_into_batches_changes_a_bit(rows: list[Row], cuts: list[int], entities: int) -> None:
    whole = run(Windows(WINDOWS, LATENESS, entities), rows, [])
    parts = run(Windows(WINDOWS, LATENESS, entities), rows, cuts)
    each = run(Windows(WINDOWS, LATENESS, entities), rows, range(len(rows)))
    told = [[{name: bits(value) for name, value in row.items()} for row in found] for found in (whole, parts, each)]
    assert told[0] == told[1] == told[2]


@settings(max_examples=30, deadline=None)
@given(streams())
def test_a_fold_that_begins_where_nothing_counts_any_more_ends_in_the_same_state(rows: list[Row]) -> None:
    """What restart relies on: everything before the first row within reach of the newest one may be left out."""
    reach = max(window.reach(LATENESS) for window in WINDOWS.values())
    half = len(rows) // 2
    newest = max((row.time for row in rows[:half]), default=0)
    begin = next((n for n, row in enumerate(rows[:half]) if row.time >= newest - reach), half)
    whole = run(Windows(WINDOWS, LATENESS, 100), rows, [half])[half:]
    again = run(Windows(WINDOWS, LATENESS, 100), rows[begin:], [half - begin])[half - begin :]
    assert [{k: bits(v) for k, v in row.items()} for row in whole] == [
        {k: bits(v) for k, v in row.items()} for row in again
    ]


def test_more_entities_than_places_are_refused_until_time_frees_one() -> None:
    window = {"seen": read({"count": "*", "over": "1s"}, {})}
    rows = [Row("a", 0, None), Row("b", 1, None), Row("a", 2, None), Row("b", 5_000, None), Row("b", 5_001, None)]
    windows = Windows(window, 0, 1)
    seen = [row["seen"] for row in run(windows, rows, [])]
    assert windows.refused == 1
    assert [each if not math.isnan(each) else None for each in seen] == [0, None, 1, 0, 1]


def test_a_place_is_not_taken_from_an_entity_that_still_counts() -> None:
    windows = Windows({"seen": read({"count": "*", "over": "1s"}, {})}, 0, 1_000_000)
    rows = [Row(f"e{n}", 0, None) for n in range(500)] * 2
    assert [row["seen"] for row in run(windows, rows, [100, 450, 700])] == [0.0] * 500 + [1.0] * 500
    assert windows.refused == 0


@pytest.mark.parametrize("aggregate", ["mean", "std"])
def test_large_numbers_that_differ_by_little_do_not_cancel(aggregate: str) -> None:
    windows = Windows({"f": read({aggregate: "x", "over": "1h"}, {"x": "number"})}, 0, 10)
    rows = [Row("a", n * 10_000, 1e9 + n % 2) for n in range(101)]
    last = run(windows, rows, [])[-1]["f"]
    assert last == pytest.approx(1e9 + 0.5 if aggregate == "mean" else math.sqrt(100 * 0.25 / 99), rel=1e-8)
