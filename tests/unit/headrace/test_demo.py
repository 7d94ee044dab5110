"""The demo's data and story: the change is in the labels alone, and every step is told with its rows and seconds."""

import io

import polars as pl
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from headrace.demo.command import CHANGE_ROW, OPTIONS, PIPELINE
from headrace.demo.picture import line, picture
from headrace.demo.story import ALARM, CHANGE, FIRST, FITTED, RECENT, RECOVERED, SWAPPED, TITLES, Story
from headrace.demo.stream import MEANS, NOISE, readings
from headrace.plot import Frame, plot
from headrace.rows import messages
from schemas.events import Rejection, event_decoder, label_decoder
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


def test_the_readings_themselves_do_not_change() -> None:
    rows = readings(12_000, 6_000, 7)
    for name, (_, spread) in MEANS.items():
        before, after = (part[name].to_numpy().mean() for part in (rows[:6_000], rows[6_000:]))
        assert abs(before - after) < 0.08 * spread


def test_every_message_of_the_demo_is_valid() -> None:
    decoders = {"events": event_decoder(SPEC), "labels": label_decoder(SPEC)}
    for each in messages(readings(600, 300, 7), SPEC, OPTIONS):
        assert not isinstance(decoders[each.kind].decode(each.value), Rejection)


def told() -> Story:
    """A story at one row per millisecond, told to the end."""
    story = Story(change=6_000)
    for time in range(0, 16_001, 50):
        story.sent(time, time)
    story.scored(2_000, 1)
    for row in range(2_000, 6_000):
        story.judged(row + 300, row, 1, right=row % 10 != 0)
    story.alarm(7_010)
    for row in range(6_000, 8_500):
        story.judged(row + 300, row, 1, right=row % 2 == 0)
    story.announced(8_400)
    story.scored(8_300, 1)
    story.scored(8_525, 2)
    return story


def test_steps_are_told_in_rows_of_the_stream() -> None:
    story = told()
    rows = {step: reached.row for step, reached in story.steps.items()}
    assert rows == {FIRST: 2_000, CHANGE: 6_000, ALARM: 7_010, FITTED: 8_400, SWAPPED: 8_525}
    assert story.missing == [TITLES[RECOVERED]]
    assert line(story, ALARM) == "drift is found:  1,010 rows  1.0 s after the change"


def test_recovered_is_when_the_new_model_is_as_good_as_the_old_one_was() -> None:
    story = told()
    for row in range(8_500, 8_500 + RECENT):
        story.judged(row + 300, row, 1, right=True)  # still predicted by the old model
    assert not story.closed
    for row in range(9_000, 9_000 + RECENT):
        story.judged(row + 300, row, 2, right=row % 10 != 0)
    assert story.closed
    assert story.steps[RECOVERED].row == 9_000 + RECENT - 1 + 300
    assert 0.4 < story.worst < 0.6 < story.before


def test_a_new_model_that_is_no_better_does_not_close_the_loop() -> None:
    story = told()
    for row in range(9_000, 12_000):
        story.judged(row + 300, row, 2, right=row % 2 == 0)
    assert not story.closed


def test_an_alarm_before_the_change_is_not_part_of_the_story() -> None:
    story = Story(CHANGE_ROW)
    story.sent(0, 0)
    story.alarm(10)
    story.announced(11)
    story.sent(7_000, 7_000)
    assert set(story.steps) == {CHANGE}


def test_the_picture_can_be_drawn_at_every_moment() -> None:
    for story in (Story(CHANGE_ROW), told()):
        page = io.StringIO()
        Console(file=page, width=100).print(picture(story, 0))
        assert all(title in page.getvalue() for title in TITLES)


def test_a_plot_goes_from_bottom_left_to_top_right() -> None:
    drawn = plot([(0, 0.0), (10, 1.0)], Frame(10, 4, 10, 0.0, 1.0), {5: "red"}).plain.splitlines()
    assert drawn[3].startswith("   0% ┤")
    assert drawn[3][7] not in " │"
    assert drawn[0].startswith(" 100% ┤")
    assert drawn[0][16] not in " │"
    assert drawn[0][7 + 5] == "│"
