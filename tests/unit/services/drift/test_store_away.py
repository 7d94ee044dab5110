"""References are fetched before panes are judged: a store that goes away at any moment costs time and nothing else."""

from functools import cache

import numpy as np
import pytest

from runtime.errors import Transient
from runtime.ports import Message, Place
from runtime.references import CACHED, References
from runtime.store import Store
from schemas import cloudevents
from schemas.messages import DriftEpisode
from schemas.reference import REFERENCE
from tests.unit.services.drift.scores import Score, announce, reached, reference, say
from tests.unit.services.drift.stream import FAR, PANE, Drift, leave

MEMBERS = CACHED + 3
"""Anchors, one behind the other: more than references are cached."""
PANES, ROWS = 12, 50
BACK = 2
"""The world of this member returns at the end."""


class Moody(Store):
    """A store that is away for the next gets, as many as it was told, and counts what it is asked."""

    away = 0
    asked = 0

    def get(self, path: str, limit: int = 1 << 30) -> bytes:
        self.asked += 1
        if self.away:
            self.away -= 1
            raise Transient(f"{path}: the store is away")
        return super().get(path, limit)


def place(member: int) -> float:
    """Where the values of a member's world lie: the last one's at 0, those of all others apart."""
    return 1.5 if member == BACK else 3.0 * (member - MEMBERS)


@cache
def counts() -> tuple[Message, ...]:
    """Each member in its own world, then the last one where an earlier world is back."""
    drift, random = world(), np.random.default_rng(5)
    worlds = [(member, place(member)) for member in range(1, MEMBERS + 1)] + [(MEMBERS, place(BACK))]
    for stretch, (member, middle) in enumerate(worlds):
        for pane in range(PANES):
            begin = (stretch * PANES + pane) * PANE
            rows = [
                Score(begin + i, begin + i, float(x), 0, (member,), "", colour)
                for i, (x, colour) in enumerate(
                    zip(random.normal(middle, 1, ROWS), random.choice(["red", "blue"], ROWS), strict=True)
                )
            ]
            say(drift, 0, rows, reached(begin + PANE, highest=rows[-1].time))
    say(drift, 0, [], reached(FAR))
    drift.finish(drift.counter())
    return tuple(drift.messages("drift-counts"))


def world(partitions: int = 1) -> Drift:
    drift = Drift(partitions)
    drift.store = Moody("memory://")
    drift.references = References(drift.store)
    publish(drift)
    return drift


def publish(drift: Drift) -> None:
    for member in range(1, MEMBERS + 1):
        announce(drift, member, files={REFERENCE: reference(place(member)).to_bytes()})


def moody(drift: Drift) -> Moody:
    assert isinstance(drift.store, Moody)
    return drift.store


def give(drift: Drift, messages: tuple[Message, ...]) -> None:
    for each in messages:
        drift.broker.append(Place("drift-counts", 0), each.value, headers=each.headers)


def told(drift: Drift) -> list[dict[str, object]]:
    found = [cloudevents.decode(m.value or b"", m.headers).read(DriftEpisode) for m in drift.messages("drift")]
    return [each.model_dump(exclude={"epoch"}) for each in found]


@cache
def undisturbed() -> list[dict[str, object]]:
    drift = world()
    give(drift, counts())
    drift.finish(drift.judge())
    return told(drift)


def test_the_world_that_is_back_is_known_to_a_member_that_is_cached_no_more() -> None:
    kinds = [(each["family"], each["kind"], each["recurs"]) for each in undisturbed() if each["state"] == "opened"]
    assert ("features", "recurring", BACK) in kinds


def test_at_an_alarm_the_store_is_not_asked() -> None:
    drift, before = world(), MEMBERS * PANES
    judge = drift.judge()
    give(drift, counts()[:before])
    while judge.step(0):
        pass
    store = moody(drift)
    store.asked, store.away = 0, 2
    give(drift, counts()[before:])
    drift.finish(judge)
    assert store.asked == 0
    assert told(drift) == undisturbed()


@pytest.mark.parametrize("cut", [PANES // 2, (MEMBERS - 1) * PANES + 5, MEMBERS * PANES + 1, MEMBERS * PANES + 3])
def test_a_leader_that_starts_while_the_store_is_away_misses_nothing(cut: int) -> None:
    drift = world()
    first = drift.judge()
    give(drift, counts()[:cut])
    while first.step(0):
        pass
    leave(first)
    drift.references = References(drift.store)
    moody(drift).away = 7
    second = drift.judge()
    second.step(0)
    moody(drift).away = 3
    give(drift, counts()[cut:])
    drift.finish(second)
    assert told(drift) == undisturbed()


def test_of_many_anchors_whose_panes_wait_none_is_asked_for_while_they_are_judged() -> None:
    drift = world(2)
    judge = drift.judge()
    give(drift, counts())
    while judge.step(0):
        pass
    assert told(drift) == []  # the other partition has closed nothing
    store = moody(drift)
    store.asked, store.away = 0, 2
    say(drift, 1, [], reached(0))
    say(drift, 1, [], reached(FAR))
    drift.finish(drift.counter())
    drift.finish(judge)
    assert store.asked == 0
    assert [each | {"positions": {}} for each in told(drift)] == [each | {"positions": {}} for each in undisturbed()]
