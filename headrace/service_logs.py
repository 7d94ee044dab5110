"""Shows what the services log: for people one coloured line an event, for programs the JSON as it is."""

from __future__ import annotations

import json
import zlib
from typing import Any

from rich.text import Text

from headrace.output import Output

_COLOURS = {"ingestion": "cyan", "features": "green", "serving": "magenta", "drift": "yellow", "training": "blue"}
_OTHERS = ("bright_cyan", "bright_green", "bright_magenta", "bright_yellow", "bright_blue")
_LEVELS = {"warning": "yellow", "error": "red", "critical": "bold red"}
_SHOWN_ELSEWHERE = {"time", "level", "service", "instance", "logger", "event", "traceback"}
WIDTH = 12
_TIME = slice(11, 19)


class ServiceLogs:
    """The merged logs of all services.

    Args:
        output: Where they go.
    """

    def __init__(self, output: Output) -> None:
        self._output = output

    def line(self, name: str, line: str) -> None:
        """A line that a service wrote."""
        entry = _entry(line)
        self._output.give(entry or {"service": name, "event": "said", "text": line})
        self._output.say(_rendered(name, entry) if entry else _prefixed(name, line))

    def tell(self, name: str, event: str, **facts: object) -> None:
        """Something that the supervisor has to say about a service."""
        self._output.give({"service": name, "event": event, **facts})
        self._output.say(_rendered(name, {"level": "warning", "event": event, **facts}))


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _prefixed(name: str, *parts: str | tuple[str, str]) -> Text:
    colour = _COLOURS.get(name.rpartition("-")[0] or name) or _OTHERS[zlib.crc32(name.encode()) % len(_OTHERS)]
    return Text.assemble((f"{name:{WIDTH}}", colour), " ", *parts)


def _rendered(name: str, entry: dict[str, Any]) -> Text:
    facts = "  ".join(f"{key}={_short(value)}" for key, value in entry.items() if key not in _SHOWN_ELSEWHERE)
    text = _prefixed(
        name,
        (f"{str(entry.get('time', ''))[_TIME]:8} ", "dim"),
        (str(entry["event"]).replace("_", " "), _LEVELS.get(str(entry.get("level")), "bold")),
        (f"  {facts}" if facts else "", "dim"),
    )
    if traceback := entry.get("traceback"):
        text.append(f"\n{traceback}", "red")
    return text


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
