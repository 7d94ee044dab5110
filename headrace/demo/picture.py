"""The demo's picture: the curve of the accuracy with its changes, and what was found of each and followed."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.demo.progress import Step
from headrace.demo.story import BEGINS, CALM, EARLY, FIRST, RIGHT, SWAPPED, TITLES, Story
from headrace.demo.stream import DAY
from headrace.plot import Frame, plot

HEIGHT = 13
WIDTH = 70
LOW = 0.3
LEAST_ROWS = 15_000
"""Rows for which there is room from the start; a longer story draws the curve together."""
SECOND_MS = 1000
DONE, FOUND, FOLLOWED = "red", "yellow", "green"
_MARKS = {
    **dict.fromkeys(BEGINS, DONE),
    **dict.fromkeys((found for found, *_ in BEGINS.values()), FOUND),
    **dict.fromkeys((SWAPPED, RIGHT, EARLY), FOLLOWED),
}
_BEGIN = {step: begin for begin, steps in BEGINS.items() for step in steps}


def picture(story: Story, sent: int) -> RenderableType:
    """The whole picture; moves as the story goes on."""
    progress = Text.assemble(("right predictions", "bold"), f" by row; {sent:,} events sent, {sent / DAY:.0f} days")
    return Group(progress, curve(story, max(sent, LEAST_ROWS)), steps(story, sent))


def curve(story: Story, rows: int) -> Text:
    """Share of right predictions by row of the stream, with the steps that matter as vertical lines."""
    reached = story.steps
    marks = {float(reached[step].row): colour for step, colour in _MARKS.items() if step in reached}
    return plot(story.accuracy.curve(), Frame(WIDTH, HEIGHT, rows, LOW, 1.0), marks)


def steps(story: Story, sent: int) -> Table:
    """What was done to the stream, and below it what was found and followed, with rows and seconds since."""
    table, reached = Table.grid(padding=(0, 2)), story.steps
    for number, title in enumerate(TITLES):
        indented = f"  {title}" if number in _BEGIN else title
        if number in reached:
            table.add_row("✓", indented, *_since(reached, number))
        else:
            table.add_row("·", Text(indented, "dim"), "", "")
        if number == FIRST:
            table.add_row(*_calm(story, sent))
    return table


def line(story: Story, number: int) -> str:
    """One step as a line of its own, for a log."""
    told = filter(None, (*_since(story.steps, number), story.details[number]))
    return "  ".join([f"{TITLES[number]}:", *told])


def _calm(story: Story, sent: int) -> tuple[str, str | Text, str, str]:
    """The change that is none."""
    if story.wrong:
        return "✗", Text(f"{len(story.wrong)} false", "red"), "", ""
    return "✓", CALM, f"{sent // DAY} days", "no alarm"


def _since(reached: Mapping[int, Step], number: int) -> tuple[str, str]:
    step, begin = reached[number], reached.get(_BEGIN.get(number, number))
    if begin is None or begin is step:
        return f"at row {step.row:,}", ""
    return f"{step.row - begin.row:,} rows", f"{(step.time - begin.time) / SECOND_MS:.1f} s after"
