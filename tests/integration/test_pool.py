"""The pool over whole streams: a world that comes back, and data that lies."""

from __future__ import annotations

import numpy as np
import pytest

from tests.integration.worlds import LATE, World, row_of

PERIOD, RETURNS = 3_000, 4
USUAL = 0.95
"""Part of the old accuracy that has to be back."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_world_that_returns_is_answered_within_three_hundred_rows_and_without_a_fit() -> None:
    random = np.random.default_rng(7)
    rows = PERIOD * (RETURNS + 2)
    x, turned = random.normal(size=rows), (np.arange(rows) // PERIOD) % 2 == 1
    up = (x + 0.3 * random.normal(size=rows) > 0) ^ turned
    played = World(x, random.normal(size=rows), up).play()
    right = played.right(up)
    usual = np.nanmean(right[PERIOD - 1_000 : PERIOD])
    second = 3 * PERIOD  # the first return is that of the first world, at 2 periods
    for begin in range(second, rows, PERIOD):
        assert right[begin + 300 : begin + 1_300].mean() >= USUAL * usual, begin
    caused = [each for each in played.members() if each.cause.kind == "drift"]
    concept = [each for each in caused if not each.cause.id.endswith("/follow-up")]
    assert len(concept) == 1  # the second world's first time
    assert len(caused) <= 2
    recalled = played.decisions("recalled")
    assert len(recalled) >= 2
    assert all("knew this world" in each.reason for each in recalled)
    assert max(map(row_of, recalled)) > second
    seated = played.pools()[-1].members
    for world in (False, True):  # the second one answers at the end, the first one sleeps
        hits = [((x > 0) ^ world) == played.answers(each, x, x[::-1]) for each in seated]
        assert max(each.mean() for each in hits) >= USUAL * usual, world


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_neither_a_wrong_unit_nor_shuffled_labels_make_clean_rows_worse_than_no_training_would() -> None:
    random = np.random.default_rng(11)
    rows, wrong, shuffled = 13_000, slice(3_000, 5_000), slice(7_000, 9_000)
    x = random.normal(size=rows)
    truth = x + 0.3 * random.normal(size=rows) > 0
    seen, told = x.copy(), truth.copy()
    seen[wrong] *= 100
    liars = np.flatnonzero((np.arange(rows) % 2 == 0)[shuffled]) + shuffled.start
    told[liars] = random.permutation(told[liars])
    world = World(seen, random.normal(size=rows), told)
    trained, alone = world.play(), world.play(fits="1 per 365d")
    assert len(alone.members()) == 1
    assert len(trained.members()) > 1
    difference = trained.right(truth) - alone.right(truth)
    for clean in (slice(5_000, 7_000), slice(9_000, rows - LATE)):
        for begin in range(clean.start, clean.stop - 999, 500):
            assert difference[begin : begin + 1_000].mean() >= -0.01, begin
    assert trained.decisions("quarantined")
