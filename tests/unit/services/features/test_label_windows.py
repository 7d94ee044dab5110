"""Windows over labels are those of a brute-force reading: of a row, the time so far and the labels so far."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.windows import AGGREGATES, PANES, Window, read
from services.features.domain.windows_labels import Labels, LabelWindows
from tests.unit.services.features.test_windows import bits

LATENESS = 50
SPANS = ("24ms", "1s", "500ms")
WINDOWS = {f"{each}_{span}": read({each: "label", "over": span}, {}) for each in AGGREGATES for span in SPANS}


@dataclass(frozen=True)
class Item:
    """A row, or a label where it has a value."""

    entity: str
    time: int
    value: int | None = None


@st.composite
def streams(draw: st.DrawFn) -> list[Item]:
    """Rows and labels as they arrive; each may be ahead of the others by any time, or behind."""
    now, items = draw(st.sampled_from([0, -700, 1_700_000_000_123])), []
    for _ in range(draw(st.integers(1, 60))):
        now += draw(st.sampled_from([0, 0, 1, 1, 7, 40, 400, 3_000]))
        value = draw(st.sampled_from([None, None, 0, 1, 1]))
        ahead = draw(st.sampled_from([0, 0, 0, 1, 30, 600, 4_000])) if value is not None else 0
        late = draw(st.sampled_from([0, 0, 0, 1, 30, 300, 2_000]))
        items.append(Item(draw(st.sampled_from("aaab")), now + ahead - late, value))
    return items


def run(windows: LabelWindows, items: Sequence[Item], cuts: Sequence[int]) -> list[dict[str, float]]:
    """The rows' features; every change from rows to labels ends a batch, `cuts` end further ones."""
    turns = [n for n in range(1, len(items)) if (items[n].value is None) != (items[n - 1].value is None)]
    edges = sorted({0, len(items), *turns, *(min(each, len(items)) for each in cuts)})
    out: list[dict[str, float]] = []
    for start, stop in pairwise(edges):
        part = items[start:stop]
        names = pa.array([each.entity for each in part], pa.string())
        times = np.array([each.time for each in part], np.int64)
        if part[0].value is None:
            out += pl.DataFrame(windows.ask(names, times)).to_dicts()
        else:
            windows.arrive(Labels(names, times, np.array([each.value for each in part], np.float64)))
    return out


def brute(items: Sequence[Item], window: Window) -> list[float]:
    return [_value(items, index, window) for index, each in enumerate(items) if each.value is None]


