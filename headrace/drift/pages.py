"""Episodes for people, in a terminal: a list, and a page with pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import ceil, floor
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.dead_letters.values import printable
from headrace.drift.reading import Story
from headrace.plot import Frame, plot
from schemas.messages import Scalar, Statistic, StreamChange, rfc3339

WIDTH, HEIGHT, BAR = 90, 10, 24
ORDERED = frozenset({"numeric", "score", "loss", "magnitude"})
EIGHTHS = " ▏▎▍▌▋▊▉█"
BEFORE, AFTER = "cyan", "yellow"
LITTLE_SHARE, LITTLE_EFFECT = 0.005, 0.2
"""Of the statistic; in standard deviations, or total variation."""
ADWIN = "adwin"
"""The test on the errors themselves: its figures are no logarithms."""


def line(story: Story) -> dict[str, object]:
    """What `list --json` says of an episode."""
    episode = story.episode
    return {
        "id": episode.id,
        "kind": episode.kind,
        "state": story.state,
        "family": episode.family,
        "anchor": episode.anchor,
        "estimated_start": rfc3339(episode.estimated_start),
        "detected_at": rfc3339(episode.detected_at),
        "streams": [each.name for each in episode.streams],
        "reason": episode.reason,
        "consequence": story.consequence,
    }


def table(stories: Iterable[Story]) -> RenderableType:
    """What `line` says of episodes, one per line."""
    found = Table("episode", "kind", "state", "began", "why", "what followed", box=None, header_style="bold")
    for each in stories:
        episode = each.episode
        cells = (episode.id, each.kind, each.state, rfc3339(episode.estimated_start), episode.reason, each.consequence)
        found.add_row(*map(_plain, cells))
    return found if found.row_count else Text("no drift episode")


def notes(advised: Iterable[str]) -> RenderableType:
    """What the judge advises, a line each."""
    return Group(*(Text(f"drift: {printable(each)}", "yellow") for each in advised))


def page(story: Story) -> RenderableType:
    """Everything about an episode."""
    parts: list[RenderableType] = [_facts(story)]
    parts += [_histogram(each) for each in story.episode.streams]
    if len(story.episode.history) > 1:
        parts.append(_curve(story))
    return Group(*parts, _followed(story))


# --- facts ------------------------------------------------------------------------------------


def facts(story: Story) -> Iterator[tuple[str, str]]:
    """Name and text of everything that is told in a line."""
    episode, closed = story.episode, story.closed
    yield "episode", episode.id
    yield "kind", story.kind
    yield "state", "open" if closed is None else f"closed at {story.ended}: {closed.reason}"
    yield "why", episode.reason
    yield "began", f"{rfc3339(episode.estimated_start)}, probably"
    yield "detected", f"{rfc3339(episode.detected_at)}, {episode.rows:,} rows later"
    names = ("rise of the error", "delta") if episode.detector == ADWIN else ("log10 of the statistic", "threshold")
    told = f"{episode.statistic:.4g}, {names[1]} {episode.threshold:.4g}"
    yield names[0], f"{told} ({episode.detector}, of the family {episode.family})"
    yield "watched", f"against the reference of member {episode.anchor}"
    if episode.recurs is not None:
        yield "known to", f"member {episode.recurs}: its reference fits again"
    if sources := sorted({each.source for each in episode.streams if each.source}):
        yield "source", ", ".join(sources)
    yield "evidence", ", ".join(f"{name} {_figure(value)}" for name, value in episode.evidence.items()) or "none"
    yield "followed", story.consequence


def _figure(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _facts(story: Story) -> Table:
    found = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, text in facts(story):
        found.add_row(Text(name, "bold"), _plain(text))
    return found


def _followed(story: Story) -> RenderableType:
    found = Table("when", "who", "what", "why", box=None, header_style="bold", title="\nwhat followed")
    found.title_justify = "left"
    for when, *cells in decided(story):
        found.add_row(when, *map(_plain, cells))
    return found if found.row_count else Text("nothing was decided because of it yet")


def decided(story: Story) -> Iterator[tuple[str, str, str, str]]:
    """When, who, what and why of each decision."""
    for each in story.decisions:
        other = "" if each.subject == story.episode.id else f" ({each.subject})"
        what = f"{each.step}: {each.outcome}{other}"
        yield "" if each.time is None else rfc3339(each.time), each.service, what, each.reason


# --- histograms -------------------------------------------------------------------------------


class Bin(NamedTuple):
    """A bin of a histogram: rows and their share of all."""

    name: str
    before: int
    after: int
    share_before: float
    share_after: float


def bins(stream: StreamChange) -> list[Bin]:
    """The bins that have a name or rows."""
    all_before, all_after = max(sum(stream.before), 1), max(sum(stream.after), 1)
    return [
        Bin(name, before, after, before / all_before, after / all_after)
        for name, before, after in zip(stream.bins, stream.before, stream.after, strict=True)
        if name or before or after
    ]


def title(stream: StreamChange) -> str:
    """What a stream is."""
    return f"{stream.name} ({stream.kind})"


def heading(stream: StreamChange) -> str:
    """A stream in a line: what it is, and what it says."""
    return f"{title(stream)}: {movement(stream)}"


def little(stream: StreamChange) -> bool:
    """Whether a stream says next to nothing."""
    return stream.share < LITTLE_SHARE and abs(stream.effect) < LITTLE_EFFECT


def movement(stream: StreamChange) -> str:
    """How much a stream says, how far it moved, since when and where."""
    unit = " standard deviations" if stream.kind in ORDERED else " total variation"
    source = "" if stream.source is None else f", only in {stream.source}"
    told = f"{stream.share:.0%} of the statistic, effect {stream.effect:+.2f}{unit}"
    return f"{told}, since {rfc3339(stream.start)}{source}"


def _histogram(stream: StreamChange) -> RenderableType:
    found = Table("bin", "before", "", "after", "", box=None, header_style="bold", title_justify="left")
    found.title = Text(f"\n{printable(heading(stream))}", "bold")
    for column in (2, 4):
        found.columns[column].justify = "right"
    shown = bins(stream)
    most = max((max(each.share_before, each.share_after) for each in shown), default=0.0) or 1.0
    for each in shown:
        before, after = _bar(each.share_before / most, BEFORE), _bar(each.share_after / most, AFTER)
        found.add_row(_plain(each.name), before, f"{each.share_before:.1%}", after, f"{each.share_after:.1%}")
    return found


def _bar(length: float, colour: str) -> Text:
    full, rest = divmod(round(length * BAR * 8), 8)
    return Text(f"{'█' * full}{EIGHTHS[rest].strip()}".ljust(BAR), colour)


# --- the statistic over time ------------------------------------------------------------------


def level(story: Story) -> float | None:
    """Height of the threshold in the picture; None where it is a test's delta and no level of the statistic."""
    return None if story.episode.detector == ADWIN else story.episode.threshold


