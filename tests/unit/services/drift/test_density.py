"""Panes with too few rows are told of once, with a length that would do."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import cloudevents
from schemas.messages import Decision
from schemas.quantities import MILLISECONDS, duration
from schemas.reference import Season
from services.drift.domain.density import ENOUGH_ROWS, FEWEST, LENGTHS, Density
from tests.unit.services.drift.scores import Score, announce, reached, say
from tests.unit.services.drift.stream import FAR, PANE, CrashError, Drift, crash_at, leave

MINUTE, HOUR, DAY = (MILLISECONDS[unit] for unit in ("m", "h", "d"))


def filled(every: int, rows: int, count: int) -> Density:
    """So many panes with rows, one of `every`."""
    found = Density()
    for index in range(count):
        found = found.behind(7 + index * every, rows)
    return found


def test_a_row_every_half_hour_wants_panes_of_half_a_day() -> None:
    found = filled(30, 1, 2_000)
    assert found.rows == ENOUGH_ROWS
    assert found.mean == 1
    better = found.better(MINUTE)
    assert better is not None
    assert duration(better) == "12h"


@pytest.mark.parametrize(
    ("every", "rows", "count", "told"),
    [(1, FEWEST, 500, None), (1, 5, 500, "5m"), (1, 1, 999, None), (1, 19, 500, "2m")],
)
def test_only_few_rows_in_a_known_stream_are_worth_a_word(every: int, rows: int, count: int, told: str | None) -> None:
    better = filled(every, rows, count).better(MINUTE)
    assert (None if better is None else duration(better)) == told


@pytest.mark.parametrize(("seasons", "told"), [(("hour_of_day",), HOUR), (("day_of_week",), DAY), ((), 2 * DAY)])
def test_no_pane_is_to_be_longer_than_a_stratum(seasons: tuple[Season, ...], told: int) -> None:
    assert filled(90, 1, 2_000).better(MINUTE, seasons) == told
    assert filled(90, 1, 2_000).better(told, seasons) in (None, *(each for each in LENGTHS if each > told))


@given(st.integers(1, 50), st.integers(1, 19), st.sampled_from([1_000, MINUTE, 5 * MINUTE]))
def test_the_advised_length_holds_enough_rows(every: int, rows: int, pane: int) -> None:
    found = filled(every, rows, 1_000)
    better = found.better(pane)
    assert better is not None
    assert better * rows / (every * pane) >= FEWEST * 0.99


def test_panes_that_come_twice_count_once() -> None:
    once = Density().behind(3, 4).behind(4, 5)
    assert once.behind(4, 5).behind(2, 9).behind(5, 0) == once == Density(9, 2, 3, 4)


def sparse() -> Drift:
    """A row every third pane, 1,500 of them."""
    drift = Drift()
    announce(drift, 1)
    for begin in range(0, 1_500, 50):
        rows = [Score(i, 3 * PANE * i, 1.0 + i % 7 / 7) for i in range(begin, begin + 50)]
        say(drift, 0, rows, reached(rows[-1].time, highest=rows[-1].time))
    say(drift, 0, [], reached(FAR))
    drift.finish(drift.counter())
    return drift


def advised(drift: Drift) -> list[Decision]:
    found = [cloudevents.decode(m.value or b"", m.headers).read(Decision) for m in drift.messages("decisions")]
    return [each for each in found if each.step == "advised"]


def test_the_judge_says_once_which_panes_would_do() -> None:
    drift = sparse()
    drift.finish(drift.judge())
    (said,) = advised(drift)
    assert (said.subject, said.service, said.outcome) == ("drift.pane", "drift", "set drift.pane to 1m")
    assert "a pane of 1s holds 1.0 rows on average" in said.reason
    drift.finish(drift.judge())
    assert advised(drift) == [said]


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 5, 9])
def test_a_judge_that_dies_says_the_same(writes: int) -> None:
    drift, other = sparse(), sparse()
    other.finish(other.judge())
    judge = drift.judge(on_publish=crash_at(writes), max_messages=3)
    with suppress(CrashError):
        while judge.step(0):
            pass
    leave(judge)
    drift.finish(drift.judge())
    assert advised(drift)[:1] == advised(other)
    assert {each.id for each in advised(drift)} == {"drift.pane:advised"}
