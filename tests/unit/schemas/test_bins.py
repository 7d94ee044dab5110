"""Counting: the bins say what they promise, and counts do not depend on how the rows came."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.bins import (
    CHUNK,
    FEW_CELLS,
    LABEL,
    LOSS,
    PREDICTION,
    QUALITY,
    Bins,
    Column,
    Counts,
    Stream,
    UnknownStreamError,
)
from schemas.bins_codes import ALONE, MAGNITUDES, NEW, OTHER, RANKS, product
from schemas.bins_learning import edges, learn
from schemas.spec import FeatureType

ROWS = 3_000
NUMBERS, TEXTS = ("a", "b", "c", "whole", "same", "none"), ("city", "id")
TYPES: dict[str, FeatureType] = {**dict.fromkeys(NUMBERS, "number"), **dict.fromkeys(TEXTS, "category")}


def columns(rows: int, seed: int = 0) -> dict[str, Column]:
    """Dependent numbers, a whole number, a constant, a column of nulls, a skewed category, one that is all unique."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, rows))
    holes = np.where(random.random(rows) < 0.1, np.nan, np.exp(b))
    return {
        "a": pa.array(a),
        "b": pa.array(a + 0.5 * b),
        "c": pa.array(holes, from_pandas=True),
        "whole": pa.array(random.integers(0, 4, rows).astype(float)),
        "same": pa.array(np.full(rows, 7.0)),
        "none": pa.nulls(rows, pa.float64()),
        "city": pa.array([f"c{int(each)}" for each in random.zipf(1.6, rows) % 500], pa.string()),
        "id": pa.array([f"u{seed}-{i}" for i in range(rows)], pa.string()),
        PREDICTION: random.random(rows),
        LOSS: (random.random(rows) < 0.2).astype(float),
        LABEL: random.integers(0, 2, rows),
    }


def bins() -> Bins:
    given = columns(ROWS)
    features = pa.record_batch({name: given[name] for name in TYPES})
    return learn(features, TYPES, given[PREDICTION], given[LOSS], ("no", "yes"), ("ok", "late"))


def counted(of: Bins, given: dict[str, Column]) -> Counts:
    rows = len(given["a"])
    found: Counts = of.count(given, np.zeros(rows, np.int64), 1)[0]
    return found


LEARNT = bins()


def test_each_sixteenth_of_the_reference_falls_into_its_bin() -> None:
    counts = counted(LEARNT, columns(ROWS))[LEARNT.part("a", "numeric")]
    assert counts[-1] == 0
    assert np.all(np.abs(counts[:-1] - ROWS / 16) <= 1)


def test_every_row_counts_once_in_every_stream_that_was_given() -> None:
    counts = counted(LEARNT, columns(ROWS, seed=4))
    sums = np.add.reduceat(counts, LEARNT.offsets[:-1])
    told = dict(zip([each.key for each in LEARNT.streams], sums.tolist(), strict=True))
    assert told.pop((QUALITY, "classes")) == 0
    assert set(told.values()) == {ROWS}


def test_streams_whose_columns_are_not_here_count_nothing() -> None:
    counts = LEARNT.count({"a": pa.array([0.5, None])}, np.array([0, 0]), 1)[0]
    a, magnitude = LEARNT.part("a", "numeric"), LEARNT.part("a", "magnitude")
    assert counts[a].sum() == counts[magnitude].sum() == 2
    assert counts[a][-1] == counts[magnitude][-1] == 1
    assert counts.sum() == 4


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_counts_of_any_split_over_partitions_and_batches_add_up_to_the_same(data: st.DataObject) -> None:
    rows, panes = 400, 5
    given = columns(rows, seed=data.draw(st.integers(0, 3)))
    pane = np.random.default_rng(1).integers(0, panes, rows)
    whole = LEARNT.count(given, pane, panes)
    part = np.array(data.draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows)))
    total = np.zeros_like(whole)
    for each in range(5):
        chosen = np.random.default_rng(each).permutation(np.flatnonzero(part == each))
        total += LEARNT.count({name: values.take(chosen) for name, values in given.items()}, pane[chosen], panes)
    assert np.array_equal(total, whole)


