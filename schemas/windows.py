"""Window features: what an entity's earlier rows were, over a stretch of event time.

`{mean: price, over: 24h}` or `{mean: price, over: 100 rows, within: 7d}`: one aggregate of one SQL expression over a
number, or of `"*"`, the rows themselves. Event time is cut into panes, and a window is whole panes: `PANES` full ones
and the row's own. What a pane is, everybody asks here.

`{mean: label, over: 24h}` is over the labels of the entity that had arrived: those whose own time lies in the `PANES`
full panes before the row's own. The row's own pane is left out, so that no label counts that is younger than its row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas import sql
from schemas.quantities import duration, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.sql_functions import Kind

AGGREGATES = ("count", "sum", "mean", "std", "min", "max", "last", "since")
EVERY_ROW = "*"
LABEL = "label"
"""The labels that had arrived, unless a field of the event is called so."""

OF_ROWS = frozenset({"count", "since"})
"""What `"*"` may be asked: everything else needs a number."""

PANES = 24
MOST_ROWS = 1_000

_ROWS = re.compile(r"(\d{1,9})\s+rows?")
_FORM = "write {mean: price, over: 24h} or {mean: price, over: 100 rows, within: 7d}"


class WindowError(ValueError):
    """A window that cannot be one: what is wrong, and the mend."""


@dataclass(frozen=True, slots=True)
class Window:
    """One window feature.

    Attributes:
        aggregate: One of AGGREGATES.
        of: Text of the expression, EVERY_ROW or LABEL.
        value: The expression; None for EVERY_ROW and LABEL.
        span: How far it looks back, milliseconds.
        rows: At most so many rows; None: all of the span.
    """

    aggregate: str
    of: str
    value: sql.Expression | None
    span: int
    rows: int | None = None

    @property
    def labels(self) -> bool:
        """Whether it is over labels."""
        return self.value is None and self.of == LABEL

    @property
    def pane(self) -> int:
        """Width of a pane, milliseconds: the span's 24th part, rounded up."""
        return -(-self.span // PANES)

    def kept(self, lateness: int) -> int:
        """How long a pane is kept for late rows beyond the window, milliseconds: never longer than the span."""
        return min(lateness, self.span)

    def reach(self, lateness: int) -> int:
        """How much older than the newest row a row may be and still count in a window to come, milliseconds."""
        return self.kept(lateness) + (PANES + 1) * self.pane

    def means(self, other: Window) -> bool:
        """Whether both compute the same."""
        same = (self.aggregate, self.span, self.rows) == (other.aggregate, other.span, other.rows)
        if self.value is None or other.value is None:
            return same and self.value is other.value and self.of == other.of
        return same and self.value.expr.meta.eq(other.value.expr)

    def __str__(self) -> str:
        """As one writes it."""
        if self.rows is None:
            return f"{{{self.aggregate}: {self.of}, over: {duration(self.span)}}}"
        return f"{{{self.aggregate}: {self.of}, over: {self.rows} rows, within: {duration(self.span)}}}"


def read(definition: Mapping[str, object], columns: Mapping[str, Kind]) -> Window:
    """The window that a feature's definition describes, over columns of the given kinds.

    Raises:
        WindowError: It describes none.
    """
    named = [each for each in AGGREGATES if each in definition]
    if len(named) != 1:
        raise WindowError(f"a window has exactly one of {', '.join(AGGREGATES)}: {_FORM}")
    if unknown := sorted({str(key) for key in definition} - {*named, "over", "within"}):
        raise WindowError(f"{unknown[0]!r} is not a part of a window: {_FORM}")
    of = definition[named[0]]
    if not isinstance(of, str):
        raise WindowError(f'{named[0]} must be of a SQL expression or of "*", the rows: {_FORM}')
    span, rows = _bounds(definition)
    window = Window(named[0], of, _value(named[0], of, columns), span, rows)
    if window.labels and rows is not None:
        raise WindowError(f"a window over the last {rows} labels is not supported yet: write a duration, `over: 24h`")
    return window


def _value(aggregate: str, of: str, columns: Mapping[str, Kind]) -> sql.Expression | None:
    if of == EVERY_ROW:
        if aggregate not in OF_ROWS:
            raise WindowError(f'{aggregate} of "*" is not a number: name a field or write an expression')
        return None
    if of == LABEL and of not in columns:
        return None
    try:
        value = sql.compile_text(of, columns)
    except sql.SqlError as error:
        hint = f"; of labels write `{LABEL}` alone" if LABEL in of.lower() and LABEL not in columns else ""
        raise WindowError(f"{of!r}: {error}{hint}") from None
    if value.kind == "text" and aggregate not in OF_ROWS:
        raise WindowError(f"{of!r} is a text; {aggregate} is over numbers")
    return value


def _bounds(definition: Mapping[str, object]) -> tuple[int, int | None]:
    over = definition.get("over")
    match = _ROWS.fullmatch(over.strip()) if isinstance(over, str) else None
    if match is None:
        if "within" in definition:
            raise WindowError(f"`within` bounds a number of rows, and `over` says none: {_FORM}")
        return _span("over", over), None
    if "within" not in definition:
        raise WindowError(f"{over!r} needs a bound in time, or no restart could rebuild it: add `within: 7d`")
    rows = int(match[1])
    if not 1 <= rows <= MOST_ROWS:
        raise WindowError(f"{over!r}: write 1 to {MOST_ROWS} rows")
    return _span("within", definition["within"]), rows


def _span(key: str, text: object) -> int:
    if text is None:
        raise WindowError(f"`{key}` is missing: {_FORM}")
    try:
        span = milliseconds(text)
    except ValueError as error:
        raise WindowError(f"{key}: {error}") from None
    if span < PANES:
        raise WindowError(f"{key}: {text!r} is too short: {PANES}ms are the shortest window")
    return span
