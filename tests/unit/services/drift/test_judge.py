"""Episodes of all families: one at a time each, closed for a reason, told apart, the same through any restart."""

from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.drift import delay
from benchmarks.triage_worlds import CHANGES, World
from benchmarks.triage_worlds import RULES as WORLDLY
from benchmarks.triage_worlds import panes as worldly
from schemas.bins import LABEL, LOSS, PREDICTION
from schemas.quantities import Rate
from schemas.reference import Reference
from services.drift.domain.door import FATES
from services.drift.domain.evidence import Episode, Transition
from services.drift.domain.judge import Judge
from services.drift.domain.keeping import BadCheckpointError
from services.drift.domain.pane_counts import PaneCounts
from services.drift.domain.standing import Rules
from services.drift.domain.watch import IN_FORCE, NEW_ANCHOR, RELEASED, RIGHT_AGAIN
from tests.unit.services.drift.judged import (
    RULES,
    TYPES,
    Panes,
    Rows,
    Stretch,
    drawn,
    judged,
    learnt,
    one,
    panes,
    reference,
    run,
    shifted,
    times,
    told,
)

OPENED, CLOSED = "opened", "closed"
MOVED = shifted(1.5)


def two(member: int) -> Reference | None:
    """The second member was fitted on the rows that have moved."""
    return reference(0.0 if member == 1 else 1.5)


def test_a_quiet_stream_has_no_episode() -> None:
    assert run(Stretch(300)) == []


def test_a_change_of_a_feature_opens_one_episode_and_is_never_told_twice() -> None:
    found = run(Stretch(40), Stretch(420, edit=MOVED))  # 21,000 rows behind it
    assert told(found) == [("features", OPENED, "covariate"), ("features", CLOSED, IN_FORCE)]


def test_an_episode_says_what_moved_since_when_and_by_how_much() -> None:
    (episode,) = [each.opened for each in run(Stretch(60), Stretch(20, edit=MOVED)) if each.opened]
    leading = episode.streams[0]
    assert (leading.name, leading.kind) == ("a", "numeric")
    assert leading.effect == pytest.approx(1.5, abs=0.3)
    assert 58 <= episode.start // RULES.pane <= 62 <= episode.at // RULES.pane + 2
    assert episode.statistic >= episode.threshold == pytest.approx(np.log10(43_200 / 0.25), abs=1e-3)
    assert len(leading.bins) == len(leading.before) == len(leading.after)
    assert len(episode.streams) <= 5
    assert len(episode.history) <= 120
    assert Episode.read(episode.told()) == episode


def test_a_new_anchor_closes_the_episode_and_brings_its_own_reference() -> None:
    found = run(Stretch(40), Stretch(12, edit=MOVED), Stretch(100, member=2, edit=MOVED), references=two)
    assert told(found) == [("features", OPENED, "covariate"), ("features", CLOSED, NEW_ANCHOR)]


def test_rows_of_an_older_member_are_not_judged_behind_a_newer_one() -> None:
    stale = [Stretch(1, member=2), Stretch(60, member=1, edit=MOVED)]
    assert run(Stretch(40), *stale, references=lambda _: reference()) == []


def test_errors_that_rise_open_a_concept_episode_that_ends_with_the_settled_rows() -> None:
    found = run(Stretch(60), Stretch(60, wrong=0.4))
    assert told(found) == [("concept", OPENED, "concept"), ("concept", CLOSED, IN_FORCE)]


def test_without_a_reference_errors_alone_are_judged() -> None:
    found = run(Stretch(60), Stretch(60, wrong=0.4), references=lambda _: None)
    assert told(found) == [("concept", OPENED, "concept"), ("concept", CLOSED, IN_FORCE)]
    assert [each.opened.detector for each in found if each.opened] == ["adwin"]


def test_losses_that_rise_while_answers_stay_right_are_a_change_of_concept() -> None:
    def worse(rows: Rows) -> Rows:
        return rows | {LOSS: np.where(np.asarray(rows[LOSS]) < 0.5, 0.3, 1.0)}

    found = run(Stretch(60), Stretch(20, edit=worse))
    assert [(each.opened.family, each.opened.detector) for each in found if each.opened] == [("concept", "counts")]


def test_losses_that_fall_open_nothing() -> None:
    def better(rows: Rows) -> Rows:
        return rows | {LOSS: np.asarray(rows[LOSS]) * 0.0001}

    assert run(Stretch(60), Stretch(60, edit=better)) == []