def test_a_row_counts_the_same_alone_and_among_many() -> None:
    given = columns(9_000, seed=7)
    whole = LEARNT.count(given, np.arange(9_000), 9_000)
    for row in (0, 1, 4_095, 8_191, 8_192, 8_999):
        alone = {name: values[row : row + 1] for name, values in given.items()}
        assert np.array_equal(counted(LEARNT, alone), whole[row])


def test_a_value_that_is_met_often_has_a_bin_of_its_own() -> None:
    for value, place in ((6.9, 0), (7.0, 1), (7.1, 2)):
        counts = LEARNT.count({"same": pa.array([value])}, np.array([0]), 1)[0][LEARNT.part("same", "numeric")]
        assert np.flatnonzero(counts).tolist() == [place]
    whole = counted(LEARNT, columns(ROWS))[LEARNT.part("whole", "numeric")]
    assert np.count_nonzero(whole) == 4


def test_infinities_are_at_the_ends_and_nan_is_missing() -> None:
    given = {"a": pa.array([-np.inf, np.inf, np.nan])}
    counts = LEARNT.count(given, np.arange(3), 3)[:, LEARNT.part("a", "numeric")]
    assert counts.argmax(axis=1).tolist() == [0, RANKS - 2, RANKS - 1]
    powers = LEARNT.count(given, np.arange(3), 3)[:, LEARNT.part("a", "magnitude")]
    assert powers.argmax(axis=1).tolist() == [0, MAGNITUDES - 2, MAGNITUDES - 1]


def test_a_change_of_unit_moves_the_powers_of_two_by_a_constant() -> None:
    values = np.exp(np.random.default_rng(3).normal(size=ROWS))
    learnt = learn(pa.record_batch({"a": pa.array(values)}), {"a": "number"})
    part = learnt.part("a", "magnitude")
    before, after = (learnt.count({"a": each}, np.zeros(ROWS, int), 1)[0][part] for each in (values, values * 128))
    assert np.array_equal(np.roll(before, 7), after)
    negative = learnt.count({"a": -values}, np.zeros(ROWS, int), 1)[0][part]
    assert np.array_equal(negative[:-1], before[:-1][::-1])


def test_new_categories_are_as_frequent_among_the_learnt_rows_as_behind_them() -> None:
    part = LEARNT.part("city", "category")
    given = columns(ROWS)
    learnt = LEARNT.count(given, np.zeros(ROWS, int), 1, learnt=True)[0][part]
    behind = counted(LEARNT, columns(ROWS, seed=9))[part]
    assert learnt.sum() == behind.sum() == ROWS
    assert learnt[NEW] > 20
    assert abs(int(learnt[NEW]) - int(behind[NEW])) < 4 * np.sqrt(learnt[NEW] + behind[NEW])


def test_where_nothing_repeats_nothing_is_new() -> None:
    part = LEARNT.part("id", "category")
    for seed in (0, 9):
        counts = LEARNT.count(columns(ROWS, seed), np.zeros(ROWS, int), 1, learnt=True)[0][part]
        assert counts[OTHER] == ROWS


def test_scores_are_uncorrelated_and_see_a_broken_dependence() -> None:
    given = columns(ROWS)
    broken = dict(given) | {"b": given["b"].take(np.random.default_rng(0).permutation(ROWS))}
    scores = [each for each in LEARNT.streams if each.kind == "score"]
    assert 2 <= len(scores) <= 4
    moved = [
        np.abs(counted(LEARNT, broken) - counted(LEARNT, given))[LEARNT.part(each.name, "score")].sum() / ROWS
        for each in scores
    ]
    assert max(moved) > 0.5