def span(story: Story) -> tuple[float, float]:
    """Lowest and highest value that the picture shows: whole powers of ten."""
    values = [each.value for each in story.episode.history]
    limit = level(story)
    values += [] if limit is None else [limit]
    return floor(min(values)), max(ceil(max(values)), floor(min(values)) + 1)


def seconds(history: Iterable[Statistic]) -> list[tuple[float, float]]:
    """The points of the curve: seconds since the first one, and the value."""
    points = list(history)
    return [((each.at - points[0].at).total_seconds(), each.value) for each in points]


def _curve(story: Story) -> RenderableType:
    episode, points = story.episode, seconds(story.episode.history)
    first, last = episode.history[0].at, episode.history[-1].at
    frame = Frame(WIDTH, HEIGHT, points[-1][0] or 1.0, *span(story), "{:.1f}", (rfc3339(first), rfc3339(last)))
    marks: Mapping[float, str] = {
        (time - first).total_seconds(): colour
        for time, colour in ((episode.estimated_start, BEFORE), (episode.detected_at, AFTER))
        if first <= time <= last
    }
    title = Text("\nlog10 of the statistic; │ the probable start and the detection, ╌ the threshold\n", "bold")
    return Group(title, plot(points, frame, marks, level(story)))


def _plain(text: str) -> Text:
    return Text(printable(text).replace("\n", " "))
