"""Ten episodes through a controller that is killed before each of its writes in turn.

The second kill comes one write later than the first, in what the next controller says, and so on until one of them has
said everything; so every step is a last one once, and kills follow each other closely.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.unit.services.training.loop import STEP, Crash, Loop, crash_at, labelled, spec
from tests.unit.services.training.test_fits import settle
from tests.unit.services.training.test_handler import FIRST
from tests.unit.services.training.test_pool import answered

EPISODES, ROWS, SETTLED = 10, 450, 130
"""Rows from one change to the next, and how many of them are there when its fit is due."""
BEGIN = 300


def scenes(loop: Loop) -> Iterator[str]:
    """Write the stream piece by piece; after each piece the id of the training that must have come of it."""
    loop.examples(labelled(0, BEGIN))
    loop.passes((BEGIN + 6) * STEP)
    yield FIRST
    for number in range(EPISODES):
        start, name = BEGIN + 10 + number * ROWS, f"e{number}"
        turned = number % 2 == 0
        loop.episode(name, start=start, detected=start + 60)
        loop.examples(answered(labelled(start, SETTLED, turned=turned), {1: 0.3 if turned else 0.7}))
        loop.passes((start + SETTLED + 6) * STEP)
        yield name
        rest = labelled(start + SETTLED + 6, ROWS - SETTLED - 10, turned=turned)
        loop.examples(answered(rest, {1: 0.3 if turned else 0.7}))
        loop.passes((start + ROWS) * STEP)
        yield f"{name}/follow-up"


def played(loop: Loop, *, kills: bool) -> int:
    """The whole stream; how often the controller was killed."""
    killed = 0
    for _ in scenes(loop):
        survives = 0 if kills else 10_000
        while True:
            try:
                loop.start(crash_at(survives))
                settle(loop)
                break
            except Crash:
                killed, survives = killed + 1, survives + 1
    return killed


def trainings(loop: Loop) -> list[tuple[str, int, str]]:
    return [(each.cause.id, each.rows, each.digest) for each in loop.members()]


def copies_aside(found: list[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
    return list(dict.fromkeys(found))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_every_step_of_ten_episodes_it_makes_exactly_ten_trainings_and_their_follow_ups() -> None:
    calm = Loop(spec(fits="1000 per 1d", seats=6))
    assert played(calm, kills=False) == 0
    loop = Loop(spec(fits="1000 per 1d", seats=6))
    assert played(loop, kills=True) > 10 * EPISODES
    made = trainings(loop)
    assert copies_aside(made) == trainings(calm)
    causes = Counter(cause for cause, *_ in copies_aside(made))
    wanted = {f"e{number}{what}" for number in range(EPISODES) for what in ("", "/follow-up")}
    assert {cause for cause in causes if cause.startswith("e")} == wanted
    assert set(causes.values()) == {1}
    assert_no_orphans(loop)
    assert_ledger(loop)


def assert_no_orphans(loop: Loop) -> None:
    """Every member has had a seat or waits for one, and the artefact of every member is there."""
    seated = {version for pool in loop.pools() for version in pool.members}
    waiting = {each.evidence["version"] for each in loop.decisions() if each.outcome == "it waits for a seat"}
    assert {each.version for each in loop.members()} <= seated | waiting
    assert seated <= {each.version for each in loop.members()}
    pools = [each.version for each in loop.pools()]
    assert sorted(set(pools)) == list(range(1, max(pools) + 1))


def assert_ledger(loop: Loop) -> None:
    """Every training was told from the fit to the announcement, with the same version in each line."""
    told: dict[str, dict[str, object]] = {}
    for each in loop.decisions():
        if each.step in {"fitted", "announced"}:
            told.setdefault(each.subject, {})[each.step] = each.evidence["version"]
    for member in loop.members():
        assert told[member.cause.id] == {"fitted": member.version, "announced": member.version}, member.cause.id
