"""The refused bytes for a person's eyes: JSON indented, an Arrow row as a table, text as text, the rest as hex."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

import msgspec
import pyarrow as pa
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from runtime.ports import Header
from schemas.contract import ARROW_STREAM

SHOWN_CHARACTERS, SHOWN_BYTES, SHOWN_ROWS = 20_000, 1_024, 20
HEX_COLUMNS = 16


def printable(text: str) -> str:
    """The text with its control characters spelled out: what strangers send must not steer a terminal."""
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )


def as_text(data: bytes | None) -> str | None:
    """The text that the bytes are, None where they are none."""
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return None


def as_fields(name: str, data: bytes | None) -> dict[str, str | None]:
    """The bytes for programs: as text where they are text, else in base64."""
    text = as_text(data)
    fields: dict[str, str | None] = {name: text}
    if text is None and data is not None:
        fields[f"{name}_base64"] = base64.b64encode(data).decode()
    return fields


def pretty(value: bytes | None, headers: Iterable[Header]) -> RenderableType:
    """A value for people, whatever it is; cut where it is long."""
    if not value:
        return Text("null (a tombstone)" if value is None else "empty", "dim")
    if _is_arrow(headers) and (table := _arrow(value)) is not None:
        return table
    text = as_text(value)
    if text is None:
        return Text(_cut("\n".join(_dump(value[:SHOWN_BYTES])), len(value) - SHOWN_BYTES, "bytes"))
    text = printable(_indented(value, text))
    return Text(_cut(text[:SHOWN_CHARACTERS], len(text) - SHOWN_CHARACTERS, "characters"))


def short(data: bytes) -> str:
    """A header's value or a key in one line."""
    text = as_text(data)
    return data.hex(" ") if text is None else printable(text).replace("\n", "\\n")


def _indented(value: bytes, text: str) -> str:
    """Nothing is parsed, so that a key that is there twice or a number that fits no double is shown as it came."""
    try:
        return msgspec.json.format(value, indent=2).decode()
    except (msgspec.DecodeError, RecursionError):
        return text


def _is_arrow(headers: Iterable[Header]) -> bool:
    return any(
        name.lower() == "content-type" and value.strip().startswith(ARROW_STREAM.encode()) for name, value in headers
    )


def _arrow(value: bytes) -> RenderableType | None:
    """The rows of an Arrow stream, one line per column where there is one row; None where it is none."""
    try:
        table = pa.ipc.open_stream(value).read_all()
    except (pa.ArrowException, OSError):
        return None
    shown = table.slice(0, SHOWN_ROWS)
    parts = [_row(shown.schema, row) for row in shown.to_pylist()]
    more = table.num_rows - shown.num_rows
    return Group(*parts, *([Text(f"... {more:,} more rows", "dim")] if more else []))


def _row(schema: pa.Schema, row: dict[str, object]) -> Table:
    table = Table("column", "type", "value", box=None, header_style="bold")
    for column in schema:
        table.add_row(Text(printable(column.name)), Text(str(column.type)), Text(printable(repr(row[column.name]))))
    return table


def _dump(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), HEX_COLUMNS):
        line = data[start : start + HEX_COLUMNS]
        letters = "".join(chr(each) if 32 <= each < 127 else "." for each in line)  # noqa: PLR2004 - printable ASCII
        yield f"{start:08x}  {line.hex(' '):<{HEX_COLUMNS * 3}} {letters}"


def _cut(text: str, more: int, what: str) -> str:
    return text if more <= 0 else f"{text}\n... {more:,} more {what}; --json has all of them"
