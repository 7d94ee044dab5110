"""A world that comes back is recognised, another one is not."""

import numpy as np
import pyarrow as pa

from schemas.bins_learning import learn
from schemas.reference import Reference
from services.drift.domain.archived import likeness
from tests.unit.services.drift.watched import A, Floats

ALARM = float(np.log(A))
ROWS = 4_000


def rows(seed: int, mean: float, cities: int, count: int = ROWS) -> dict[str, pa.Array]:
    random = np.random.default_rng(seed)
    values: Floats = random.normal(mean, 1, count)
    return {
        "steady": pa.array(random.normal(size=count)),
        "moving": pa.array(np.exp(values)),
        "whole": pa.array(np.floor(values)),
        "city": pa.array([f"c{each}" for each in random.integers(cities, cities + 4, count)]),
    }


def world(seed: int, mean: float, cities: int = 0) -> Reference:
    given = rows(seed, mean, cities)
    bins = learn(
        pa.record_batch(given), {"steady": "number", "moving": "number", "whole": "number", "city": "category"}
    )
    return Reference.of(bins, bins.count(given, np.arange(ROWS) // 100, ROWS // 100, learnt=True))


def judged(current: Reference, archived: Reference, recent: dict[str, pa.Array]) -> float:
    counts = current.bins.count(recent, np.zeros(len(recent["city"]), int), 1)[0]
    return likeness(current, archived, "features", counts, {})


OLD, NOW = world(1, 0), world(2, 1)


def test_a_world_that_returned_fits_its_archived_reference_better() -> None:
    assert judged(NOW, OLD, rows(3, 0, 0, 300)) > ALARM


def test_the_present_world_and_one_that_is_new_do_not() -> None:
    assert judged(NOW, OLD, rows(4, 1, 0, 300)) < 0
    assert judged(NOW, OLD, rows(5, 2.5, 0, 300)) < 0


def test_returning_categories_are_recognised_by_name() -> None:
    now, before, other = world(2, 0, cities=50), world(1, 0, cities=0), world(3, 0, cities=52)
    assert judged(now, before, rows(4, 0, 0, 300)) > ALARM
    assert judged(now, other, rows(4, 0, 52, 300)) > ALARM
    assert judged(now, other, rows(4, 0, 50, 300)) < 0


def test_evidence_of_rows_that_depend_on_each_other_counts_less() -> None:
    counts = NOW.bins.count(rows(3, 0, 0, 300), np.zeros(300, int), 1)[0]
    free = likeness(NOW, OLD, "features", counts, {})
    tied = likeness(NOW, OLD, "features", counts, dict.fromkeys(range(len(NOW.bins.streams)), 10.0))
    assert 0 < tied < free / 5


def test_references_without_a_common_stream_have_nothing_in_common() -> None:
    other = Reference.of(learn(pa.record_batch({"z": pa.array([1.0])}), {"z": "number"}), np.zeros((0, 83), np.int32))
    assert judged(NOW, other, rows(3, 0, 0, 300)) == -np.inf
