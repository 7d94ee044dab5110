"""What follows from each kind of episode: a fit at once, an early fit, rows held back, and never twice."""

from __future__ import annotations

import json

import pytest

from schemas import batch as b
from schemas.artefact import Quarantine
from schemas.messages import Decision
from services.training.domain.rows import content_digest
from tests.unit.services.training.loop import FAR, STEP, Crash, Loop, crash_at, labelled, spec
from tests.unit.services.training.test_handler import FIRST, first_fit, made_again, manifest

STEPS = 24
"""Messages of the controller in the story of the kills."""
EARLY = ["covariate", "prediction", "label", "recurring"]
STREAM = {
    "name": "x", "kind": "magnitude", "share": 1, "effect": 6.6, "start": "2026-01-05T12:00:00Z", "bins": ["1"],
    "before": [1], "after": [1],
}  # fmt: skip


def ready() -> Loop:
    """A first model, and 100 rows behind it; the cool-down is over."""
    loop = Loop()
    loop.start()
    first_fit(loop)
    loop.examples(labelled(300, 100))
    loop.passes(406 * STEP)
    loop.run()
    return loop


def told(loop: Loop, subject: str) -> list[Decision]:
    return [each for each in loop.decisions() if each.subject == subject]


def positions_of(loop: Loop, version: int) -> set[int]:
    """Positions of the rows of a version's dataset, found again from the log."""
    rows = made_again(loop, manifest(loop, version).dataset)
    assert content_digest(rows, loop.spec.feature_types) == manifest(loop, version).dataset.digest
    return set(rows.column(b.POSITION).to_pylist())


# --- in step with the judge -------------------------------------------------------------------


def test_a_time_that_the_judge_has_not_passed_decides_nothing() -> None:
    loop = Loop()
    loop.start()
    loop.judged(150)
    first_fit(loop)
    assert loop.members() == []
    loop.judged(500)
    loop.run()
    assert [each.rows for each in loop.members()] == [200]


def test_what_the_judge_has_passed_counts_only_with_its_newest_episode() -> None:
    """`state` and `drift` are two topics: the mark may be read before the fact that was written before it."""
    loop = ready()
    loop.judged(450, "e1:opened")
    loop.judged(420, epoch=0)  # of a judge that was replaced
    loop.passes(470 * STEP)
    loop.run()
    assert len(loop.members()) == 1
    loop.episode("e1", start=350, detected=399, kind="covariate")
    loop.run()
    assert [each.cause.id for each in loop.members()] == [FIRST, "e1"]


def test_however_late_an_episode_is_read_the_same_is_fitted() -> None:
    digests = []
    for late in (False, True):
        loop = ready()
        loop.judged(380)
        loop.run()
        if not late:
            loop.episode("e1", start=350, detected=399, kind="covariate")
        loop.examples(labelled(400, 100))
        loop.passes(506 * STEP)
        loop.run()
        if late:
            loop.episode("e1", start=350, detected=399, kind="covariate")
        loop.judged(506)
        loop.run()
        digests.append((loop.members()[1].rows, loop.members()[1].digest, manifest(loop, 2).dataset.digest))
    assert digests[0] == digests[1]
    assert digests[0][0] == 400


# --- early fits -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EARLY)
def test_an_early_fit_takes_the_window_as_labelled_at_the_alarm_at_once(kind: str) -> None:
    loop = ready()
    loop.episode("e1", start=350, detected=399, kind=kind)
    loop.passes(407 * STEP)
    loop.run()
    assert [(each.cause.id, each.rows) for each in loop.members()] == [(FIRST, 200), ("e1", 400)]
    assert max(positions_of(loop, 2)) == 399
    steps = told(loop, "e1")
    assert [each.step for each in steps] == ["triggered", "fitted", "announced"]
    assert steps[0].outcome == "an early fit on 400 rows, the window as labelled so far"


def test_an_early_fit_for_a_world_that_came_back_names_the_member_that_knew_it() -> None:
    loop = ready()
    loop.episode("e1", start=350, detected=399, kind="recurring", recurs=1, reason="the rows look as in March again")
    loop.passes(407 * STEP)
    loop.run()
    assert told(loop, "e1")[0].reason == "the rows look as in March again; member 1 knew this world"


def test_an_early_fit_waits_for_the_least_rows_of_a_fit() -> None:
    loop = Loop()
    loop.start()
    loop.episode("e1", start=10, detected=20, kind="covariate")
    loop.examples(labelled(0, 199))
    loop.passes(204 * STEP)
    loop.run()
    assert loop.members() == []
    loop.examples(labelled(199, 60))
    loop.passes(FAR)
    loop.run()
    assert [each.rows for each in loop.members()] == [200]


