"""A story in a terminal: the answer first, then who said what when."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.dead_letters.values import printable
from headrace.explain.ledger import Entry, Telling
from headrace.explain.words import clock, figures, sentence
from schemas.messages import rfc3339


def page(telling: Telling) -> RenderableType:
    """Everything."""
    table = Table.grid(padding=(0, 2))
    for cells in _lines(telling):
        table.add_row(*cells)
    return Group(Text(printable(telling.summary), "bold"), Text(), table)


def _lines(telling: Telling) -> Iterator[tuple[Text, Text, Text]]:
    """A line per entry, below it its figures; a line with the date where the day changes."""
    day = ""
    for entry in telling.entries:
        if (today := rfc3339(entry.near)[:10]) != day:
            day = today
            yield Text(day, "dim"), Text(), Text()
        yield Text(_when(entry), "cyan"), Text(entry.service, "dim"), Text(printable(sentence(entry)))
        subject = [] if entry.subject == telling.subject else [f"({entry.subject})"]
        if told := " ".join([figures(entry), *subject]).strip():
            yield Text(), Text(), Text(printable(told), "dim")


def _when(entry: Entry) -> str:
    return "" if entry.time is None else clock(entry.time)
