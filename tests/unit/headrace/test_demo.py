"""The demo's data and story: what is done to the stream, what must be found of it, and what must not."""

import io
from collections.abc import Mapping
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from headrace.demo.accuracy import RECENT
from headrace.demo.command import COURSE, PIPELINE
from headrace.demo.picture import line, picture
from headrace.demo.story import (
    ALARM,
    CHANGE,
    EARLY,
    FIRST,
    FITTED,
    HELD,
    NAMED,
    RECOVERED,
    RIGHT,
    SHIFT,
    SWAPPED,
    TITLES,
    UNIT,
    WEAR,
    Story,
)
from headrace.demo.stream import (
    CYCLIC,
    DAY,
    GATEWAY,
    MEANS,
    NOISE,
    OPTIONS,
    RISE,
    START_MS,
    STEP_MS,
    WORN,
    WRONG,
    gateway,
    readings,
    row_at,
)
from headrace.plot import Frame, plot
from headrace.rows import messages
from schemas.artefact import Quarantine
from schemas.events import Rejection, event_decoder, label_decoder
from schemas.messages import Decision, DriftEpisode, Member, Pool, moment
from schemas.pipeline import load

SPEC = load(PIPELINE)


def accuracy(model: LogisticRegression, rows: pl.DataFrame) -> float:
    return float(model.score(rows.select(list(MEANS)).to_numpy(), rows["needs_service"].to_numpy()))


def fitted(rows: pl.DataFrame) -> LogisticRegression:
    scaled = rows.select(list(MEANS)).to_numpy()
    return LogisticRegression(max_iter=5_000).fit(scaled, rows["needs_service"].to_numpy())


def test_the_same_seed_gives_the_same_readings() -> None:
    assert readings(500, 250, 1).equals(readings(500, 250, 1))
    assert not readings(500, 250, 1).equals(readings(500, 250, 2))


def test_a_model_of_the_old_world_fails_in_the_new_one_and_a_new_model_does_not() -> None:
    rows = readings(12_000, 6_000, 7)
    old, new = rows[:6_000], rows[6_000:]
    assert accuracy(fitted(old[:4_000]), old[4_000:]) > 0.9
    assert accuracy(fitted(old), new) < 0.65
    assert accuracy(fitted(new[:2_000]), new[2_000:]) > 0.9
    assert accuracy(fitted(new), new) <= 1 - NOISE / 2


def test_where_the_meaning_changes_the_readings_themselves_do_not() -> None:
    rows = readings(40 * DAY, 20 * DAY, 7)
    for name, (_, spread) in MEANS.items():
        before, after = (part[name].to_numpy().mean() for part in (rows[: 20 * DAY], rows[20 * DAY :]))
        assert abs(before - after) < 0.08 * spread


