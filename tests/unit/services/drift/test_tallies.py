"""Scored rows: counted with the bins of their anchor, the same however they are cut, polled and killed."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import HoleFound
from runtime.ports import Place
from schemas import batch as b
from schemas.bins import PREDICTION
from services.drift.domain.door import FATES
from services.drift.domain.pane_counts import PaneCounts
from tests.unit.services.drift.scores import (
    Score,
    announce,
    bins_of,
    counted,
    fates,
    reached,
    repeats,
    say,
    told,
)
from tests.unit.services.drift.stream import FAR, LIVES, Drift, Life, Row, killed, spec
from tests.unit.services.drift.stream import told as labels_told

Said = list[tuple[list[Score], int, list[b.Reject]]]
"""Rows, the watermark behind them, and what was refused."""


def written(said: Said, members: Sequence[int] = (1, 2, 3)) -> Drift:
    """A partition of scored rows that no counter has read."""
    drift = Drift(spec=spec(lateness="1s"))
    announce(drift, *members)
    highest = -10_000
    for rows, watermark, rejects in said:
        highest = max([highest, *(row.time for row in rows)])
        say(drift, 0, rows, reached(watermark, highest=highest, rejects={0: rejects} if rejects else {}))
    return drift


def run(said: Said) -> list[PaneCounts]:
    drift = written(said)
    drift.finish(drift.counter())
    return counted(drift)


# --- what is counted --------------------------------------------------------------------------


def test_a_row_counts_in_the_bins_of_its_anchor_the_first_member_that_it_carries() -> None:
    rows = [Score(0, 100, x=1.0, members=(2, 1)), Score(1, 200, x=1.5, members=(2, 3)), Score(2, 300, x=None)]
    (found,) = run([(rows, 100, []), ([], FAR, [])])
    assert (found.pane, found.anchor, found.sources) == (0, 2, (0,))
    bins = bins_of(2)
    assert found.counts[:, bins.part("x", "numeric")].sum() == 2  # the row of member 1 is an older anchor's
    (outputs,) = found.counts[:, bins.part(PREDICTION, "numeric")]
    expected = bins.count({PREDICTION: np.array([0.2, 0.2])}, np.zeros(2, np.int64), 1)
    assert outputs.tolist() == expected[0, bins.part(PREDICTION, "numeric")].tolist()


def test_what_no_pool_scored_counts_at_the_door_alone() -> None:
    (found,) = run([([Score(0, 100, members=None)], 100, []), ([], FAR, [])])
    assert (found.anchor, found.counts.shape) == (0, (1, 0))
    assert fates([found]) == {0: {0: {"ok": 1}}}


def test_a_member_without_a_reference_is_known_and_counts_nothing() -> None:
    drift = Drift(spec=spec(lateness="1s"))
    announce(drift, 1)
    announce(drift, 2, without=(2,))
    say(drift, 0, [Score(0, 100), Score(1, 1_100, members=(2,))], reached(1_100))
    say(drift, 0, [], reached(FAR))
    drift.finish(drift.counter())
    named = [
        (row["pane"], row["member"], bool(row["cells"])) for _, rows in drift.counted() for row in rows.to_pylist()
    ]
    assert named == [(0, 0, True), (0, 1, True), (1, 0, True), (1, 2, False)]


def test_counts_under_older_members_are_dropped_once_a_newer_one_was_seen() -> None:
    rows = [Score(0, 100, members=(2,)), Score(1, 1_100, members=(1,)), Score(2, 2_100, members=(2,))]
    found = run([(rows, 2_100, []), ([], FAR, [])])
    assert [(each.pane, each.anchor, int(each.counts.sum() > 0)) for each in found] == [(0, 2, 1), (1, 2, 0), (2, 2, 1)]


def test_a_late_row_counts_as_late_in_the_oldest_open_pane_and_nowhere_else() -> None:
    drift = written([([Score(0, 5_500)], 9_000, []), ([Score(1, 100), Score(2, 8_500)], 9_000, []), ([], FAR, [])])
    drift.finish(drift.counter())
    assert fates(counted(drift)) == {5: {0: {"ok": 1}}, 8: {0: {"ok": 1, "late": 1}}}
    assert drift.metrics.registry.get_sample_value("headrace_late_rows_total", {"stream": "scored"}) == 1


def test_a_refused_row_counts_in_the_pane_that_its_source_had_reached() -> None:
    said: Said = [
        ([Score(0, 100)], 100, [(1, 0, "not_json"), (2, 0, "not_json"), (3, 0, "out_of_range")]),
        ([Score(9, 3_000)], 3_000, [(4, 0, "a code of another version")]),
        ([], FAR, []),
    ]
    assert fates(run(said)) == {0: {0: {"ok": 1, "not_json": 2, "out_of_range": 1}}, 3: {0: {"ok": 1}}}


def test_an_id_that_came_before_in_its_pane_is_a_duplicate_of_the_later_source() -> None:
    said: Said = [
        ([Score(0, 100, id="a", source=1), Score(1, 200, id="b"), Score(2, 1_100, id="b")], 1_100, []),
        ([Score(3, 300, id="a"), Score(4, 400, id="a")], 1_100, []),
        ([], FAR, []),
    ]
    found = run(said)
    assert fates(found) == {0: {0: {"ok": 2, "duplicate": 1}, 1: {"duplicate": 1}}, 1: {0: {"ok": 1}}}
    assert found[0].counts[:, bins_of(1).part("x", "numeric")].sum(axis=1).tolist() == [3, 1]


def test_rows_that_were_written_twice_count_once() -> None:
    rows = [Score(i, 100 + i) for i in range(50)]
    assert told(run([(rows, 200, []), (rows, 200, []), ([], FAR, [])])) == told(run([(rows, 200, []), ([], FAR, [])]))


def test_a_lost_message_of_serving_stops_the_counter() -> None:
    drift = Drift()
    say(drift, 0, [], reached(0, coverage={"features": (0, 3)}))
    say(drift, 0, [], reached(0, coverage={"features": (5, 6)}))
    with pytest.raises(HoleFound, match="features from 5"):
        drift.finish(drift.counter())


def test_both_inputs_are_covered_each_by_its_own_messages() -> None:
    drift = Drift()
    announce(drift, 1)
    say(drift, 0, [Score(0, 100)], reached(100))
    drift.say(0, [Row(0, 700)], labels_told(700, 700))
    say(drift, 0, [], reached(FAR))
    drift.say(0, [], labels_told(FAR, 700))
    drift.finish(drift.counter())
    assert sorted((*headers.coverage, rows.num_rows) for headers, rows in drift.counted() if rows.num_rows) == [
        ("examples", 1),
        ("scored", 2),
    ]
    before = [len(drift.counted())]
    drift.finish(drift.counter())
    assert [len(drift.counted())] == before


def test_a_restart_reads_back_until_nothing_can_be_of_an_open_pane() -> None:
    """What was refused counts where its source had come to, which may be far beyond the newest row here."""
    early: Said = [([Score(0, 100)], 5_000, [(1, 0, "not_json")])]
    silent: Said = [([Score(2 + i, 200)], 5_000, []) for i in range(60)]
    drift = written([*early, *silent, ([], 6_000, [])])
    drift.finish(drift.counter())
    assert drift.counted()[-1][0].panes == (4, 4)
    say(drift, 0, [], reached(FAR))
    drift.finish(drift.counter())
    assert fates(counted(drift))[5] == {0: {"not_json": 1}}


def test_many_rows_of_open_panes_are_read_back() -> None:
    rows = [Score(i, 100 * i) for i in range(600)]
    drift = written([([row], row.time, []) for row in rows])
    drift.finish(drift.counter())
    say(drift, 0, [], reached(FAR, highest=rows[-1].time))
    drift.finish(drift.counter())
    found = counted(drift)
    assert [each.quality[0, 0] for each in found] == [10] * 60
    assert [each.counts[0, bins_of(1).part("x", "numeric")].sum() for each in found] == [10] * 60


# --- the laws ---------------------------------------------------------------------------------

ROWS = st.builds(
    Score,
    position=st.just(0),
    time=st.integers(-1_500, 2_500),
    x=st.sampled_from([None, -3.0, 0.5, 1.0, 40.0]),
    source=st.integers(0, 2),
    members=st.sampled_from([None, (1,), (1, 2), (3,)]),
    id=st.sampled_from(["", "", "a", "b"]),
    colour=st.sampled_from([None, "red", "green"]),
)
CODES = st.sampled_from(["not_json", "wrong_type"])


@st.composite
def streams(draw: st.DrawFn) -> Said:
    """Rows around a rising watermark, some late, some repeated, some messages with nothing but a watermark."""
    said: Said = []
    watermark = position = 0
    for _ in range(draw(st.integers(1, 20))):
        rows = []
        for each in draw(st.lists(ROWS, max_size=4)):
            position += 1
            rows.append(replace(each, position=position, time=max(0, watermark + each.time)))
        rejects = []
        for code in draw(st.lists(CODES, max_size=2)):
            position += 1
            rejects.append((position, 0, code))
        again = draw(st.booleans())
        repeated = said[-1][0] if said and again else []
        watermark = max([watermark + draw(st.integers(0, 2_500)), *(row.time for row in rows)])
        said.append((rows + repeated, watermark, rejects))
    return [*said, ([], FAR, [])]


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

    assert told(counted(broken)) == told(counted(whole))
    assert max(repeats(broken).values(), default=1) == 1
    assert [(h.panes, h.coverage) for h, _ in broken.counted()] == [(h.panes, h.coverage) for h, _ in whole.counted()]


@given(streams(), st.sampled_from([2, 4, 16]), st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_any_split_over_partitions_adds_up_to_the_same(said: Said, partitions: int, turn: int) -> None:
    """Every partition hears every watermark; a row, and what repeats its id, may be in any of them."""
    whole, split = written(said), Drift(partitions, spec(lateness="1s"))
    announce(split, 1, 2, 3)
    for rows, watermark, rejects in said:
        for partition in range(partitions):
            mine = [row for row in rows if _place(row, turn) % partitions == partition]
            refused = {0: rejects} if rejects and turn % partitions == partition else {}
            say(split, partition, mine, reached(watermark, rejects=refused, highest=watermark))
    for drift in (whole, split):
        drift.finish(drift.counter())
    assert told(counted(split)) == told(counted(whole))


@given(st.lists(ROWS, min_size=1, max_size=40), st.lists(st.integers(0, 40), max_size=6), st.randoms())
@settings(deadline=None, max_examples=40)
def test_rows_in_time_count_the_same_wherever_messages_are_cut(
    given_rows: list[Score], cuts: list[int], random: Random
) -> None:
    rows = [replace(each, position=index, time=10_000 + each.time) for index, each in enumerate(given_rows)]
    whole: Said = [(rows, 8_000, []), ([], FAR, [])]
    ends = sorted({*(cut for cut in cuts if cut < len(rows)), len(rows)})
    said: Said = [(rows[start:end], 8_000, []) for start, end in pairwise([0, *ends])]
    shuffled = [replace(row, position=index) for index, row in enumerate(random.sample(rows, len(rows)))]
    expected = told(run(whole))
    assert told(run([*said, ([], FAR, [])])) == expected
    assert told(run([(shuffled, 8_000, []), ([], FAR, [])])) == expected


def _place(row: Score, turn: int) -> int:
    return sum(row.id.encode()) if row.id else row.position * 7 + row.source + turn


@given(streams(), st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_a_zombies_repeats_change_nothing(said: Said, every: int) -> None:
    """An old owner writes some of its messages again, later, under its older map."""
    clean, haunted = written(said), Drift(spec=spec(lateness="1s"))
    announce(haunted, 1, 2, 3)
    log = [message for message in clean.broker.log(Place("scored", 0)) if message is not None]
    for number, message in enumerate(log):
        haunted.broker.append(Place("scored", 0), message.value, headers=message.headers)
        if number and number % every == 0:
            again = log[number - 1]
            haunted.broker.append(Place("scored", 0), again.value, headers=again.headers)
    for drift in (clean, haunted):
        drift.finish(drift.counter())
    assert told(counted(haunted)) == told(counted(clean))


def test_the_fates_are_the_reasons_between_good_and_late() -> None:
    assert (FATES[0], FATES[-2:]) == ("ok", ("late", "duplicate"))
    assert {"not_json", "unknown_event"} <= set(FATES[1:-2])
