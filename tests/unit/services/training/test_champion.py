"""The strategy `champion`: one rules, the others are tried beside it, and only the gate changes that."""

from __future__ import annotations

import pytest

from schemas.messages import Decision
from tests.unit.services.training.loop import STEP, Loop, labelled, spec
from tests.unit.services.training.test_handler import first_fit
from tests.unit.services.training.test_pool import answered, checkpoints, no_growth

__all__ = ["no_growth"]

CHAMPION = "3, name: champion, max_rows: 300"


def duel(alpha: str = "0.05") -> Loop:
    """Member 1 rules, member 2 is its challenger."""
    loop = Loop(spec(fits="100 per 1d", seats=f"{CHAMPION}, alpha: {alpha}"))
    loop.start()
    first_fit(loop)
    loop.wish("w1")
    loop.run()
    return loop


def judged(loop: Loop, first: int, rows: int, outputs: dict[int, float]) -> None:
    loop.examples(answered(labelled(first, rows), outputs))
    loop.passes((first + rows + 6) * STEP)
    loop.run()


def verdicts(loop: Loop) -> list[Decision]:
    return [each for each in loop.decisions() if "challenger" in each.evidence]


def test_a_newcomer_is_a_shadow_and_the_champion_stays_alone() -> None:
    pool = duel().pools()[-1]
    assert (pool.strategy, pool.members, pool.leader, pool.alone) == ("champion", (1, 2), 1, 1)


def test_a_challenger_that_proves_better_rules_and_the_ledger_says_on_how_many_rows() -> None:
    loop = duel()
    judged(loop, 306, 200, {1: 0.3, 2: 0.8})
    assert (loop.pools()[-1].leader, loop.pools()[-1].anchor) == (2, 1)
    (said,) = verdicts(loop)
    assert (said.step, said.subject, said.evidence["version"]) == ("promoted", "w1", 2)
    assert "member 2 proved better than 1 on" in said.reason
    assert int(said.evidence["rows"] or 0) < 200


def test_one_that_is_no_better_rules_never_and_leaves() -> None:
    loop = duel()
    judged(loop, 306, 400, {1: 0.8, 2: 0.7})
    assert (loop.pools()[-1].leader, loop.pools()[-1].members) == (1, (1,))
    (said,) = verdicts(loop)
    assert (said.step, said.evidence["rows"]) == ("rejected", 300)
    before = len(loop.pools())
    judged(loop, 800, 300, {1: 0.8})
    assert len(loop.pools()) == before


def test_a_champion_that_turns_out_worse_is_rolled_back_by_the_one_before() -> None:
    loop = duel()
    judged(loop, 306, 200, {1: 0.3, 2: 0.8})
    judged(loop, 520, 200, {1: 0.8, 2: 0.3})
    assert loop.pools()[-1].leader == 1
    assert [each.step for each in verdicts(loop)] == ["promoted", "rolled_back"]


def test_rows_before_the_challenger_served_do_not_count() -> None:
    loop = duel()
    judged(loop, 306, 250, {1: 0.3})
    assert verdicts(loop) == []
    trials = checkpoints(loop)[-1].trials
    assert {member: trial.rows for member, trial in trials.items()} == {2: 0}


@pytest.mark.parametrize("kind", ["freeze", "pin"])
def test_while_an_operator_holds_the_pool_no_verdict_is_acted_on(kind: str) -> None:
    loop = duel()
    loop.wish("hold", kind, "1")
    loop.run()
    judged(loop, 306, 200, {1: 0.3, 2: 0.8})
    assert loop.pools()[-1].leader == 1
    loop.wish("go", "unfreeze")
    loop.run()
    judged(loop, 520, 120, {1: 0.3, 2: 0.8})
    assert loop.pools()[-1].leader == 2


def test_a_new_leader_of_the_group_goes_on_with_the_trial() -> None:
    calm, restarted = duel("0.001"), duel("0.001")
    for loop in (calm, restarted):
        judged(loop, 306, 100, {1: 0.45, 2: 0.55})
        if loop is restarted:
            loop.start()
            loop.run()
        judged(loop, 420, 110, {1: 0.55, 2: 0.55})
    assert checkpoints(calm)[-1].trials == checkpoints(restarted)[-1].trials