def test_most_of_what_moves_humidity_is_the_hour() -> None:
    rows = readings(20 * DAY, 20 * DAY, 7)
    by_hour = rows[CYCLIC].to_numpy().reshape(20, 24, DAY // 24)
    assert by_hour.mean((0, 2)).std() > by_hour.std((0, 2)).mean()


def test_one_gateway_alone_sends_another_unit_and_vibration_alone_rises_and_stays() -> None:
    same = readings(3_000, 500, 7)
    rows = readings(3_000, 500, 7, wrong=range(1_000, 1_500), wear=range(2_000, 2_500))
    changed = [name for name in rows.columns if not rows[name].equals(same[name])]
    assert changed == [WRONG, WORN]
    ratio = rows[WRONG].to_numpy() / same[WRONG].to_numpy()
    bad = np.array([gateway(pump) == GATEWAY for pump in rows["pump"]])
    bad[:1_000] = bad[1_500:] = False
    assert ratio == pytest.approx(np.where(bad, 100, 1))
    assert 50 < bad.sum() < 250
    rise = (rows[WORN] - same[WORN]).to_numpy() / MEANS[WORN][1]
    assert rise[[1_999, 2_250, 2_500, 2_999]] == pytest.approx([0, RISE / 2, RISE, RISE], abs=0.01)


def test_every_message_of_the_demo_is_valid() -> None:
    decoders = {"events": event_decoder(SPEC), "labels": label_decoder(SPEC)}
    rows = readings(900, 300, 7, wrong=range(400, 500), wear=range(600, 700))
    for each in messages(rows, SPEC, OPTIONS):
        assert not isinstance(decoders[each.kind].decode(each.value), Rejection)


# --- the story, at one row per millisecond -----------------------------------------------------------


def episode(name: str, row: int, kind: str, leading: str, **fields: object) -> DriftEpisode:
    at = moment(START_MS + row * STEP_MS)
    stream = {"name": leading, "kind": "numeric", "share": 1.0, "effect": 1.0, "start": at, "bins": [], "before": [],
              "after": [], "source": fields.pop("source", None)}  # fmt: skip
    return DriftEpisode.written(**{
        "id": name, "state": "opened", "family": "features", "kind": kind, "anchor": 1, "detector": "counts",
        "statistic": 8.0, "threshold": 7.0, "detected_at": at, "estimated_start": at - timedelta(hours=1), "rows": 12,
        "positions": {}, "reason": f"{leading} moved", "epoch": 1, "streams": [stream], **fields,
    })  # fmt: skip


CONCEPT = episode("c", COURSE.change + 300, "concept", "_loss")
BAD = episode("b", COURSE.wrong.start + 100, "bad_data", WRONG, source=f"events/{GATEWAY}", evidence={"cause": "unit"})
WEARING = episode("w", COURSE.wear.start + 700, "covariate", WORN)
HELD_BACK = Quarantine(START_MS + COURSE.wrong.start * STEP_MS, START_MS + (COURSE.wrong.stop + 900) * STEP_MS, GATEWAY)


def member(version: int, cause: str, kind: str = "drift") -> Member:
    zeros = "0" * 64
    return Member.written(
        model="demo", version=version, uri=f"models/demo/{version}", sha256=zeros, manifest_sha256=zeros, digest=zeros,
        pipeline_digest="0" * 16, features=tuple(MEANS), trained_through={}, rows=1_300, metrics={},
        cause={"kind": kind, "id": cause}, epoch=1,
    )  # fmt: skip


def pool(version: int, *members: int) -> Pool:
    return Pool.written(
        model="demo", version=version, members=members, leader=members[-1], anchor=members[-1], reference_pane=0,
        weights=dict.fromkeys(members, 1 / len(members)), strategy="blend", epoch=1,
    )  # fmt: skip


def decision(subject: str, step: str, row: int = 0, evidence: Mapping[str, object] | None = None) -> Decision:
    return Decision.written(
        subject=subject, step=step, service="training", outcome=f"{step} it", reason="so", evidence=evidence or {},
        time=moment(START_MS + row * STEP_MS),
    )  # fmt: skip


def begun(until: int) -> Story:
    """A story with its first model, told to a row."""
    story = Story(COURSE)
    for time in range(0, until + 1, 50):
        story.sent(time, time)
    story.member(1_950, member(1, "demo/first", "first"))
    story.pool(pool(1, 1))
    story.scored(2_000, 1)
    for row in range(2_000, COURSE.change):
        story.judged(row + 300, row, 1, right=row % 10 != 0)
    return story


def retrained(until: int = 9_000) -> Story:
    """The meaning has changed, and the new model answers from row 6,800 on."""
    story = begun(until)
    story.episode(5_340, CONCEPT)
    story.member(6_700, member(2, "c"))
    story.pool(pool(2, 1, 2))
    for row in range(COURSE.change, 6_800):
        story.judged(row + 300, row, 1, right=row % 2 == 0)
    story.scored(6_800, 2)
    return story


def recovered(until: int) -> Story:
    story = retrained(until)
    for row in range(6_800, 6_800 + RECENT):
        story.judged(row + 300, row, 2, right=row % 10 != 0)
    return story


def held_back(until: int) -> Story:
    """Bad data came and went."""
    story = recovered(until)
    story.episode(9_700, BAD)
    story.decided(9_710, decision("b", "quarantined", 9_600))
    story.decided(12_400, decision("b", "released", 12_324))
    return story


def test_a_story_in_which_all_goes_as_it_must_is_closed() -> None:
    story = held_back(15_000)
    story.episode(14_300, WEARING)
    assert story.missing == [TITLES[EARLY]]
    story.member(14_500, member(3, "w"), [HELD_BACK])
    assert story.closed
    assert {step: reached.row for step, reached in story.steps.items()} == {
        FIRST: 2_000, CHANGE: 5_000, ALARM: 5_300, FITTED: 6_700, SWAPPED: 6_800, RECOVERED: 7_599, UNIT: 9_500,
        NAMED: 9_600, HELD: 9_710, RIGHT: 12_324, WEAR: 13_500, SHIFT: 14_200, EARLY: 14_500,
    }  # fmt: skip
    assert line(story, ALARM) == "drift is found: concept:  300 rows  0.3 s after  _loss moved"
    assert 0.4 < story.accuracy.worst < 0.6 < story.accuracy.before


def test_what_is_read_out_of_order_is_told_in_order() -> None:
    story = begun(9_000)
    story.scored(6_800, 2)
    story.pool(pool(2, 1, 2))
    story.member(6_700, member(2, "c"))
    assert FITTED not in story.steps
    story.episode(5_340, CONCEPT)
    assert {FITTED, SWAPPED} <= story.steps.keys()


@pytest.mark.parametrize(
    "false",
    [
        episode("x", COURSE.change - 100, "concept", "_loss"),
        episode("x", COURSE.known + 100, "concept", "_loss"),
        episode("x", COURSE.wrong.start + 100, "covariate", WRONG),
        episode("x", COURSE.wrong.start + 100, "bad_data", WRONG, evidence={"cause": "unit"}),
        episode("x", COURSE.wrong.start + 100, "bad_data", WRONG, evidence={"cause": "stuck"}, source="events/1"),
        episode("x", COURSE.wrong.start + 100, "bad_data", WORN, evidence={"cause": "unit"}, source="events/1"),
        episode("x", COURSE.wrong.stop + 500, "recurring", WRONG),
        episode("x", COURSE.wear.start - 100, "covariate", WORN),
        episode("x", COURSE.wear.start + 100, "covariate", CYCLIC),
        episode("x", COURSE.wear.start + 100, "bad_data", WORN),
    ],
)
def test_an_episode_that_says_what_was_not_done_is_false_and_fails_the_demo(false: DriftEpisode) -> None:
    story = held_back(15_000)
    story.episode(14_300, WEARING)
    story.member(14_500, member(3, "w"), [HELD_BACK])
    assert story.closed
    story.episode(14_600, false)
    assert not story.closed
    assert len(story.wrong) == 1
    assert f"row {row_at(false.detected_at):,}" in story.wrong[0]


def test_while_vibration_goes_on_rising_it_may_be_found_again() -> None:
    story = held_back(16_000)
    story.episode(14_300, WEARING)
    story.episode(15_300, episode("w2", COURSE.wear.start + 1_700, "covariate", WORN))
    story.member(15_400, member(3, "w2"), [HELD_BACK])
    assert story.closed


@pytest.mark.parametrize(
    "quarantined",
    [[], [HELD_BACK._replace(source=GATEWAY + 1)], [HELD_BACK._replace(stop=HELD_BACK.start + STEP_MS)]],
)
def test_an_early_fit_that_held_bad_rows_is_wrong(quarantined: list[Quarantine]) -> None:
    story = held_back(15_000)
    story.episode(14_300, WEARING)
    story.member(14_500, member(3, "w"), quarantined)
    assert story.wrong == ["member 3 was fitted on bad data"]


def test_a_fit_because_of_bad_data_is_wrong() -> None:
    story = held_back(15_000)
    story.member(12_500, member(3, "b"))
    assert story.wrong == ["member 3 was fitted because of bad data"]


def test_bad_data_that_is_over_too_early_is_not_right_again() -> None:
    story = recovered(15_000)
    story.episode(9_700, BAD)
    story.decided(9_900, decision("b", "released", 9_800))
    assert RIGHT not in story.steps


def test_a_new_model_that_is_no_better_does_not_close_the_loop() -> None:
    story = retrained()
    for row in range(6_800, 8_800):
        story.judged(row + 300, row, 1, right=True)  # still predicted by the old model
        story.judged(row + 300, row, 2, right=row % 2 == 0)
    assert RECOVERED not in story.steps


def test_the_stream_goes_on_when_the_loop_has_dealt_with_what_came_before() -> None:
    assert Story(COURSE).passed == 0
    assert begun(3_000).passed == 1
    story = recovered(9_000)
    assert story.passed == 1
    story.decided(6_750, decision("demo/pool/1", "swapped", evidence={"pool": 1}))
    assert story.passed == 1
    story.decided(6_750, decision("demo/pool/2", "swapped", evidence={"pool": 2}))
    assert story.passed == 2
    story = held_back(13_000)
    story.decided(6_750, decision("demo/pool/2", "swapped", evidence={"pool": 2}))
    assert story.passed == 3


def test_the_picture_can_be_drawn_at_every_moment() -> None:
    wrong = begun(9_000)
    wrong.episode(3_000, episode("x", 2_900, "covariate", CYCLIC))
    for story in (Story(COURSE), retrained(), held_back(15_000), wrong):
        page = io.StringIO()
        Console(file=page, width=100).print(picture(story, 0))
        assert all(title in page.getvalue() for title in TITLES)
        assert ("1 false" in page.getvalue()) == (story is wrong)


def test_a_plot_goes_from_bottom_left_to_top_right() -> None:
    drawn = plot([(0, 0.0), (10, 1.0)], Frame(10, 4, 10, 0.0, 1.0), {5: "red"}).plain.splitlines()
    assert drawn[3].startswith("   0% ┤")
    assert drawn[3][7] not in " │"
    assert drawn[0].startswith(" 100% ┤")
    assert drawn[0][16] not in " │"
    assert drawn[0][7 + 5] == "│"
