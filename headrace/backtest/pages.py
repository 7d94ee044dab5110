"""Both policies side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from headrace.backtest.judging import Side
from headrace.dead_letters.values import printable
from headrace.explain.words import number

FIGURES = ("accuracy", "log_loss", "rmse", "mae")


def table(running: Side, changed: Side) -> Table:
    """A line per figure."""
    found = Table("", "as it runs", "as changed", box=None, header_style="bold")
    for name, left, right in lines(running, changed):
        found.add_row(name, left, right)
    return found


def changes(paths: Sequence[str]) -> Text:
    """What differs between the two policies."""
    return Text(printable("changed: " + "; ".join(paths)), "dim")


def lines(running: Side, changed: Side) -> Iterator[tuple[str, str, str]]:
    """Name and text of each figure."""
    told = [dict(_figures(each)) for each in (running, changed)]
    for name in told[0] | told[1]:
        yield name, told[0].get(name, ""), told[1].get(name, "")


def _figures(side: Side) -> Iterator[tuple[str, str]]:
    yield "trainings", f"{side.trainings:,}, {side.members:,} of them announced"
    yield "triggers without a fit", f"{side.suppressed:,}"
    yield "seconds of fits", f"{side.fit_seconds:,.2f}"
    yield (
        "drift episodes",
        ", ".join([f"{side.episodes:,}", *(f"{count} {kind}" for kind, count in side.kinds.items())]),
    )
    unknown = f", of {side.unknown:,} it is not known" if side.unknown else ""
    yield "false alarms", f"{side.false_alarms:,}{unknown}"
    if side.delay_rows is not None and side.delay_seconds is not None:
        yield "delay of detection", f"{number(side.delay_rows)} rows, {number(side.delay_seconds)} s (median)"
    yield "labelled predictions of both", f"{side.judged:,}"
    for name in FIGURES:
        value = getattr(side.metric, name)
        if value is not None:
            yield name.replace("_", " "), f"{value:.4f}"
