"""An episode as one HTML file that needs nothing else: pictures, and every number in a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from headrace.drift.charts import curve, histogram
from headrace.drift.pages import bins, decided, facts, little, movement, title
from headrace.drift.reading import Story
from headrace.errors import WrongUse
from schemas.messages import StreamChange, rfc3339


def document(story: Story, pipeline: str) -> str:
    """The file; every text that comes from the log is escaped."""
    text = resources.files("headrace.drift").joinpath("document.html").read_text(encoding="utf-8")
    parts = {
        "pipeline": escape(pipeline),
        "id": escape(story.episode.id),
        "kind": escape(story.kind),
        "reason": escape(story.episode.reason),
        "facts": _table((), facts(story)),
        "streams": "\n".join(_streams(story.episode.streams)) or "<p>The message names no stream.</p>",
        "statistic": _statistic(story),
        "decisions": _table(("when", "who", "what", "why"), decided(story)),
    }
    return Template(text).substitute(parts)


def write_all(stories: Mapping[str, Story], pipeline: str, directory: Path) -> None:
    """Write a file for each episode, named by its id; WrongUse where one cannot be written."""
    for name, story in stories.items():
        write(directory / f"{name}.html", document(story, pipeline))


def write(path: Path, text: str) -> None:
    """Write a file, its directory too.

    Raises:
        WrongUse: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WrongUse(f"{path} cannot be written: {error.strerror}. Name a place that you may write to") from error


def _streams(streams: Iterable[StreamChange]) -> Iterator[str]:
    """Pictures and numbers of each stream; those that say little are folded, unless it is the first."""
    for number, stream in enumerate(streams, 1):
        body = "\n".join(_stream(stream, number))
        name, told = escape(title(stream)), f'<span class="told">{escape(movement(stream))}</span>'
        if number > 1 and little(stream):
            yield f'<details class="little"><summary><b>{name}</b> {told}</summary>\n{body}\n</details>'
        else:
            yield f"<h3>{name}</h3>\n<p>{told}</p>\n{body}"


def _stream(stream: StreamChange, number: int) -> Iterator[str]:
    columns = ("bin", "rows before", "share before", "rows after", "share after")
    rows = (
        (each.name, f"{each.before:,}", f"{each.share_before:.2%}", f"{each.after:,}", f"{each.share_after:.2%}")
        for each in bins(stream)
    )
    yield f'<div class="wide">{histogram(stream, number)}</div>'
    yield _numbers(_table(columns, rows))


def _statistic(story: Story) -> str:
    history = story.episode.history
    if len(history) < 2:  # noqa: PLR2004 - a point is no curve
        return "<p>The message holds no history of the statistic.</p>"
    rows = ((rfc3339(each.at), f"{each.value:.3f}") for each in history)
    table = _table(("end of the pane", "log10 of the statistic"), rows)
    return f'<div class="wide">{curve(story)}</div>\n{_numbers(table)}'


def _numbers(table: str) -> str:
    return f"<details><summary>The numbers</summary>\n{table}\n</details>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; without columns the first cell of each row is its heading."""
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in columns)
    body = "\n".join(_row(each, headed=not columns) for each in rows)
    if not body:
        return "<p>None yet.</p>"
    top = f"<thead><tr>{head}</tr></thead>\n" if head else ""
    return f'<div class="wide"><table>\n{top}<tbody>\n{body}\n</tbody></table></div>'


def _row(cells: Sequence[str], *, headed: bool) -> str:
    first = f'<th scope="row">{escape(cells[0])}</th>' if headed else f"<td>{escape(cells[0])}</td>"
    return f"<tr>{first}{''.join(f'<td>{escape(each)}</td>' for each in cells[1:])}</tr>"
