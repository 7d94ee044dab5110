"""Episodes: one at a time, closed by settled rows or a new anchor, the same however rows are handed over."""

from collections.abc import Sequence

import numpy as np
import pytest

from services.drift.domain.episodes import IN_FORCE, NEW_ANCHOR, Episodes, Transition
from services.drift.domain.merging import Rows

SETTLE = 500


def rows(losses: Sequence[bool] | np.ndarray, member: int | Sequence[int] = 1) -> Rows:
    count = len(losses)
    index = np.arange(count)
    members = np.broadcast_to(np.asarray(member, np.int64), count)
    return Rows((index * 10, index % 3, index, np.zeros(count, np.int64)), members, np.asarray(losses, float))


def stream(*parts: tuple[int, float], seed: int = 4) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.concatenate([random.random(count) < rate for count, rate in parts])


def judged(given: Rows, chunk: int = 10**9, settle: int = SETTLE) -> list[Transition]:
    episodes = Episodes(1_000, settle)
    starts = range(0, len(given), chunk)
    return [each for start in starts for each in episodes.judge(given[start : start + chunk])]


def kinds(transitions: Sequence[Transition]) -> list[str]:
    return [("opened" if each.opened else "closed" if each.closed else "-") for each in transitions]


def test_an_episode_closes_when_enough_rows_lie_behind_its_probable_start() -> None:
    first, opened, closed = judged(rows(stream((3_000, 0.1), (3_000, 0.5))))

    assert first.reason == NEW_ANCHOR
    episode = opened.opened
    assert episode is not None
    assert closed.closed == episode
    assert closed.reason == IN_FORCE
    assert closed.time == episode.change.start + 10 * (SETTLE - 1)
    assert closed.standing.episode is None
    assert episode.pane == episode.at // 1_000


def test_an_episode_whose_rows_are_there_already_closes_at_the_row_that_opens_it() -> None:
    _, both, *_ = judged(rows(stream((3_000, 0.1), (3_000, 0.5))), settle=1)
    assert both.opened is not None
    assert both.opened == both.closed
    assert both.standing.episode is None


def test_while_an_episode_is_open_no_second_one_opens() -> None:
    losses = stream((3_000, 0.1), (600, 0.5), (2_000, 0.95))
    assert kinds(judged(rows(losses), settle=10_000)) == ["-", "opened"]


def test_after_closing_the_next_rise_has_an_episode_of_its_own() -> None:
    found = judged(rows(stream((3_000, 0.1), (3_000, 0.5), (3_000, 0.9))))
    assert kinds(found) == ["-", "opened", "closed", "opened", "closed"]
    assert found[1].opened != found[3].opened


def test_two_alarms_in_one_long_pane_have_two_names() -> None:
    given = rows(stream((3_000, 0.1), (3_000, 0.5), (3_000, 0.9)))
    found = [each.opened for each in Episodes(10**9, SETTLE).judge(given) if each.opened]
    assert len({episode.id for episode in found}) == 2


def test_a_fall_restarts_the_monitor_and_says_nothing() -> None:
    assert kinds(judged(rows(stream((3_000, 0.6), (3_000, 0.1))))) == ["-", "-"]


def test_a_new_anchor_closes_the_episode_and_only_its_rows_are_watched() -> None:
    losses = stream((3_000, 0.1), (300, 0.6), (3_000, 0.6))
    members = np.repeat([1, 2], [3_300, 3_000])
    _, opened, closed = judged(rows(losses, members.tolist()), settle=10_000)
    assert opened.opened is not None
    assert closed.closed == opened.opened
    assert closed.reason == NEW_ANCHOR
    assert closed.standing.anchor == 2
    assert closed.standing.after == (32_990, 3_299 % 3, 3_299, 0)


def test_stragglers_of_the_old_member_are_left_out() -> None:
    losses = stream((4_000, 0.1), (4_000, 0.1))
    members = np.ones(8_000, int)
    members[4_000::2] = 2
    losses[4_001::2] = True
    assert kinds(judged(rows(losses, members.tolist()))) == ["-", "-"]


@pytest.mark.parametrize("chunk", [1, 7, 100, 4_096])
def test_how_rows_are_handed_over_changes_nothing(chunk: int) -> None:
    losses = stream((1_500, 0.1), (1_000, 0.5), (1_000, 0.1), (800, 0.6))
    given = rows(losses, np.repeat([1, 2, 3], [1_800, 1_200, 1_300]).tolist())
    assert judged(given, chunk) == judged(given) != []


def test_every_standing_leads_to_the_same_rest() -> None:
    given = rows(stream((1_500, 0.1), (1_500, 0.5), (1_000, 0.1), (1_500, 0.6)), np.repeat([1, 2], 2_750).tolist())
    whole = judged(given)
    assert len(whole) >= 4
    for number, transition in enumerate(whole, 1):
        rest = list(Episodes(1_000, SETTLE, transition.standing).judge(given))
        assert rest == whole[number:]
