"""Changes of all sorts are called by their names: a smaller run of `benchmarks.triage`."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.triage import summary, table
from benchmarks.triage_worlds import CHANGES, Change, World, called, episodes
from schemas.bins import Stream
from schemas.bins_codes import MAGNITUDES, OCTAVES, RANKS, ZERO
from services.drift.domain.recent import Recent
from services.drift.domain.shapes import Floats, Shape, newcomers, placed, stuck, unit
from services.drift.domain.triage import lone_source, triage

SIZES = Stream("price", "features", "magnitude", lowest=-16)
RANKED = Stream("price", "features", "numeric", edges=tuple(float(i) for i in range(15)))


@cache
def world() -> World:
    return World(3)


@pytest.mark.parametrize("change", CHANGES, ids=[each.name for each in CHANGES])
def test_a_change_is_called_by_its_name(change: Change) -> None:
    assert called(change, episodes(world(), change, 5)) == change.called


def test_the_matrix_says_what_was_named_right_and_who_was_blamed() -> None:
    found = {each.name: {each.called: 3} for each in CHANGES} | {"covariate": {"covariate": 2, "unit": 1}}
    figures = summary(found)
    assert figures["named_right"] == pytest.approx(1 - 1 / (3 * len(CHANGES)))
    assert figures["genuine_called_bad_data"] == 1
    assert "| covariate | 1 |" in table(found, figures)


def sizes(values: np.ndarray) -> np.ndarray:
    found = np.zeros(MAGNITUDES)
    step = np.clip(np.frexp(values)[1] - 1 + 16, 0, OCTAVES - 1)
    np.add.at(found, np.where(values > 0, ZERO + 1 + step, ZERO - 1 - step), 1)
    return found


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1000.0, 100.0, 60.0, 0.01, 0.001]))
def test_a_factor_is_found_and_of_what_size_it_is(seed: int, factor: float) -> None:
    random = np.random.default_rng(seed)
    before, after = random.lognormal(0, 1, 5_000), random.lognormal(0, 1, 60) * factor
    found = unit(Shape(SIZES, sizes(before), sizes(after)))
    assert found == pytest.approx(np.log2(factor), abs=1.2)


def shaped(kind: str, latent: np.ndarray) -> np.ndarray:
    shapes: dict[str, np.ndarray] = {
        "normal": latent,
        "lognormal": np.exp(latent),
        "uniform": np.tanh(latent) / 2 + 0.5,
    }
    return shapes[kind]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(-2, 2), st.sampled_from(["normal", "lognormal", "uniform"]))
def test_a_shift_of_two_standard_deviations_is_no_factor(seed: int, by: float, kind: str) -> None:
    random = np.random.default_rng(seed)
    before, after = (shaped(kind, random.normal(mean, 1, rows)) for mean, rows in ((0, 5_000), (by, 240)))
    assert unit(Shape(SIZES, sizes(before), sizes(after))) is None


def ranked(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.append(np.bincount(np.searchsorted(edges, values), minlength=RANKS - 1), 0).astype(float)


def as_ranked(before: np.ndarray, after: np.ndarray) -> Shape:
    edges = np.unique(np.quantile(before, np.arange(1, 16) / 16))
    stream = Stream("price", "features", "numeric", edges=tuple(edges.tolist()))
    return Shape(stream, ranked(edges, before), ranked(edges, after))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(-1, 3), st.floats(0.3, 2))
def test_what_has_changed_places_lies_between_the_edges_as_the_other_did(
    seed: int, middle: float, spread: float
) -> None:
    random = np.random.default_rng(seed)
    one, other = random.normal(0, 1, 5_000), random.normal(middle, spread, 5_000)
    assert placed(as_ranked(one, random.normal(middle, spread, 200)), as_ranked(other, other))


def test_what_has_the_size_of_a_constant_has_not_changed_places_with_it() -> None:
    random = np.random.default_rng(1)
    demand, idle = random.uniform(0.1, 0.6, 5_000), np.full(5_000, 0.4149)
    assert not placed(as_ranked(demand, random.uniform(0.26, 0.49, 200)), as_ranked(idle, idle))


def test_one_value_is_stuck_but_what_has_left_the_range_is_not() -> None:
    usual, still = np.append(np.full(RANKS - 1, 100.0), 0), np.zeros(RANKS)
    wide, narrow = sizes(np.random.default_rng(1).lognormal(0, 2, 1_600)), np.zeros(MAGNITUDES)
    still[4], narrow[ZERO + 17] = 40, 40
    assert stuck(Shape(RANKED, usual, still), Shape(SIZES, wide, narrow))
    last = np.roll(still, RANKS - 2 - 4)
    assert stuck(Shape(RANKED, usual, last), Shape(SIZES, wide, narrow))  # a size that was usual
    beyond = np.roll(narrow, 9)
    assert not stuck(Shape(RANKED, usual, last), Shape(SIZES, wide, beyond))
    assert not stuck(Shape(RANKED, usual, last), Shape(SIZES, narrow, narrow))  # all have one size anyway


def test_a_value_that_was_common_before_is_never_stuck() -> None:
    usual, after, size = np.zeros(RANKS), np.zeros(RANKS), np.zeros(MAGNITUDES)
    usual[:4], after[2], size[ZERO + 17] = 400, 400, 400
    wide = sizes(np.random.default_rng(1).lognormal(0, 2, 1_600))
    assert not stuck(Shape(RANKED, usual, after), Shape(SIZES, wide, size))


def test_missing_values_that_carry_the_evidence_are_bad_data() -> None:
    usual, after = np.append(np.full(RANKS - 1, 100.0), 16), np.append(np.full(RANKS - 1, 10.0), 60)
    verdict = triage("features", [Shape(RANKED, usual, after)])
    assert (verdict.kind, verdict.cause) == ("bad_data", "missing")


@given(st.floats(0, 1), st.integers(200, 5_000))
def test_newcomers_are_what_the_old_distribution_does_not_explain(share: float, rows: int) -> None:
    usual, new = np.append(np.full(16, 1 / 16), 0), np.zeros(17)
    new[3] = 1
    fresh = newcomers(usual, rows * ((1 - share) * usual + share * new))
    assert fresh.sum() == pytest.approx(share * rows, abs=4)


EVEN = np.append(np.full(16, 1 / 16), 0)


def sample(random: np.random.Generator, rows: int) -> Floats:
    return random.multinomial(rows, EVEN).astype(np.float64)


@given(st.integers(0, 10_000), st.sampled_from([100, 1_000, 30_000]))
def test_where_nothing_has_changed_contrast_does_not_grow_with_the_rows_however_few_the_reference_has(
    seed: int, rows: int
) -> None:
    random = np.random.default_rng(seed)
    before = sample(random, 300)
    assert Shape(RANKED, before, sample(random, rows)).contrast < 30
    assert Shape(RANKED, before, np.eye(1, 17)[0] * rows).contrast > 60


def test_the_source_that_has_moved_is_told_from_those_of_few_rows_that_chance_has_placed() -> None:
    random, found = np.random.default_rng(5), []
    for one in (True, False) * 100:
        before, counts = sample(random, 400), random.multinomial(30, EVEN, size=4)
        counts[slice(1, 2 if one else 3)] = np.eye(1, 17, 15)[0] * 30
        source = lone_source(Shape(RANKED, before, counts.sum(0).astype(np.float64)), (4, 5, 6, 7), counts)
        found.append(source == (5 if one else None))
    assert np.mean(found) >= 0.99


@given(st.lists(st.integers(1, 30), min_size=1, max_size=300))
def test_recent_panes_add_up_and_the_newest_are_apart(rows: list[int]) -> None:
    recent = Recent()
    for pane, count in enumerate(rows):
        recent.add(pane, (0, 1), np.array([[count, 0], [0, count]], np.int32), np.array([2 * count]))
        recent.prune()
    behind = recent.behind()
    assert behind[0].counts.tolist() == [rows[-1], rows[-1]]
    assert [each.counts[0] for each in behind] == [sum(rows[each.first :]) for each in behind]
    assert len(behind) <= 2 * 10
    assert behind[-1].first == 0
