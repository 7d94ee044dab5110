"""Pictures of an episode as SVG: histograms of a stream, and the statistic over time.

Colours and lines come from the page's style, so that they suit light and dark; what a colour says is said by the form,
too: before is outlined, after is filled.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape
from itertools import pairwise
from statistics import median

from headrace.drift.pages import Bin, bins, heading, level, seconds, span
from headrace.drift.reading import Story
from schemas.messages import StreamChange, rfc3339

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 84
GRID = 4
LONGEST = 14
GAP = 8
"""Times the usual step between two points, from which on the curve is broken."""


def histogram(stream: StreamChange, number: int) -> str:
    """The bins of a stream, before beside after, as shares of their rows."""
    shown = bins(stream)
    most = max((max(each.share_before, each.share_after) for each in shown), default=0.0) or 1.0
    step = _across(1.0) / max(len(shown), 1)
    body = [*_grid([(i / GRID, f"{most * i / GRID:.0%}") for i in range(GRID + 1)])]
    for index, each in enumerate(shown):
        body += _pair(each, LEFT + index * step, step, most)
    told = f"Of {sum(stream.before):,} rows before and {sum(stream.after):,} after, the share in each bin."
    return _svg(f"histogram-{number}", heading(stream), told, body)


def _pair(each: Bin, x: float, step: float, most: float) -> Iterator[str]:
    width = step * 0.4
    for name, left, rows, share in (
        ("before", x + step * 0.08, each.before, each.share_before),
        ("after", x + step * 0.52, each.after, each.share_after),
    ):
        height = _up(share / most)
        told = escape(f"{each.name or '(unnamed)'}, {name}: {rows:,} rows, {share:.2%}")
        place = f'x="{left:.1f}" y="{TOP + _up(1) - height:.1f}" width="{width:.1f}" height="{height:.1f}"'
        yield f'<rect class="{name}" {place}><title>{told}</title></rect>'
    text = each.name if len(each.name) <= LONGEST else f"{each.name[: LONGEST - 1]}…"
    middle, foot = x + step / 2, TOP + _up(1) + 12
    yield f'<text transform="translate({middle:.1f} {foot:.1f}) rotate(-40)" text-anchor="end">{escape(text)}</text>'


def curve(story: Story) -> str:
    """The statistic at the end of each pane, its threshold, the probable start and the detection."""
    episode, points = story.episode, seconds(story.episode.history)
    (low, high), last = span(story), points[-1][0] or 1.0
    first = episode.history[0].at
    body = [*_grid([(i / GRID, f"{low + (high - low) * i / GRID:.1f}") for i in range(GRID + 1)])]
    if (limit := level(story)) is not None:
        y = _y((limit - low) / (high - low))
        body.append(f'<line class="threshold" x1="{LEFT}" x2="{_x(1):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(f'<text x="{LEFT + 4}" y="{y - 4:.1f}">threshold</text>')
    moments = (("start", episode.estimated_start, 16), ("detected", episode.detected_at, 30))
    for name, time, below in moments:  # each on a line of its own: they may lie close together
        body += _moment(name, time, (time - first).total_seconds() / last, below)
    for part in _unbroken(points):
        line = " ".join(f"{_x(x / last):.1f},{_y((y - low) / (high - low)):.1f}" for x, y in part)
        body.append(f'<polyline class="statistic" points="{line}"/>')
    for share, anchor, time in ((0.0, "start", first), (1.0, "end", episode.history[-1].at)):
        body.append(f'<text x="{_x(share):.1f}" y="{_y(0) + 48:.1f}" text-anchor="{anchor}">{rfc3339(time)}</text>')
    told = f"From {points[0][1]:.2f} to {points[-1][1]:.2f} over {len(points)} panes."
    return _svg("statistic", "Logarithm to base 10 of the statistic over time", told, body)


def _unbroken(points: list[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """The stretches of the curve: where nothing was judged there is no line."""
    steps = [after - before for (before, _), (after, _) in pairwise(points)]
    usual, start = median(steps), 0
    for end, step in enumerate(steps, 1):
        if step > GAP * usual:
            yield points[start:end]
            start = end
    yield points[start:]


def _moment(name: str, time: datetime, share: float, below: int) -> Iterator[str]:
    if not 0 <= share <= 1:
        return
    x = _x(share)
    yield f'<line class="{name}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{_y(0):.1f}"/>'
    anchor = "end" if share > 1 / 2 else "start"
    told = f"{name} {time:%Y-%m-%d %H:%M}"
    yield f'<text x="{x:.1f}" y="{_y(0) + below:.1f}" text-anchor="{anchor}">{told}</text>'


# --- the frame --------------------------------------------------------------------------------


def _grid(heights: list[tuple[float, str]]) -> Iterator[str]:
    for share, text in heights:
        y = _y(share)
        yield f'<line class="grid" x1="{LEFT}" x2="{_x(1):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'


def _svg(name: str, title: str, description: str, body: list[str]) -> str:
    head = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    frame = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-desc"'
    return f"<svg {frame}>\n{head}\n" + "\n".join(body) + "\n</svg>"


def _across(share: float) -> float:
    return (WIDTH - LEFT - RIGHT) * share


def _up(share: float) -> float:
    return (HEIGHT - TOP - BOTTOM) * share


def _x(share: float) -> float:
    return LEFT + _across(share)


def _y(share: float) -> float:
    return TOP + _up(1) - _up(share)