def test_an_early_fit_rests_after_another_and_counts_in_the_budget() -> None:
    loop = ready()
    loop.episode("e1", start=350, detected=390, kind="covariate")
    loop.episode("e2", start=350, detected=395, kind="prediction")
    loop.passes(407 * STEP)
    loop.run()
    assert [each.cause.id for each in loop.members()] == [FIRST, "e1"]
    assert (told(loop, "e2")[-1].step, told(loop, "e2")[-1].outcome) == ("suppressed", "postponed")
    loop.passes(FAR)
    loop.run()
    assert [each.step for each in told(loop, "e2")][1:2] == ["triggered"]

    poor = Loop(spec(fits="1 per 1d"))
    poor.start()
    first_fit(poor)
    poor.episode("e1", start=250, detected=290, kind="covariate")
    poor.passes(FAR)
    poor.run()
    assert (len(poor.members()), [each.step for each in told(poor, "e1")]) == (1, ["suppressed"])


@pytest.mark.parametrize("kind", [*EARLY, "concept"])
def test_an_episode_is_answered_once_however_often_it_is_told_and_whoever_reads_it(kind: str) -> None:
    loop = ready()
    for _ in range(3):
        loop.episode("e1", start=300, detected=399, kind=kind)
        loop.end("e1", 300, 399, at=405, kind=kind)
        loop.passes(FAR)
        loop.run()
        loop.start()
        loop.run()
    assert len([each for each in loop.decisions() if each.step in {"announced", "rejected"}]) == 2


# --- bad data ---------------------------------------------------------------------------------


def test_rows_between_the_start_and_the_end_of_bad_data_are_in_no_dataset() -> None:
    loop = ready()
    loop.episode("bad", start=330, detected=340, kind="bad_data")
    loop.end("bad", 330, 340, at=360)
    loop.episode("e1", start=350, detected=399, kind="covariate")
    loop.passes(407 * STEP)
    loop.run()
    assert positions_of(loop, 2) == {*range(330), *range(360, 400)}
    assert manifest(loop, 2).dataset.quarantined == (Quarantine(330 * STEP, 360 * STEP),)
    fitted = next(each for each in loop.decisions() if each.subject == "e1" and each.step == "fitted")
    assert (fitted.evidence["left_out"], fitted.evidence["episode"]) == (30, "bad")


def test_bad_data_causes_no_fit_and_the_ledger_says_from_when_to_when_and_why() -> None:
    loop = ready()
    loop.episode("bad", start=330, detected=340, kind="bad_data", reason="x arrives 100 times too large")
    loop.run()
    (opened,) = told(loop, "bad")
    assert (opened.step, opened.reason) == ("quarantined", "x arrives 100 times too large")
    assert opened.outcome == "no fit, and no dataset holds rows from 1970-01-01T00:05:30.000Z on"
    loop.end("bad", 330, 340, at=360, reason="the data is right again")
    loop.passes(FAR)
    loop.run()
    opened, released = told(loop, "bad")
    assert (released.step, released.reason) == ("released", "the data is right again")
    assert released.evidence["from"] == "1970-01-01T00:05:30.000Z"
    assert released.evidence["to"] == "1970-01-01T00:06:00.000Z"
    assert len(loop.members()) == 1


@pytest.mark.parametrize(
    ("sources", "held"),
    [
        (("events/0", "events/0"), {*range(330, 400)}),
        (("events/1",), set()),
        (("events/0", "events/1"), {*range(330, 400)}),
        ((None,), {*range(330, 400)}),
        (("somewhere",), {*range(330, 400)}),
        ((), {*range(330, 400)}),
    ],
)
def test_only_the_source_that_the_evidence_names_is_held_back(sources: tuple[str | None, ...], held: set[int]) -> None:
    loop = ready()
    streams = [{**STREAM, "source": each} for each in sources]
    loop.episode("bad", start=330, detected=340, kind="bad_data", streams=streams)
    loop.episode("e1", start=350, detected=399, kind="covariate")
    loop.passes(407 * STEP)
    loop.run()
    assert positions_of(loop, 2) == {*range(400)} - held


def test_a_source_that_the_judge_names_holds_for_streams_that_have_not_moved_too() -> None:
    loop = ready()
    streams = [{**STREAM, "source": each} for each in ("events/1", None)]
    loop.episode("bad", start=330, detected=340, kind="bad_data", streams=streams, evidence={"source": "events/1"})
    loop.episode("e1", start=350, detected=399, kind="covariate")
    loop.passes(407 * STEP)
    loop.run()
    assert positions_of(loop, 2) == {*range(400)}


def test_a_trigger_that_lacks_rows_because_of_bad_data_says_so_once_and_waits() -> None:
    loop = ready()
    loop.episode("bad", start=330, detected=340, kind="bad_data")
    loop.episode("d1", start=300, detected=350)
    loop.passes(407 * STEP)
    loop.run()
    loop.passes(408 * STEP)
    loop.run()
    (waits,) = told(loop, "d1")
    assert (waits.step, waits.outcome) == ("suppressed", "waits for rows that are right")
    assert (waits.reason, waits.evidence["episode"]) == ("70 labelled rows that it would take are bad", "bad")
    loop.end("bad", 330, 340, at=400)
    loop.examples(labelled(400, 80, turned=True))
    loop.passes(FAR)
    loop.run()
    rows = positions_of(loop, 2)
    assert rows == {*range(300, 330), *range(400, 470)}