def test_rows_that_made_the_axes_have_no_scores_of_their_own() -> None:
    pane = np.random.default_rng(0).integers(0, 7, ROWS)
    counts = LEARNT.count(columns(ROWS), pane, 7, learnt=True)
    for stream in (each for each in LEARNT.streams if each.kind == "score"):
        part = counts[:, LEARNT.part(stream.name, "score")]
        assert np.array_equal(part.sum(axis=1), np.bincount(pane[ROWS // 2 :], minlength=7))
        assert np.abs(part.sum(axis=0)[:-1] - ROWS / 32).max() < 10


def test_one_feature_or_none_can_be_counted_too() -> None:
    assert not any(
        each.kind == "score" for each in learn(pa.record_batch({"a": pa.array([1.0])}), {"a": "number"}).streams
    )
    category = learn(pa.record_batch({"a": pa.array(["x"])}), {"a": "category"})
    assert category.count({"a": pa.array(["y", None])}, np.array([0, 0]), 1).sum() == 2


def test_every_bin_has_a_text() -> None:
    for stream in LEARNT.streams:
        assert len(stream.labels) == stream.width


def test_a_value_with_a_bin_of_its_own_is_told_from_what_lies_around_it() -> None:
    values = np.concatenate((np.full(60, 2.0), np.arange(3, 43) / 10))
    stream = Stream("a", "features", "numeric", edges=edges(values))
    known = [each for each in stream.labels if each]
    assert {"< 2", "= 2", "missing"} <= set(known)
    assert len(known) == len(set(known)) == len(stream.edges) + 2


def test_an_unknown_stream_is_named() -> None:
    with pytest.raises(UnknownStreamError, match="price"):
        LEARNT.part("price", "numeric")


@given(st.lists(st.floats(allow_infinity=True, allow_nan=True), max_size=60))
def test_edges_ascend_and_are_finite_whatever_the_values(values: list[float]) -> None:
    found = np.array(edges(np.array(values)))
    assert len(found) <= RANKS - 2
    assert np.isfinite(found).all()
    assert np.all(np.diff(found) > 0)


def test_many_panes_are_counted_as_each_of_them_alone() -> None:
    """So many that rows are put in the order of their panes, which few ones do without."""
    rows, total = 400, 1 + FEW_CELLS // LEARNT.cells
    given = columns(rows, seed=4)
    panes = np.random.default_rng(5).integers(0, total, rows)
    found = LEARNT.count(given, panes, total)
    for pane in np.unique(panes).tolist():
        chosen = np.flatnonzero(panes == pane)
        alone = {name: column.take(chosen) for name, column in given.items()}
        assert found[pane].tolist() == counted(LEARNT, alone).tolist()
    assert found.sum() == LEARNT.count(given, np.zeros(rows, np.int64), 1).sum()


@given(st.integers(1, 20), st.integers(1, 130), st.integers(0, 3), st.integers(-2, 2), st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_a_product_in_pieces_is_the_product_to_the_bit(
    components: int, features: int, pieces: int, rest: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    rows = max(0, pieces * (ALONE // (components * features)) + rest)
    left = random.integers(-2_048, 2_049, (components, features))
    right = random.integers(-64, 65, (features, rows))
    found = product(left.astype(np.float32), right.astype(np.float32))
    assert np.array_equal(found, (left @ right).astype(np.float32))


def test_long_columns_are_counted_as_their_rows_one_by_one() -> None:
    rows = 2 * CHUNK + 5
    given, pane = columns(rows, 3), np.random.default_rng(2).integers(0, 3, rows)
    apart = np.zeros((3, LEARNT.cells), np.int64)
    for start in range(0, rows, 61):
        part = slice(start, start + 61)
        apart += LEARNT.count({name: each[part] for name, each in given.items()}, pane[part], 3)
    assert np.array_equal(LEARNT.count(given, pane, 3), apart)
