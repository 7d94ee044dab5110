"""The demo's picture: the curve of the accuracy with its change, and the steps so far."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.demo.story import ALARM, CHANGE, SWAPPED, TITLES, Step, Story
from headrace.plot import Frame, plot

HEIGHT = 13
WIDTH = 70
LOW = 0.3
LEAST_ROWS = 12_000
"""Rows for which there is room from the start; a longer story draws the curve together."""
SECOND_MS = 1000
_MARKS = ((CHANGE, "red"), (ALARM, "yellow"), (SWAPPED, "green"))


def picture(story: Story, sent: int) -> RenderableType:
    """The whole picture; moves as the story goes on."""
    progress = Text.assemble(("right predictions", "bold"), f" by row; {sent:,} events sent")
    return Group(progress, curve(story, max(sent, LEAST_ROWS)), steps(story))


def curve(story: Story, rows: int) -> Text:
    """Share of right predictions by row of the stream, with the steps that matter as vertical lines."""
    marks = {float(story.steps[step].row): colour for step, colour in _MARKS if step in story.steps}
    return plot(story.curve(), Frame(WIDTH, HEIGHT, rows, LOW, 1.0), marks)


def steps(story: Story) -> Table:
    """What has happened, with rows and seconds since the change."""
    table = Table.grid(padding=(0, 2))
    for number, title in enumerate(TITLES):
        if number in story.steps:
            table.add_row("✓", title, *_since(story, number))
        else:
            table.add_row("·", Text(title, "dim"), "", "")
    return table


def line(story: Story, number: int) -> str:
    """One step as a line of its own, for a log."""
    return "  ".join([f"{TITLES[number]}:", *filter(None, _since(story, number))])


def _since(story: Story, number: int) -> tuple[str, str]:
    step, change = story.steps[number], story.steps.get(CHANGE)
    if change is None or number <= CHANGE:
        return f"at row {step.row:,}", ""
    return f"{step.row - change.row:,} rows", f"{_seconds(change, step):.1f} s after the change"


def _seconds(start: Step, end: Step) -> float:
    return (end.time - start.time) / SECOND_MS