def test_an_operator_releases_rows_from_now_on_and_those_of_before_stay_out() -> None:
    loop = ready()
    loop.episode("bad", start=330, detected=340, kind="bad_data")
    loop.run()
    loop.wish("w1", "release", "bad")
    loop.run()
    released = told(loop, "bad")[-1]
    assert (released.step, released.reason) == ("released", "ann released it: to see")
    assert released.evidence["wish"] == "w1"
    loop.end("bad", 330, 340, at=480)
    loop.examples(labelled(400, 100))
    loop.episode("e1", start=450, detected=499, kind="covariate")
    loop.passes(FAR)
    loop.run()
    assert positions_of(loop, 2) == {*range(500)} - {*range(330, 401)} - {*range(29)}
    assert [each.step for each in told(loop, "bad")] == ["quarantined", "released"]


def test_only_bad_data_can_be_released() -> None:
    loop = ready()
    loop.episode("e1", start=350, detected=399, kind="covariate")
    loop.run()
    for wish, subject in (("w1", "e1"), ("w2", "nothing")):
        loop.wish(wish, "release", subject)
        loop.run()
        (answer,) = told(loop, wish)
        assert answer.step == "refused"
        assert f"{subject} is no episode of bad data that is known here" in answer.reason


def test_a_release_that_the_judge_heard_first_is_told_and_changes_nothing_more() -> None:
    loop = ready()
    loop.episode("bad", start=330, detected=340, kind="bad_data")
    loop.end("bad", 330, 340, at=350, reason="an operator released it")
    loop.wish("w1", "release", "bad")
    loop.run()
    assert [each.step for each in told(loop, "bad")] == ["quarantined", "released"]
    (answer,) = told(loop, "w1")
    assert (answer.step, answer.reason, answer.evidence["episode"]) == ("released", "ann released it: to see", "bad")
    state = json.loads(loop.log("state")[-1].value or b"")
    assert state["quarantines"] == {"bad": [330 * STEP, 350 * STEP, None]}


def test_a_release_and_what_was_held_back_survive_a_restart() -> None:
    loop = ready()
    loop.episode("bad", start=330, detected=340, kind="bad_data")
    loop.run()
    loop.wish("w1", "release", "bad")
    loop.run()
    loop.workers[0]._settle()
    loop.start()
    loop.run()
    state = json.loads(loop.log("state")[-1].value or b"")
    assert state["quarantines"] == {"bad": [330 * STEP, 401 * STEP - 1, None]}
    assert [each.step for each in told(loop, "bad")] == ["quarantined", "released"]


def begin(loop: Loop) -> None:
    loop.examples(labelled(0, 300))
    loop.episode("bad", start=330, detected=340, kind="bad_data")
    loop.examples(labelled(300, 100))
    loop.end("bad", 330, 340, at=360)
    loop.episode("e1", start=380, detected=399, kind="covariate")
    loop.passes(410 * STEP)


def go_wrong_again(loop: Loop) -> None:
    loop.episode("worse", start=420, detected=430, kind="bad_data", streams=[{**STREAM, "source": "events/0"}])
    loop.examples(labelled(400, 60))
    loop.passes(466 * STEP)


def let_go_and_change(loop: Loop) -> None:
    loop.wish("w1", "release", "worse")
    loop.episode("d1", start=440, detected=540)


def settle(loop: Loop) -> None:
    loop.examples(labelled(460, 200, turned=True))
    loop.passes(FAR)


@pytest.mark.parametrize("count", range(-1, STEPS))
def test_a_kill_at_any_point_leads_to_one_fit_per_cause_without_a_bad_row(count: int) -> None:
    loop = Loop()
    killed = False
    for phase in (begin, go_wrong_again, let_go_and_change, settle):
        phase(loop)
        try:
            if not loop.workers:
                loop.start(crash_at(count))
            loop.run()
        except Crash:
            killed = True
            loop.start()
            loop.run()
    assert killed == (count >= 0)
    state = json.loads(loop.log("state")[-1].value or b"")
    assert [each.cause.id for each in loop.members()] == [FIRST, "e1", "d1"]
    assert state["done"] == {
        FIRST: "announced", "e1": "announced", "d1": "announced", "bad": "released", "worse": "released",
        "w1": "released",
    }  # fmt: skip
    assert {(each.subject, each.step) for each in loop.decisions()} >= {
        ("bad", "quarantined"), ("bad", "released"), ("worse", "quarantined"), ("worse", "released"),
    }  # fmt: skip
    assert state["quarantines"]["bad"] == [330 * STEP, 360 * STEP, None]
    for member in loop.members():
        assert not positions_of(loop, member.version) & {*range(330, 360), *range(420, 461)}