@pytest.mark.parametrize(
    ("name", "family"), [(PREDICTION, "prediction"), (LABEL, "label")], ids=["prediction", "label"]
)
def test_a_family_alarms_alone_where_the_others_are_quiet(name: str, family: str) -> None:
    def more(rows: Rows) -> Rows:
        return rows | {name: np.maximum(np.asarray(rows[name]), np.arange(len(rows["a"])) % 2)}

    found = run(Stretch(40), Stretch(40, edit=more))
    assert told(found)[0] == (family, OPENED, family)
    assert {each.family for each in found} == {family}


def test_an_open_episode_hides_no_change_of_another_family() -> None:
    both = Stretch(40, edit=MOVED, wrong=0.4)
    found = told(run(Stretch(40), Stretch(6, edit=MOVED), both))
    assert ("features", OPENED, "covariate") in found
    assert ("concept", OPENED, "concept") in found


def test_bad_data_is_named_with_its_source_and_over_when_it_is_right_again() -> None:
    found = run(Stretch(60), Stretch(60, edit=times(100, source=1)), Stretch(80))
    assert told(found) == [("features", OPENED, "bad_data"), ("features", CLOSED, RIGHT_AGAIN)]
    episode = found[0].opened
    assert episode is not None
    assert (episode.cause, episode.streams[0].source, episode.source) == ("unit", 1, 1)
    assert episode.reason == "c arrives 100 times too large, from source events/1 alone"


def test_bad_data_is_over_when_settled_rows_are_right_and_not_a_block_later() -> None:
    mended = 60 + 37
    closed = run(Stretch(60), Stretch(mended - 60, edit=times(100)), Stretch(80))[-1]
    assert closed.reason == RIGHT_AGAIN
    assert closed.pane == mended - 1 + RULES.settle // 50


@pytest.mark.parametrize("seed", [2_000, 2_006, 2_013])
def test_values_that_go_on_missing_now_and_then_are_one_episode(seed: int) -> None:
    """One row in twenty for 25,000 rows: blocks of rows in which few are missing by chance do not end it."""
    found, again = delay("missing", seed, 25)
    assert found is not None
    assert again == 0


def test_behind_bad_data_the_reference_is_the_old_one() -> None:
    found = run(Stretch(60), Stretch(20, edit=times(100)), Stretch(80), Stretch(40, edit=MOVED))
    bad, covariate = (each.opened for each in found if each.opened)
    assert (bad.kind, covariate.kind) == ("bad_data", "covariate")
    assert covariate.streams[0].name == "a"
    assert covariate.start >= 155 * RULES.pane, "rows that were bad tell nothing of the next change"


def test_refused_rows_are_bad_data_and_fewer_of_them_are_none() -> None:
    found = run(Stretch(60), Stretch(30, reason="wrong_type"), Stretch(60))
    assert told(found) == [("quality", OPENED, "bad_data"), ("quality", CLOSED, RIGHT_AGAIN)]
    assert [each.opened.cause for each in found if each.opened] == ["schema"]
    assert run(Stretch(60, reason="late"), Stretch(60)) == []


def test_a_budget_of_rows_is_kept_as_one_of_time() -> None:
    rules = Rules(RULES.pane, 1_000, Rate(count=1, per_rows=1_000_000))
    given = panes([Stretch(60), Stretch(20, edit=times(100)), Stretch(60), Stretch(40, edit=MOVED)], one)
    found = judged(given, one, Judge(rules, one))
    kinds = [each.opened.kind for each in found if each.opened]
    assert kinds == ["bad_data", "covariate"]
    assert [each.opened.threshold for each in found if each.opened] == [pytest.approx(np.log10(4e6), abs=1e-3)] * 2