def _value(items: Sequence[Item], index: int, window: Window) -> float:
    row, pane, before = items[index], window.pane, items[: index + 1]
    newest = max(each.time for each in before if each.value is None)
    first = max(row.time // pane, (newest - window.kept(LATENESS)) // pane) - PANES
    labels = [each for each in before if each.value is not None and each.entity == row.entity]
    known = [each for each in labels if first <= each.time // pane < row.time // pane]
    return _aggregate(window, sorted(known, key=lambda each: each.time // pane), row.time)


def _aggregate(window: Window, known: Sequence[Item], now: int) -> float:
    values = [each.value or 0 for each in known]
    if window.aggregate == "count":
        return float(len(values))
    if not values:
        return math.nan
    if window.aggregate == "since":
        return (now - max(each.time for each in known)) / 1_000
    if window.aggregate == "std":
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    plain = {"min": min(values), "max": max(values), "last": values[-1], "sum": sum(values)}
    return float(plain.get(window.aggregate, sum(values) / len(values)))


def told(found: Sequence[dict[str, float]]) -> list[dict[str, bytes]]:
    return [{name: bits(value) for name, value in row.items()} for row in found]


@settings(max_examples=40, deadline=None)
@given(streams(), st.lists(st.integers(0, 60), max_size=8))
def test_label_windows_are_what_their_definition_says(items: list[Item], cuts: list[int]) -> None:
    out = run(LabelWindows(WINDOWS, LATENESS, 100), items, cuts)
    for name, window in WINDOWS.items():
        for found, expected in zip(out, brute(items, window), strict=True):
            near = window.aggregate == "std" and math.isclose(found[name], expected, rel_tol=1e-9, abs_tol=1e-9)
            assert near or bits(found[name]) == bits(expected), (name, found[name], expected)


@settings(max_examples=30, deadline=None)
@given(streams(), st.lists(st.integers(0, 60), max_size=8))
def test_no_cutting_into_batches_changes_a_bit_of_label_windows(items: list[Item], cuts: list[int]) -> None:
    whole, parts, each = (
        told(run(LabelWindows(WINDOWS, LATENESS, 100), items, some)) for some in ([], cuts, range(len(items)))
    )
    assert whole == parts == each


@settings(max_examples=40, deadline=None)
@given(streams(), st.lists(st.integers(0, 60), max_size=8), st.integers(0, 60))
def test_who_knows_the_same_labels_goes_on_alike_whatever_came_first(
    items: list[Item], cuts: list[int], half: int
) -> None:
    """What restart relies on: labels within reach of the newest row, then the rows, and the state is the same."""
    reach = max(window.reach(LATENESS) for window in WINDOWS.values())
    done, rest = items[:half], items[half:]
    rows = [each for each in done if each.value is None]
    newest = max((each.time for each in rows), default=-(1 << 60))
    labels = [each for each in done if each.value is not None]
    young = next((n for n, each in enumerate(labels) if each.time >= newest - reach), len(labels))
    began = next((n for n, each in enumerate(rows) if each.time == newest), 0)
    again = LabelWindows(WINDOWS, LATENESS, 100)
    run(again, [*labels[young:], *rows[began:]], cuts)
    whole = LabelWindows(WINDOWS, LATENESS, 100)
    run(whole, done, cuts)
    assert told(run(whole, rest, cuts)) == told(run(again, rest, cuts))


def test_a_label_as_young_as_its_row_is_not_known_to_it() -> None:
    """Outcomes may be read faster than records: what the row is to become is there before the row."""
    windows = LabelWindows({"seen": read({"count": "label", "over": "24h"}, {})}, LATENESS, 100)
    hour = 3_600_000
    labels = [
        Item("a", 10 * hour - 1, 1),
        Item("a", 10 * hour, 1),
        Item("a", 10 * hour + 5, 0),
        Item("a", 90 * hour, 1),
    ]
    rows = [Item("a", 10 * hour + 4), Item("a", 11 * hour), Item("b", 11 * hour), Item("a", 10 * hour + 4)]
    assert [each["seen"] for each in run(windows, [*labels, *rows], [])] == [1, 3, 0, 1]


def test_labels_do_not_move_the_clock_by_which_late_rows_find_their_panes() -> None:
    windows = LabelWindows({"seen": read({"count": "label", "over": "24s"}, {})}, 500, 100)
    items = [Item("a", 10_200), Item("a", 10_900, 1), Item("a", -14_500, 1), Item("a", 9_000)]
    assert [each["seen"] for each in run(windows, items, [])] == [0, 1]


def test_labels_wait_for_the_rows_and_are_let_go_when_these_have_come() -> None:
    windows = LabelWindows({"seen": read({"count": "label", "over": "1s"}, {})}, 0, 100)
    labels = [Item("a", 1_000 * n, 1) for n in range(50)]
    rows = [Item("a", 1_000 * n + 999) for n in range(50)]
    assert [each["seen"] for each in run(windows, [*labels, *rows], [])] == [1] * 50


def test_rows_of_an_entity_without_a_place_have_no_label_windows_and_are_counted() -> None:
    windows = LabelWindows({name: read({"count": "label", "over": name}, {}) for name in ("1s", "2s")}, 0, 1)
    found = run(windows, [Item("a", 0, 1), Item("b", 0, 1), Item("a", 100), Item("b", 101), Item("b", 102)], [])
    assert [each["1s"] if not math.isnan(each["1s"]) else None for each in found] == [1, None, None]
    assert windows.refused == 2
