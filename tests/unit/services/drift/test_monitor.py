"""The statistic of one family: silent where nothing changes, quick where something does, the same after a restart."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.signal import lfilter

from schemas.bins_learning import learn
from schemas.reference import Reference
from services.drift.domain.monitor import Monitor
from services.drift.domain.monitor_state import BadStateError
from tests.unit.services.drift.watched import PANE, A, Floats, columns, counted, first_alarm, judge, reference, types

FEATURES = 5


def normal(seed: int, rows: int, features: int = FEATURES) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, features))


def autocorrelated(seed: int, rows: int, phi: float) -> Floats:
    noise = normal(seed, rows + 500) * np.sqrt(1 - phi**2)
    found: Floats = lfilter([1], [1, -phi], noise, axis=0)[500:]
    return found


REFERENCE = reference(normal(0, 5_000))


def monitor(of: Reference = REFERENCE) -> Monitor:
    return Monitor(of, "features", A)


def test_fifty_thousand_rows_without_a_change_raise_no_alarm() -> None:
    assert first_alarm(monitor(), counted(REFERENCE.bins, normal(1, 50_000))) is None


@pytest.mark.parametrize("seed", range(3))
def test_half_a_standard_deviation_in_one_feature_is_found_and_named(seed: int) -> None:
    rows = normal(10 + seed, 8_000)
    rows[5_000:, 2] += 0.5
    watching = monitor()
    alarm = first_alarm(watching, counted(REFERENCE.bins, rows))
    assert alarm is not None
    assert 0 < (alarm + 1) * PANE - 5_000 <= 300
    leading, *_ = watching.suspects()
    assert REFERENCE.bins.streams[leading.stream].name == "f2"
    assert abs(leading.start - 5_000 // PANE) <= 4


def test_the_dependence_of_features_is_watched_though_each_of_them_stays_the_same() -> None:
    both = normal(3, 12_000, 2)
    dependent = np.column_stack((both[:, 0], 0.8 * both[:, 0] + 0.6 * both[:, 1]))
    known = reference(dependent[:5_000])
    rows = dependent[5_000:]
    rows[3_000:] = normal(4, 4_000, 2)
    watching = monitor(known)
    alarm = first_alarm(watching, counted(known.bins, rows))
    assert alarm is not None
    assert 0 < (alarm + 1) * PANE - 3_000 <= 150
    assert known.bins.streams[watching.suspects()[0].stream].kind == "score"


def test_missing_values_are_a_change() -> None:
    rows = normal(5, 3_000)
    rows[1_000:, 1][np.random.default_rng(0).random(2_000) < 0.05] = np.nan
    alarm = first_alarm(monitor(), counted(REFERENCE.bins, rows))
    assert alarm is not None
    assert 1_000 < alarm * PANE < 1_500


@pytest.mark.parametrize("phi", [0.5, 0.9])
def test_autocorrelated_rows_raise_no_alarm_though_their_counts_vary_more_than_exchangeable_ones(phi: float) -> None:
    rows = autocorrelated(6, 40_000, phi)
    known = reference(rows[:20_000])
    watching = monitor(known)
    assert watching.dependence[:FEATURES].min() > 2
    assert set(watching.judged.values()) == {False}
    assert first_alarm(watching, counted(known.bins, rows[20_000:])) is None


def test_categories_that_last_raise_no_alarm_though_their_forecasts_errors_come_in_waves() -> None:
    random, size = np.random.default_rng(1), 90_000
    begun = np.maximum.accumulate(np.where(random.random(size) < 0.1, np.arange(size), 0))
    cities = pa.array([f"c{each}" for each in random.choice(4, size, p=[0.4, 0.3, 0.2, 0.1])[begun].tolist()])
    bins = learn(pa.record_batch({"city": cities[:30_000]}), {"city": "category"})
    panes = bins.count({"city": cities}, np.arange(size) // PANE, size // PANE)
    watching = monitor(Reference.of(bins, panes[:1_200]))
    assert watching.judged == {0: False}
    assert first_alarm(watching, panes[1_200:]) is None


def test_a_change_of_autocorrelated_rows_is_found() -> None:
    rows = autocorrelated(7, 26_000, 0.5)
    rows[23_000:, 0] += 1
    known = reference(rows[:20_000])
    watching = monitor(known)
    alarm = first_alarm(watching, counted(known.bins, rows[20_000:]))
    assert alarm is not None
    assert 0 < (alarm + 1) * PANE - 3_000 <= 1_000
    assert known.bins.streams[watching.suspects()[0].stream].name == "f0"


def test_streams_of_too_few_effective_rows_are_not_judged() -> None:
    assert monitor(reference(normal(0, 900))).judged == {}
    few = monitor(reference(autocorrelated(8, 5_000, 0.9)))
    assert judge(few, counted(REFERENCE.bins, normal(1, 2_000) + 5))[-1].statistic == -np.inf


@pytest.mark.parametrize("rows", [normal(9, 3_000), autocorrelated(9, 23_000, 0.6)], ids=["plain", "whitened"])
@pytest.mark.parametrize("cut", [1, 37])
def test_a_monitor_that_resumes_goes_on_bit_for_bit(rows: Floats, cut: int) -> None:
    known = reference(rows[: len(rows) - 1_000])
    panes = counted(known.bins, rows[-1_000:] + np.linspace(0, 1, 1_000)[:, None])
    through, before, behind = monitor(known), monitor(known), monitor(known)
    whole = judge(through, panes)
    judge(before, panes[:cut])
    behind.resume(before.checkpoint())
    again = [behind.judge(counts, cut + index) for index, counts in enumerate(panes[cut:])]
    assert again == whole[cut:]
    assert behind.checkpoint() == through.checkpoint()
    assert behind.suspects() == through.suspects()


def test_a_checkpoint_of_twenty_features_is_small() -> None:
    rows = normal(1, 3_000, 20)
    assert len(monitor(reference(rows)).checkpoint()) < 32_000
    moving = np.asarray(lfilter([1], [1, -0.6], normal(2, 12_000, 20), axis=0))
    whitened = monitor(reference(moving))
    assert set(whitened.judged.values()) == {False}
    assert len(whitened.checkpoint()) < 96_000


def test_a_stratum_adds_little_to_the_checkpoint() -> None:
    panes = reference(normal(1, 3_000, 20))
    hours = Reference.of(panes.bins, panes.panes, np.arange(len(panes.panes)) % 24, ["hour_of_day"])
    assert len(monitor(hours).checkpoint()) - len(monitor(panes).checkpoint()) < 23 * 32_000


def test_a_state_of_another_reference_is_refused() -> None:
    watching = monitor()
    with pytest.raises(BadStateError, match="counted"):
        watching.resume(monitor(reference(normal(0, 5_000, 3))).checkpoint())
    with pytest.raises(BadStateError, match="Arrow"):
        watching.resume(b"nothing")


def test_panes_without_rows_change_nothing() -> None:
    panes = counted(REFERENCE.bins, normal(1, 500))
    empty = np.zeros_like(panes[0])
    mixed = [each for counts in panes for each in (empty, counts, empty)]
    assert judge(monitor(), mixed)[-1].statistic == judge(monitor(), panes)[-1].statistic


def test_strange_features_neither_break_nor_blind_the_others() -> None:
    rows = np.concatenate((normal(1, 8_000, 3), np.full((8_000, 1), 4.0), np.full((8_000, 1), np.nan)), axis=1)
    rows = np.column_stack((rows, np.arange(8_000)))
    rows[:, 2] = np.where(np.arange(8_000) < 5_000, np.nan, rows[:, 2])
    known = reference(rows[:3_000, :5])
    quiet, moved = rows[3_000:5_000, :5], rows[3_000:6_000, :5].copy()
    assert first_alarm(monitor(known), counted(known.bins, quiet)) is None
    moved[1_000:, 2] = np.nan
    moved[1_000:, 0] += 1
    watching = monitor(known)
    alarm = first_alarm(watching, counted(known.bins, moved))
    assert alarm is not None
    assert 1_000 < (alarm + 1) * PANE <= 1_100
    assert known.bins.streams[watching.suspects()[0].stream].name == "f0"


@pytest.mark.parametrize("becomes", [np.nan, 5.0])
def test_a_constant_that_changes_is_found(becomes: float) -> None:
    rows = np.column_stack((normal(1, 6_000, 2), np.full(6_000, 4.0)))
    known = reference(rows[:4_000])
    rows[5_000:, 2] = becomes
    alarm = first_alarm(monitor(known), counted(known.bins, rows[4_000:]))
    assert alarm == 1_000 // PANE


def test_a_category_of_values_that_never_repeat_stays_silent_and_new_values_of_a_known_one_do_not() -> None:
    def given(start: int, fresh: float) -> dict[str, pa.Array]:
        random = np.random.default_rng(start)
        cities = [f"new{i}" if random.random() < fresh else f"c{random.integers(6)}" for i in range(4_000)]
        return {"id": pa.array([f"u{start + i}" for i in range(4_000)]), "city": pa.array(cities)}

    known = given(0, 0)
    bins = learn(pa.record_batch(known), {"id": "category", "city": "category"})
    panes = np.arange(4_000) // PANE
    world = Reference.of(bins, bins.count(known, panes, 160, learnt=True))
    assert first_alarm(monitor(world), bins.count(given(10_000, 0), panes, 160)) is None
    watching = monitor(world)
    alarm = first_alarm(watching, bins.count(given(20_000, 0.05), panes, 160))
    assert alarm is not None
    assert alarm < 12
    assert bins.streams[watching.suspects()[0].stream].name == "city"


def test_a_rate_of_rows_counts_rows() -> None:
    rows = normal(1, 2_000)
    by_panes, by_rows = (Monitor(REFERENCE, "features", A, by_rows=each) for each in (False, True))
    panes, of_rows = (judge(each, counted(REFERENCE.bins, rows))[-1].statistic for each in (by_panes, by_rows))
    assert of_rows == pytest.approx(panes + np.log(PANE), abs=1e-4)


def daily(seed: int, days: int) -> tuple[Floats, np.ndarray]:
    """A row a minute whose mean follows the hour of the day by two standard deviations."""
    minutes = np.arange(days * 1_440)
    rows = normal(seed, len(minutes), 2)
    rows[:, 0] += 2 * np.sin(2 * np.pi * minutes / 1_440)
    return rows, (minutes[::15] // 60) % 24


def test_a_daily_cycle_is_no_change_where_the_hours_are_strata_and_a_change_within_it_is() -> None:
    rows, strata = daily(2, 40)
    known_rows, panes_known = 14 * 1_440, 14 * 96
    bins = learn(pa.record_batch(columns(rows[:known_rows])), types(rows))
    past = counted(bins, rows[:known_rows], 15, learnt=True)
    world = Reference.of(bins, past, strata[:panes_known], ["hour_of_day"])
    panes = counted(bins, rows[known_rows:], 15)
    watching = monitor(world)
    quiet = [watching.judge(each, i, int(strata[panes_known + i])).alarm for i, each in enumerate(panes)]
    assert not any(quiet)
    rows[known_rows + 14_400 :, 0] += 0.7
    changed, watching = counted(bins, rows[known_rows:], 15), monitor(world)
    found = [watching.judge(each, i, int(strata[panes_known + i])).alarm for i, each in enumerate(changed[:1_100])]
    assert not any(found[:960])
    assert any(found[960:])


def test_a_stratum_that_was_visited_once_is_not_judged() -> None:
    rows, strata = daily(3, 3)
    bins = learn(pa.record_batch(columns(rows)), types(rows))
    world = Reference.of(bins, counted(bins, rows, 15, learnt=True)[:100], strata[:100], ["hour_of_day"])
    watching = monitor(world)
    strange = counted(bins, rows[:150] + 9, 15)
    assert world.visits[[0, 5]].tolist() == [2, 1]
    assert not any(watching.judge(each, i, 5).alarm for i, each in enumerate(strange))