def slow(rows: Rows) -> Rows:
    """Each feature drifts slowly about its mean: rows depend on each other."""
    count = len(rows["a"])
    wave = np.repeat(np.random.default_rng(5).normal(size=count // 100 + 1), 100)[:count]
    return rows | {name: np.asarray(rows[name]) + wave for name in TYPES}


def test_an_episode_of_features_that_depend_on_their_past_closes_too() -> None:
    known = learnt(slow(drawn(np.random.default_rng(9), 20_000)))
    found = run(Stretch(20), Stretch(60, edit=shifted(30)), references=lambda _: known)
    assert [each.closed.family for each in found if each.closed] == ["features"]


def test_a_released_episode_is_over_and_what_comes_is_normal() -> None:
    judge = Judge(RULES, one)
    odd = Stretch(250, edit=times(100))
    given = panes([Stretch(60), odd], one)
    found = judged(given[:80], one, judge)
    (episode,) = [each.opened for each in found if each.opened]
    assert judge.release("another") == []
    assert told(judge.release(episode.id)) == [("features", CLOSED, RELEASED)]
    assert judged(given[80:], one, judge) == []


def test_a_world_that_comes_back_is_named_with_the_member_that_knew_it() -> None:
    found = run(Stretch(40), Stretch(60, edit=MOVED), Stretch(60))
    kinds = [(each.opened.kind, each.opened.recurs) for each in found if each.opened]
    assert kinds == [("covariate", None), ("recurring", 1)]


def test_an_earlier_anchor_is_asked_too_and_a_world_that_nobody_knew_is_not_recurring() -> None:
    known = [Stretch(40), Stretch(60, member=2, edit=MOVED)]
    back = run(*known, Stretch(40, member=2), references=two)
    assert [(each.opened.kind, each.opened.recurs) for each in back if each.opened] == [("recurring", 1)]
    beyond = run(*known, Stretch(40, member=2, edit=shifted(-1.5)), references=two)
    assert [each.opened.kind for each in beyond if each.opened] == ["covariate"]


ODD = {**TYPES, "d": "category"}


def odd(rows: Rows) -> Rows:
    """One constant feature, one without values, one category whose values are all different."""
    count = len(rows["a"])
    unique = pa.array([f"{each:.12f}" for each in np.asarray(rows["d"])])
    return rows | {"b": np.full(count, 7.0), "c": np.full(count, np.nan), "d": unique}


def test_constant_empty_and_unique_features_neither_alarm_nor_blind() -> None:
    known = learnt(odd(drawn(np.random.default_rng(9), 6_000)), ODD)
    found = run(Stretch(100, edit=odd), Stretch(40, edit=lambda rows: odd(MOVED(rows))), references=lambda _: known)
    assert told(found) == [("features", OPENED, "covariate"), ("features", CLOSED, IN_FORCE)]
    assert found[0].pane >= 100


def test_a_feature_that_only_a_newer_member_has_breaks_nothing() -> None:
    narrow = learnt(drawn(np.random.default_rng(9), 6_000), {name: TYPES[name] for name in ("a", "b", "c")})
    found = run(
        Stretch(40),
        Stretch(60, member=2),
        Stretch(40, member=2, edit=shifted(1, "d")),
        references=lambda member: narrow if member == 1 else reference(),
    )
    assert told(found)[0] == ("features", OPENED, "covariate")
    assert found[0].pane >= 100


# --- a fold ---------------------------------------------------------------------------------------------


@cache
def story() -> Panes:
    """Bad data, a change, a return, errors, refused rows and another member, one behind the other."""
    return panes(
        [
            Stretch(30),
            Stretch(8, edit=times(100)),
            Stretch(50),
            Stretch(28, edit=MOVED),
            Stretch(30, wrong=0.4),
            Stretch(12, member=2, edit=MOVED, reason="late"),
            Stretch(20, member=2, edit=MOVED, wrong=0.5),
        ],
        two,
    )


@cache
def straight() -> list[Transition]:
    return judged(story(), two)


def test_the_story_has_all_sorts_of_episodes() -> None:
    kinds = {each.opened.kind for each in straight() if each.opened}
    assert kinds == {"bad_data", "covariate", "recurring", "concept"}


@settings(max_examples=8, deadline=None)
@given(st.sets(st.integers(1, 170), min_size=1, max_size=4))
def test_a_restart_behind_any_pane_changes_nothing(cuts: set[int]) -> None:
    found, judge, given_panes = [], Judge(RULES, two), story()
    for index, (pane, errors) in enumerate(given_panes):
        if index in cuts:
            kept, judge = judge.checkpoint(), Judge(RULES, two)
            judge.resume(kept)
            events, labels = judge.since
            for again, wrong in given_panes[max(0, labels - 1) : index]:  # more than it asked for
                assert judge.labels(again, wrong) == []
            assert events == index
        found += [*judge.events(pane), *judge.labels(pane, errors)]
    assert found == straight()


def test_panes_that_come_twice_change_nothing() -> None:
    judge = Judge(RULES, two)
    found = [each for pane, _ in story() for _ in range(2) for each in judge.events(pane)]
    assert found == [each for each in straight() if each.family not in ("concept", "label")]


def test_the_lanes_may_come_in_any_order() -> None:
    judge = Judge(RULES, two)
    labels = [each for pane, errors in story() for each in judge.labels(pane, errors)]
    events = [each for pane, _ in story() for each in judge.events(pane)]
    assert sorted(map(repr, labels + events)) == sorted(map(repr, straight()))


def test_however_rows_are_spread_over_partitions_the_episodes_are_the_same() -> None:
    whole = [
        (
            replace(
                pane, sources=(3,), counts=pane.counts.sum(0, dtype=np.int32)[None], quality=pane.quality.sum(0)[None]
            ),
            errors,
        )
        for pane, errors in story()
    ]
    assert [_placeless(each) for each in judged(whole, two)] == [_placeless(each) for each in straight()]


def _placeless(each: Transition) -> tuple[object, ...]:
    opened = each.opened
    if opened is None:
        return each.family, each.pane, each.reason
    return each.family, each.pane, opened.id, opened.kind, opened.cause, opened.statistic, opened.start, opened.recurs


def test_foreign_bytes_are_no_checkpoint() -> None:
    judge = Judge(RULES, one)
    with pytest.raises(BadCheckpointError, match="cannot be read"):
        judge.resume({**judge.checkpoint(), "features": b"nonsense"})
    with pytest.raises(BadCheckpointError, match="no quality"):
        judge.resume({family: value for family, value in judge.checkpoint().items() if family != "quality"})


@pytest.mark.parametrize("length", [25, 500])
def test_a_checkpoint_of_twenty_features_and_as_many_scores_has_at_most_128_kilobytes(length: int) -> None:
    world = World(0)
    rows = world.changed(CHANGES[9], np.random.default_rng(1))
    judge, most = Judge(WORLDLY, {1: world.reference}.get), 0
    for index, (events, labels, errors) in enumerate(worldly(world, rows, length)):
        judge.events(events)
        judge.labels(labels, errors)
        if index % 10 == 9 or length > 25:
            most = max(most, sum(map(len, judge.checkpoint().values())))
    assert 10_000 < most <= 128 * 1024


# --- seasons --------------------------------------------------------------------------------------------


def daily(days: int, seed: int, jump: float = 0.0) -> tuple[Rows, np.ndarray]:
    """Sixty rows an hour with a daily cycle of two standard deviations, and the hour of each."""
    hours = np.repeat(np.arange(24 * days), 60)
    rows = drawn(np.random.default_rng(seed), len(hours))
    return rows | {"a": np.asarray(rows["a"]) + 2 * np.sin(hours / 24 * 2 * np.pi) + jump}, hours


@cache
def seasonal() -> Reference:
    rows, hours = daily(6, 1)
    flat = learnt(rows)
    counts = flat.bins.count(rows, hours, int(hours[-1]) + 1, learnt=True)
    return Reference.of(flat.bins, counts, np.arange(len(counts)) % 24, ("hour_of_day",))


def test_a_daily_cycle_is_no_change_but_a_jump_on_top_of_it_is_one_episode() -> None:
    hourly = Rules(3_600_000, 1_000, Rate(count=1, per_ms=43_200 * 3_600_000))
    judge, found, start = Judge(hourly, lambda _: seasonal()), [], 0
    for days, jump in ((10, 0.0), (4, 1.5)):
        rows, hours = daily(days, 7 + days, jump)
        counts = seasonal().bins.count(rows, hours, 24 * days)
        for hour in range(24 * days):
            quality = np.eye(1, len(FATES), dtype=np.int64) * 60
            found += judge.events(PaneCounts(start + hour, 1, (0,), counts[hour : hour + 1], quality))
        start += 24 * days
    assert told(found) == [("features", OPENED, "covariate"), ("features", CLOSED, IN_FORCE)]
    assert found[0].pane >= 240
    assert found[0].opened is not None
    assert 238 <= found[0].opened.start // hourly.pane <= found[0].pane
    assert found[1].pane - found[0].pane >= 24 + 1  # two visits of every hour
