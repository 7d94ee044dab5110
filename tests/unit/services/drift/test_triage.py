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
from services.drift.domain.shapes import Floats, Shape, newcomers, stuck, unit
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
EVEN = np.append(np.full(16, 1 / 16), 0)


def sample(random: np.random.Generator, rows: int, chances: Floats = EVEN) -> Floats:
    return random.multinomial(rows, chances).astype(np.float64)


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
