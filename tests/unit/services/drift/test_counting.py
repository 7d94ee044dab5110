"""The counter: one message per closing input, the same rows per pane however it is polled, killed and restarted."""

import math
from collections import Counter as Tally

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import HoleFound
from runtime.ports import Place
from schemas import batch as b
from services.drift.domain.panes import times
from tests.unit.services.drift.stream import (
    FAR,
    LIVES,
    PANE,
    CrashError,
    Drift,
    Life,
    Row,
    crash_at,
    killed,
    leave,
    spec,
    told,
)

Said = list[tuple[list[Row], int | None]]


def written(said: Said) -> Drift:
    drift = Drift(spec=spec(lateness="1s"))
    highest = 0
    for rows, watermark in said:
        highest = max([highest, *(row.time for row in rows)])
        drift.say(0, rows, told(watermark, highest))
    return drift


LOST = -math.log(0.9)
"""Loss of a row of these tests."""


def panes(drift: Drift) -> dict[int, Tally[tuple[int, int, float]]]:
    found: dict[int, Tally[tuple[int, int, float]]] = {}
    for _, rows in drift.counted():
        for time, row in zip(times(rows).tolist(), rows.to_pylist(), strict=True):
            found.setdefault(time // PANE, Tally())[row["_source"], row["_position"], row["loss"]] += 1
    return found


def test_only_an_input_that_closes_panes_has_an_output() -> None:
    drift = written([([Row(1, 100)], 0), ([Row(2, 1_500)], 2_100), ([], 2_500), ([Row(3, 2_600)], 3_900)])
    drift.finish(drift.counter())

    said = [(headers.panes, headers.coverage["examples"], rows.num_rows) for headers, rows in drift.counted()]
    assert said == [((-2, -2), (0, 0), 0), ((-1, 0), (1, 1), 1), ((1, 1), (2, 3), 1)]


def test_no_pane_closes_before_both_events_and_labels_have_a_watermark() -> None:
    drift = Drift()
    only = b.Through(watermarks={b.LABELS: {0: (FAR, False)}})
    drift.say(0, [Row(1, 100)], b.Headers(through=only))
    drift.finish(drift.counter())
    assert drift.counted() == []


def test_the_slower_of_events_and_labels_closes_panes() -> None:
    drift = Drift()
    both = b.Through(watermarks={b.LABELS: {0: (FAR, False)}, b.EVENTS: {0: (3_000, False), 1: (9_000, False)}})
    drift.say(0, [Row(1, 2_999), Row(2, 3_000)], b.Headers(through=both))
    drift.finish(drift.counter())
    ((headers, rows),) = drift.counted()
    assert headers.panes == (2, 2)
    assert times(rows).tolist() == [2_999]


def test_late_rows_are_counted_and_not_judged() -> None:
    drift = written([([], 9_000), ([Row(1, 100), Row(2, 8_500)], 20_000)])
    drift.finish(drift.counter())
    assert drift.metrics.registry.get_sample_value("headrace_late_rows_total", {"stream": "examples"}) == 1
    assert panes(drift) == {8: Tally({(0, 2, LOST): 1})}


def test_a_lost_message_of_the_join_stops_the_counter() -> None:
    drift = Drift()
    drift.say(0, [], told(0, coverage={"scored": (0, 3)}))
    drift.say(0, [], told(0, coverage={"scored": (5, 6)}))
    worker = drift.counter()
    with pytest.raises(HoleFound, match="scored from 5"):
        drift.finish(worker)


def test_what_was_dead_lettered_is_passed_over_by_a_restart() -> None:
    drift = written([([Row(1, 100)], 0)])
    drift.broker.append(Place("examples", 0), b"nonsense")
    drift.finish(drift.counter())
    assert len(drift.messages("dead-letters")) == 1

    drift.say(0, [], told(FAR, 100))
    drift.finish(drift.counter())
    assert panes(drift) == {0: Tally({(0, 1, LOST): 1})}


def test_a_restart_reads_back_until_no_row_can_be_of_an_open_pane() -> None:
    rows = [Row(i, 100 * i) for i in range(1_000)]
    drift = written([([row], row.time - 60_000) for row in rows])
    drift.finish(drift.counter())
    drift.say(0, [], told(FAR, rows[-1].time))
    drift.finish(drift.counter())
    assert sum(tally.total() for tally in panes(drift).values()) == len(rows)


def test_counts_above_the_limit_are_cut_and_said_again_after_a_crash_between_the_pieces() -> None:
    rows = [Row(i, i % 900) for i in range(9_000)]
    said: Said = [(rows[:4_500], 500), (rows[4_500:], 500), ([], 3_000)]
    drift = written(said)
    dying = drift.counter(on_publish=crash_at(2))
    with pytest.raises(CrashError):
        drift.finish(dying)
    leave(dying)
    drift.finish(drift.counter())

    told_of = [(headers.piece, headers.pieces, headers.panes) for headers, _ in drift.counted()]
    assert told_of == [(0, 1, (-2, -2)), *((piece, 4, (-1, 1)) for piece in (0, 0, 1, 2, 3))]
    assert sum(batch.num_rows for _, batch in drift.counted()[-4:]) == 9_000


@st.composite
def streams(draw: st.DrawFn) -> Said:
    said: Said = []
    watermark = position = 0
    for _ in range(draw(st.integers(1, 25))):
        times = draw(st.lists(st.integers(-2_500, 3_000), max_size=4))
        rows = [Row(position + i, max(0, watermark + t)) for i, t in enumerate(times)]
        repeated = draw(st.booleans()) and said and said[-1][0]
        position += len(rows)
        watermark += draw(st.integers(0, 2_500))
        said.append((rows + (list(repeated) if repeated else []), watermark))
    return [*said, ([], FAR)]


@given(streams(), st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_how_messages_are_polled_changes_nothing(said: Said, most: int) -> None:
    one, other = written(said), written(said)
    one.finish(one.counter(max_messages=1))
    other.finish(other.counter(max_messages=most))
    assert [(h, rows.to_pylist()) for h, rows in one.counted()] == [
        (h, rows.to_pylist()) for h, rows in other.counted()
    ]


@given(streams(), LIVES)
@settings(deadline=None, max_examples=60)
def test_crashes_lose_nothing_and_say_nothing_twice(said: Said, lives: list[Life]) -> None:
    whole, broken = written(said), written(said)
    whole.finish(whole.counter())
    killed(broken, lives)

    assert panes(broken) == panes(whole)
    assert [h.panes for h, _ in broken.counted()] == [h.panes for h, _ in whole.counted()]
    assert [h.coverage for h, _ in broken.counted()] == [h.coverage for h, _ in whole.counted()]
