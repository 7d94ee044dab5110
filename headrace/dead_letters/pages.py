"""Dead letters for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.dead_letters.mends import mend
from headrace.dead_letters.reading import Letter
from headrace.dead_letters.replaying import Tally, returnable
from headrace.dead_letters.values import as_fields, pretty, printable, short
from schemas.messages import moment, rfc3339

MESSAGE_WIDTH = 60


def when(letter: Letter) -> str:
    """When the letter was written."""
    return rfc3339(moment(letter.message.timestamp))


def line(letter: Letter, *, replayed: bool) -> dict[str, object]:
    """What `list --json` says of a letter."""
    story = letter.story
    return {
        "id": story.id,
        "time": when(letter),
        **story.model_dump(exclude={*story.seldom}),
        "replayed": replayed,
        "bytes": len(letter.message.value or b""),
    }


def table(lines: Iterable[Mapping[str, object]]) -> Table:
    """What `line` says of letters, one per line."""
    found = Table("when", "id", "reason", "path", "message", "replayed", box=None, header_style="bold")
    for each in lines:
        cells = (each["time"], each["id"], each["reason"], each["path"], _shortened(str(each["message"])))
        found.add_row(*map(_plain, map(str, cells)), "yes" if each["replayed"] else "")
    return found


def summary(reasons: Mapping[str, tuple[int, int]], unreadable: int) -> RenderableType:
    """How many there are of each reason, and how many of them were replayed."""
    found = Table("reason", "letters", "replayed", box=None, header_style="bold")
    for reason, (count, replayed) in sorted(reasons.items(), key=lambda each: (-each[1][0], each[0])):
        found.add_row(_plain(reason), f"{count:,}", f"{replayed:,}")
    parts: list[RenderableType] = [Text(""), found]
    if unreadable:
        parts.append(Text(f"{unreadable:,} messages without our headers were left out: somebody else wrote them"))
    return Group(*parts) if reasons else Group(Text("no dead letters"), *parts[2:])


def _shortened(text: str) -> str:
    return text if len(text) <= MESSAGE_WIDTH else f"{text[: MESSAGE_WIDTH - 1]}…"


def _plain(text: str) -> Text:
    return Text(printable(text).replace("\n", " "))


def everything(letter: Letter, replay: Mapping[str, object] | None) -> dict[str, object]:
    """What `show --json` says of a letter."""
    message = letter.message
    return {
        **line(letter, replayed=replay is not None),
        "replay": replay,
        "mend": mend(letter.story.reason),
        "at": {"partition": letter.place.partition, "offset": message.offset},
        "notes": {name: _parsed(text) for name, text in letter.notes.items()},
        **as_fields("key", message.key),
        "headers": [{"name": name, **as_fields("value", value)} for name, value in letter.original_headers],
        **as_fields("value", message.value),
    }


def page(letter: Letter, replay: Mapping[str, object] | None) -> RenderableType:
    """Everything about a letter, for people."""
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, text in _facts(letter, replay):
        facts.add_row(Text(printable(name), "bold"), Text(printable(text)))
    return Group(facts, Text("\nvalue", "bold"), pretty(letter.message.value, letter.original_headers))


def _facts(letter: Letter, replay: Mapping[str, object] | None) -> Iterator[tuple[str, str]]:
    story, message = letter.story, letter.message
    yield "id", story.id
    yield "refused", f"{when(letter)} by pipeline {story.pipeline}"
    yield "lies at", f"{letter.place.topic}/{letter.place.partition} offset {message.offset}"
    yield "replayed", "no" if replay is None else f"{replay['time']} by {replay['who']}"
    yield "reason", story.reason
    yield "path", story.path
    yield "message", story.message
    for name, text in letter.notes.items():
        yield name, _indented(text)
    yield "mend", mend(story.reason)
    if replay is None and returnable(story.topic):
        yield "way back", f"headrace dead-letters replay --id {story.id}"
    yield "key", "null" if message.key is None else short(message.key)
    for name, value in letter.original_headers:
        yield f"header {name}", short(value)
    yield "bytes", f"{len(message.value or b''):,}"


def _indented(text: str) -> str:
    """A list in JSON with a line per element, anything else as it is."""
    found = _parsed(text)
    return "\n".join(map(_told, found)) if isinstance(found, list) else text


def _told(element: object) -> str:
    return element if isinstance(element, str) else json.dumps(element, ensure_ascii=False)


def _parsed(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def result(tally: Tally, *, dry: bool) -> str:
    """How a replay ended, in a sentence per fact."""
    done = f"{'would replay' if dry else 'replayed'} {tally.replayed:,} of {tally.matched:,}"
    before = [f"{tally.before:,} had been replayed before"] if tally.before else []
    left = [f"{count:,} cannot be replayed: {why}" for why, count in tally.left.items()]
    return "; ".join([done, *before, *left])
