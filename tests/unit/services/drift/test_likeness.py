"""Rows that resemble their neighbours: one value for a while is no sign of a broken sensor there."""

import numpy as np
import pyarrow as pa
import pytest

from schemas.bins_learning import learn
from schemas.quantities import Rate
from schemas.reference import Reference
from services.drift.domain.door import FATES
from services.drift.domain.evidence import Episode
from services.drift.domain.judge import Judge
from services.drift.domain.likeness import lasting, resemblance, weighed
from services.drift.domain.opening import shapes
from services.drift.domain.pane_counts import OK, PaneCounts
from services.drift.domain.recent import Bucket
from services.drift.domain.shapes import Floats, Shape
from services.drift.domain.standing import Rules
from tests.unit.services.drift.watched import PANE, columns, counted, reference, types

MINUTE, FEATURES = 60_000, 12
RULES = Rules(pane=MINUTE, settle=1_000, rate=Rate(count=1, per_ms=30 * 24 * 60 * MINUTE))


def independent(random: np.random.Generator, rows: int) -> Floats:
    return random.lognormal(0, 2, (rows, FEATURES))


def in_runs(random: np.random.Generator, rows: int, longest: int) -> Floats:
    """Rows of six classes that come one after the other, each with values of its own in all features."""
    middles = np.exp(2 * random.normal(size=(6, FEATURES)))
    classes = np.repeat(random.integers(0, 6, rows), random.integers(longest // 4, longest, rows))[:rows]
    return middles[classes] * random.lognormal(0, 0.02, (rows, FEATURES))


def sample(known: Reference, values: Floats) -> list[Shape]:
    counts = counted(known.bins, values).sum(0, dtype=np.int64)
    return shapes(known, Bucket(0, 0, 0, counts, np.array([len(values)])))


def opened(known: Reference, values: Floats) -> list[Episode]:
    judge, quality = Judge(RULES, {1: known}.get), np.zeros((1, len(FATES)), np.int64)
    quality[0, FATES.index(OK)] = PANE
    panes = counted(known.bins, values)
    told = [judge.events(PaneCounts(i, 1, (0,), each[None], quality)) for i, each in enumerate(panes)]
    return [each.opened for one in told for each in one if each.opened is not None]


@pytest.mark.parametrize("seed", range(6))
def test_runs_of_a_class_that_a_short_reference_has_not_seen_are_no_bad_data(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = in_runs(random, 4_000, 400)
    found = opened(reference(values[: 15 * PANE]), values[15 * PANE :])
    assert [each.reason for each in found if each.kind == "bad_data"] == []


@pytest.mark.parametrize("seed", range(6))
def test_a_sensor_that_is_stuck_is_found_where_rows_are_independent(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = independent(random, 4_000)
    values[3_000:, 3] = values[2_999, 3]
    found = opened(reference(values[: 80 * PANE]), values[80 * PANE :])
    assert [(each.cause, each.reason) for each in found] == [("stuck", "f3 no longer changes")]


def test_independent_rows_do_not_resemble_each_other_and_one_feature_does_not_speak_for_all() -> None:
    random = np.random.default_rng(1)
    known = reference(independent(random, 5_000))
    for rows in (25, 100, 1_000):
        values = independent(random, rows)
        assert resemblance(sample(known, values)) == 1.0
        values[:, 0] *= 1_000
        assert resemblance(sample(known, values)) == 1.0


def test_a_run_of_one_class_resembles_itself_more_the_longer_it_is() -> None:
    random = np.random.default_rng(2)
    middles = np.repeat(independent(random, 40), PANE, axis=0)
    known = reference(middles * random.lognormal(0, 0.1, middles.shape))
    run = independent(random, 1) * random.lognormal(0, 0.1, (400, FEATURES))
    told = [resemblance(sample(known, run[:rows])) for rows in (50, 100, 400)]
    assert 2 < told[0] < told[1] < told[2]


def test_a_part_of_the_rows_does_not_resemble_itself_more_than_all_of_them() -> None:
    random = np.random.default_rng(3)
    known = reference(independent(random, 5_000))
    every, part = sample(known, independent(random, 400)), sample(known, 3 * independent(random, 100))
    assert resemblance(part) > 1.5
    assert {each.likeness for one in weighed([every, part], None) for each in one} == {1.0}


def test_a_feature_may_stay_as_long_as_in_the_reference() -> None:
    """Twenty stretches of 25 rows: the first feature never changes in one of them, the second in one of ten."""
    random = np.random.default_rng(4)
    values = random.normal(size=(500, 3))
    values[:, 0] = np.repeat(np.arange(20), 25)
    values[:50, 1] = -3.0
    known = reference(values)
    numeric = [i for i, each in enumerate(known.bins.streams) if each.kind == "numeric"]
    found = lasting(known)
    assert found is not None
    assert found[numeric] == pytest.approx([21, 21 / 19, 1])


def test_short_panes_are_put_together_and_of_a_reference_without_panes_nobody_knows() -> None:
    values = np.random.default_rng(5).normal(size=(500, 3))
    bins = learn(pa.record_batch(columns(values)), types(values))
    short = Reference.of(bins, counted(bins, values, 1, learnt=True))
    found = lasting(short)
    assert found is not None
    assert found[[i for i, each in enumerate(bins.streams) if each.kind == "numeric"]].tolist() == [1, 1, 1]
    assert lasting(Reference.of(bins, np.zeros((0, bins.cells), np.int32))) is None
    assert lasting(None) is None


def test_it_takes_as_many_more_rows_as_are_worth_one() -> None:
    random = np.random.default_rng(6)
    known = reference(independent(random, 5_000))
    (found,) = weighed([sample(known, independent(random, 100))], np.full(len(known.bins.streams), 4.0))
    assert {each.likeness for each in found} == {4.0}
