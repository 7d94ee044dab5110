"""A controller whose fits take their time: nothing later is decided, everything is folded, the same comes out."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from runtime.metrics import Metrics
from services.training.domain.fitting import Fit
from services.training.domain.work import Work
from services.training.fits import Failed, InCaller, Pending
from services.training.handler import Training
from tests.unit.services.training.loop import FAR, STEP, Crash, Loop, crash_at, labelled, spec
from tests.unit.services.training.test_handler import FIRST, first_fit, manifest
from tests.unit.services.training.test_pool import SCENES, answered, checkpoints


class Later:
    """Fits that are done when a test says so, or after so many questions, or that fail."""

    def __init__(self, questions: int | None = None, failing: str = "") -> None:
        self._caller, self._questions, self.failing = InCaller(Metrics()), questions, failing
        self.asked: list[Hashable] = []
        self.left = questions
        self.dropped = 0

    def prepare(self) -> None:
        """As there."""

    def fit(self, key: Hashable, work: Work) -> Fit:
        if not self.asked or self.asked[-1] != key:
            self.asked.append(key)
            self.left = self._questions
        if self.left is None or self.left > 0:
            self.left = None if self.left is None else self.left - 1
            raise Pending
        if self.failing:
            raise Failed(self.failing, {"seconds": 600.0})
        return self._caller.fit(key, work)

    def drop(self) -> None:
        self.asked.clear()
        self.dropped += 1


def steps(loop: Loop, subject: str) -> list[str]:
    return [each.step for each in loop.decisions() if each.subject == subject]


def begun(later: Later, **options: int) -> Loop:
    """The first fit is under way."""
    loop = Loop(spec(fits="100 per 1d", seats=options.get("seats", 1)), fits=later)
    loop.start()
    first_fit(loop)
    assert steps(loop, FIRST) == ["fitting"]
    return loop


def test_a_fit_under_way_is_told_once_with_its_rows_and_estimator() -> None:
    later = Later()
    loop = begun(later)
    loop.examples(labelled(310, 50))
    loop.run()
    (told,) = loop.decisions()
    assert (told.step, told.evidence["rows"], told.evidence["estimator"]) == ("fitting", 200, "logistic_regression")
    assert loop.members() == []
    assert len(later.asked) == 1


def test_it_is_announced_as_soon_as_it_is_done_without_another_message() -> None:
    later = Later()
    loop = begun(later)
    later.left = 0
    assert not loop.workers[0].step()
    assert steps(loop, FIRST) == ["fitting", "fitted", "announced"]
    assert [each.version for each in loop.members()] == [1]
    assert loop.pools()[-1].members == (1,)


def test_rows_weights_and_wishes_are_taken_meanwhile_and_nothing_later_is_decided() -> None:
    later = Later(0)
    loop = Loop(spec(fits="100 per 1d", seats=3), fits=later)
    loop.start()
    first_fit(loop)
    later._questions = None
    loop.wish("w1")
    loop.run()
    before = len(checkpoints(loop))
    loop.episode("e1", start=310, detected=330, kind="covariate")
    loop.examples(answered(labelled(300, 250), {1: 0.3}))
    loop.passes(600 * STEP)
    loop.wish("w2")
    loop.wish("w3", "pin", "1")
    loop.run()
    assert len(checkpoints(loop)) > before
    assert loop.pools()[-1].pinned == 1
    assert (steps(loop, "e1"), steps(loop, "w2")) == ([], [])
    later.left = later._questions = 0
    loop.passes(FAR)
    loop.run()
    causes = [each.cause.id for each in loop.members()]
    assert causes.index("w1") < causes.index("e1")
    assert causes.index("w1") < causes.index("w2")


@pytest.mark.parametrize("questions", [1, 3, 50])
def test_the_same_log_makes_the_same_fits_however_long_they_take(questions: int) -> None:
    made = []
    for later in (None, Later(questions)):
        loop = Loop(spec(fits="100 per 1d", seats=3), fits=later)
        loop.start()
        for scene in SCENES:
            scene(loop)
            loop.run()
        settle(loop)
        members = loop.members()
        made.append([(each.cause.id, each.digest, manifest(loop, each.version).dataset) for each in members])
    assert made[0] == made[1]
    assert {FIRST, "d1", "d1/follow-up"} <= {cause for cause, *_ in made[0]}


def test_a_fit_that_fails_is_told_with_its_figures_and_not_tried_again() -> None:
    later = Later(0)
    loop = Loop(spec(fits="100 per 1d"), fits=later)
    loop.start()
    first_fit(loop)
    later.failing = "it took too long"
    loop.wish("w1")
    loop.run()
    told = [each for each in loop.decisions() if each.subject == "w1"]
    assert [(each.step, each.reason) for each in told] == [("failed", "it took too long")]
    assert (told[0].evidence["seconds"], told[0].outcome) == (600.0, "the pool stays as it is")
    later.failing = ""
    loop.start()
    loop.run()
    assert [each.version for each in loop.members()] == [1]
    loop.wish("w2")
    loop.run()
    assert [each.cause.id for each in loop.members()] == [FIRST, "w2"]


def test_a_first_fit_that_fails_is_tried_again_with_more_rows() -> None:
    later = Later(0, "it crashed")
    loop = Loop(spec(fits="100 per 1d"), fits=later)
    loop.start()
    first_fit(loop)
    assert set(steps(loop, FIRST)) == {"failed"}
    later.failing = ""
    loop.examples(labelled(300, 300))
    loop.passes(FAR)
    loop.run()
    assert [each.cause.id for each in loop.members()] == [FIRST]


def test_who_loses_the_lead_gives_up_what_is_under_way() -> None:
    later = Later()
    loop = begun(later)
    loop.workers[0]._handler.forget(next(iter(loop.workers[0].owned)))
    assert later.dropped == 1
    assert list(loop.workers[0]._handler.resume()) == []  # type: ignore[attr-defined]


def test_a_pool_that_is_frozen_meanwhile_stays_as_it_is() -> None:
    later = Later(0)
    loop = Loop(spec(fits="100 per 1d", seats=1), fits=later)
    loop.start()
    first_fit(loop)
    later._questions = None
    loop.wish("w1")
    loop.run()
    loop.wish("stop", "freeze")
    loop.run()
    assert steps(loop, "w1") == ["fitting", "suppressed"]
    assert len(loop.members()) == 1


def test_a_kill_at_any_point_of_a_slow_fit_loses_no_wish() -> None:
    count = 0
    while True:
        loop = Loop(spec(fits="100 per 1d", seats=1), fits=Later(2))
        loop.wish("w1")
        loop.wish("w2")
        loop.examples(labelled(0, 300))
        loop.passes(306 * STEP)
        try:
            loop.start(crash_at(count))
            settle(loop)
        except Crash:
            loop.fits = Later(2)
            loop.start()
            settle(loop)
        else:
            break
        causes = sorted(each.cause.id for each in loop.members())
        assert causes == ["shop/first", "w1", "w2"], count
        count += 1
    assert count > 12


def settle(loop: Loop) -> None:
    """Until no fit is under way."""
    handler = loop.workers[0]._handler
    assert isinstance(handler, Training)
    loop.run()
    while handler._carrying.under_way is not None:
        loop.run()
