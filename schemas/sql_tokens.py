"""The words of an expression: its text cut into names, values and operators."""

from __future__ import annotations

import re
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<text>'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")+")
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<op><=|>=|<>|!=|\|\||[-+*/%=<>(),])""",
    re.VERBOSE,
)


class SqlError(ValueError):
    """An expression that cannot be a feature; the text says why and what to write instead."""


class Token(NamedTuple):
    """A piece of an expression: `number`, `text`, `name` (quoted), `word`, `op` or `end`."""

    kind: str
    text: str

    @property
    def lower(self) -> str:
        """The text in small letters where case does not matter, else nothing."""
        return self.text.lower() if self.kind in {"word", "op"} else ""


END = Token("end", "the end")


def tokens(text: str) -> list[Token]:
    """The pieces of an expression without blanks; SqlError where a piece is none."""
    found, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or text.startswith("--", position):
            raise SqlError(f"has {text[position:][:10]!r}, which is not part of an expression")
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match[0]))
        position = match.end()
    return found


def unquote(token: Token) -> str:
    """What stands between the quotes of a text."""
    if token.kind != "text":
        raise SqlError(f"needs a quoted text, not {token.text!r}")
    return token.text[1:-1].replace("''", "'")


def moment(token: Token) -> datetime:
    """The time that a quoted text says."""
    try:
        time = datetime.fromisoformat(unquote(token))
    except ValueError:
        raise SqlError(f"{token.text} is not a timestamp: write RFC 3339") from None
    if time.tzinfo is None:
        raise SqlError(f"{token.text} has no time zone: append Z for UTC")
    return time


def near(word: str, known: Iterable[str]) -> str:
    """` (did you mean x?)` where something known is close, else nothing."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""
