"""What operators wish of the pool: carried out once, told with who and why; refused with what to do instead."""

from __future__ import annotations

import pytest

from schemas.messages import Decision
from services.training.domain.blend import ENTRY
from tests.unit.services.training.loop import FAR, STEP, Loop, labelled, spec
from tests.unit.services.training.test_handler import first_fit
from tests.unit.services.training.test_pool import answered, no_growth, told

__all__ = ["no_growth"]


def three() -> Loop:
    """Members 1, 2 and 3; the first is the anchor."""
    loop = Loop(spec(fits="100 per 1d", seats=3))
    loop.start()
    first_fit(loop)
    for name in ("w1", "w2"):
        loop.wish(name)
        loop.run()
    assert loop.pools()[-1].members == (1, 2, 3)
    return loop


def wished(loop: Loop, kind: str, subject: str = "shop") -> Decision:
    name = f"{kind}-{subject}-{len(loop.log('operator'))}"
    loop.wish(name, kind, subject)
    loop.run()
    (said,) = told(loop, name)
    return said


def test_a_pinned_member_alone_answers_until_the_pool_is_unfrozen() -> None:
    loop = three()
    said = wished(loop, "pin", "2")
    assert (said.step, said.reason, said.evidence["who"]) == ("pinned", "ann wished it: to see", "ann")
    pool = loop.pools()[-1]
    assert (pool.pinned, pool.alone, pool.members, pool.version) == (2, 2, (1, 2, 3), 4)
    assert wished(loop, "unfreeze").step == "unfrozen"
    assert loop.pools()[-1].alone is None


def test_an_evicted_member_leaves_and_no_returning_world_brings_it_back() -> None:
    loop = three()
    assert wished(loop, "evict", "3").step == "evicted"
    assert loop.pools()[-1].members == (1, 2)
    loop.episode("r1", start=280, detected=290, kind="recurring", recurs=3)
    loop.passes(FAR)
    loop.run()
    assert 3 not in loop.pools()[-1].members
    assert "recalled" not in {each.step for each in told(loop, "r1")}


@pytest.mark.parametrize(
    ("kind", "subject", "why"),
    [
        ("evict", "1", "is the anchor, whose outputs drift watches; pin another member, roll back, or retrain first"),
        ("evict", "9", "9 is no member of pool 3; name one of 1, 2, 3"),
        ("pin", "shop", "shop is no member of pool 3"),
        ("rollback", "7", "pool 7 is none that one may roll back to; there are 1, 2"),
        ("unfreeze", "shop", "nothing is frozen and nobody is pinned"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_with_the_mend(kind: str, subject: str, why: str) -> None:
    loop = three()
    said = wished(loop, kind, subject)
    assert (said.step, said.outcome) == ("refused", "nothing changes")
    assert why in said.reason
    assert len(loop.pools()) == 3


@pytest.mark.parametrize("kind", ["pin", "evict", "rollback", "freeze", "unfreeze"])
def test_before_the_first_model_there_is_no_pool_to_wish_of(kind: str) -> None:
    loop = Loop(spec(seats=3))
    loop.start()
    assert "there is no pool yet" in wished(loop, kind).reason


def test_a_roll_back_brings_the_pool_before_back_and_another_one_goes_further() -> None:
    loop = three()
    assert wished(loop, "rollback").step == "rolled_back"
    assert loop.pools()[-1].members == (1, 2)
    wished(loop, "rollback")
    assert loop.pools()[-1].members == (1,)
    assert wished(loop, "rollback").step == "refused"
    assert wished(loop, "rollback", "3").outcome == "pool 6 has the members of pool 3 again"
    assert loop.pools()[-1].members == (1, 2, 3)


def test_an_anchor_that_is_rolled_back_stays_for_drift_to_watch_with_a_newcomers_weight() -> None:
    loop = Loop(spec(fits="100 per 1d", seats=3))
    loop.start()
    first_fit(loop)
    loop.episode("d1", start=300, detected=340)
    loop.examples(answered(labelled(300, 150, turned=True), {1: 0.3}))
    loop.passes(460 * STEP)
    loop.run()
    assert loop.pools()[-1].anchor == 2
    assert "member 2 stays for drift to watch" in wished(loop, "rollback").outcome
    pool = loop.pools()[-1]
    assert (pool.members, pool.anchor) == ((1, 2), 2)
    assert pool.weights == pytest.approx({1: 1 - ENTRY, 2: ENTRY})


def test_a_frozen_pool_is_fitted_for_nothing_and_the_ledger_says_who_froze_it() -> None:
    loop = three()
    assert wished(loop, "freeze").step == "frozen"
    assert wished(loop, "freeze").step == "refused"
    loop.start()
    loop.episode("d1", start=300, detected=340)
    loop.examples(labelled(300, 150, turned=True))
    loop.passes(FAR)
    loop.run()
    assert len(loop.members()) == 3
    (held,) = told(loop, "d1")
    assert (held.step, held.reason) == ("suppressed", "ann froze the pool (to see); unfreeze the pool first")
    wished(loop, "unfreeze")
    loop.wish("w9")
    loop.run()
    assert {each.step for each in told(loop, "w9")} & {"fitted", "rejected"}


@pytest.mark.parametrize(("kind", "subject"), [("pin", "2"), ("evict", "3"), ("rollback", "shop")])
def test_a_wish_is_carried_out_once_wherever_the_process_is_killed(kind: str, subject: str) -> None:
    for count in range(5):
        loop = three()
        loop.wish("it", kind, subject)
        loop.run_killed_before(count)
        assert {each.version for each in loop.pools()} == {1, 2, 3, 4}
        assert {each.step for each in told(loop, "it")} <= {"pinned", "evicted", "rolled_back"}
