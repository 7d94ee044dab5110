"""Shows a report to a person: a curve of the metric, the fits, the episodes; to a program as JSON."""

from __future__ import annotations

from math import ceil, floor
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.drift.pages import notes
from headrace.drift.reading import kind_of
from headrace.output import Output
from headrace.plot import Frame, plot
from headrace.report import Report

WIDTH, HEIGHT = 90, 12
LEAST = 1e-9
"""Height of a picture of errors that are all zero."""


def tell(output: Output, report: Report) -> None:
    """Say everything."""
    output.give(report.as_json())
    told = [_summary(report), *([curve(report)] if report.curve else []), _members(report), _episodes(report)]
    output.say(Group(*told, notes(report.advice)))


def curve(report: Report) -> RenderableType:
    """Accuracy or rmse along the judged rows; a vertical line where another pool began to answer."""
    name = "accuracy" if report.rmse is None else "rmse"
    points = [(float(point.until), float(getattr(point, name))) for point in report.curve]
    values = [value for _, value in points]
    # To the 5 % around: a curve at 95 % would be a line at the top of a picture from 0.
    step = 0.05 if report.rmse is None else 0.05 * max(*values, LEAST)
    low, high = floor(min(values) / step) * step, ceil(max(values) / step) * step
    frame = Frame(
        WIDTH, HEIGHT, points[-1][0], low, max(high, low + step), "{:.0%}" if report.rmse is None else "{:.4g}"
    )
    title = Text(f"prequential {name} by labelled row; │ another model answers\n", "bold")
    return Group(title, plot(points, frame, dict.fromkeys(map(float, report.swaps.values()), "cyan")))


def _summary(report: Report) -> Table:
    table = Table.grid(padding=(0, 3))
    name, metric = "accuracy", "no labelled prediction yet"
    if report.accuracy is not None:
        metric = f"{report.accuracy:.4f}, log loss {report.log_loss:.4f}, over {report.judged:,} labelled predictions"
    elif report.rmse is not None:
        name, metric = "rmse", f"{report.rmse:.4f}, mae {report.mae:.4f}, over {report.judged:,} labelled predictions"
    table.add_row(f"prequential {name}", metric)
    table.add_row("events / predictions", f"{report.events:,} / {report.predictions:,}")
    table.add_row("labelled examples", f"{report.examples:,}")
    table.add_row("dead letters", f"{report.dead_letters:,}")
    return table


def _members(report: Report) -> Table:
    table = Table("version", "cause", "rows", "held out", title=f"models: {len(report.members)}", title_justify="left")
    for each in report.members:
        table.add_row(str(each["version"]), _cause(each["cause"]), f"{each['rows']:,}", _figures(each["metrics"]))
    return table


def _episodes(report: Report) -> Table:
    table = Table("episode", "kind", "began", "detected", "state", "why", title=f"drift: {len(report.episodes)}")
    table.title_justify = "left"
    for each in report.episodes:
        times = each["estimated_start"], each["detected_at"]
        table.add_row(each["id"], kind_of(each["kind"]), *times, each["state"], each["reason"])
    return table


def _cause(cause: dict[str, Any]) -> str:
    return f"{cause['kind']} {cause['id']}"


def _figures(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
