"""A curve drawn with braille dots, for terminals: a few lines high, readable in a log, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

_BLANK = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of the dot at (row, column) of a braille character."""
_DOWN, _ACROSS = 4, 2
_LABEL = 6


@dataclass(frozen=True, slots=True)
class Frame:
    """What is shown: characters, and the values at the edges."""

    width: int
    height: int
    right: float
    """Greatest x; the left edge is 0."""
    low: float
    high: float
    label: str = "{:.0%}"
    """How a height is written."""
    ends: tuple[str, str] | None = None
    """What stands at the left and right edge; the numbers where there is nothing else."""

    def column(self, x: float) -> int:
        """Character column of a value."""
        return min(self.width - 1, max(0, int(x / self.right * self.width)))

    def dot(self, x: float, y: float) -> tuple[int, int]:
        """Dot (row, column) of a point; what lies outside is drawn on the edge."""
        down = (self.high - min(max(y, self.low), self.high)) / (self.high - self.low)
        across = min(max(x / self.right, 0.0), 1.0)
        return round(down * (self.height * _DOWN - 1)), round(across * (self.width * _ACROSS - 1))


def plot(
    points: Sequence[tuple[float, float]],
    frame: Frame,
    marks: Mapping[float, str] | None = None,
    level: float | None = None,
) -> Text:
    """The curve through the points, left to right.

    Args:
        points: (x, y) in order of x.
        frame: Size and edges.
        marks: Vertical lines: where, and in which colour.
        level: Height of a horizontal line; None for none.
    """
    cells = _cells(points, frame)
    limit = None if level is None else frame.dot(0, level)[0] // _DOWN
    lines = {frame.column(x): colour for x, colour in (marks or {}).items()}
    text = Text()
    for row in range(frame.height):
        text.append(_label(row, frame))
        for column in range(frame.width):
            if dots := cells.get((row, column), 0):
                text.append(chr(_BLANK + dots), "bold")
            else:
                text.append("│" if column in lines else "╌" if row == limit else " ", lines.get(column, ""))
        text.append("\n")
    left, right = frame.ends or ("0", f"{frame.right:,.0f}")
    text.append(f"{'':{_LABEL}}└{left:─<{frame.width - len(right)}}{right}")
    return text


def _label(row: int, frame: Frame) -> str:
    value = frame.high - (frame.high - frame.low) * row / max(frame.height - 1, 1)
    shown = frame.label.format(value) if row % 3 == 0 or row == frame.height - 1 else ""
    return f"{shown:>{_LABEL - 1}} {'┤' if shown else '│'}"


def _cells(points: Sequence[tuple[float, float]], frame: Frame) -> dict[tuple[int, int], int]:
    cells: dict[tuple[int, int], int] = {}
    dots = [frame.dot(x, y) for x, y in points]
    for start, end in zip(dots, dots[1:] or dots, strict=False):
        for row, column in _line(start, end):
            cell = row // _DOWN, column // _ACROSS
            cells[cell] = cells.get(cell, 0) | _DOTS[row % _DOWN][column % _ACROSS]
    return cells


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    count = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (round(start[0] + (end[0] - start[0]) * i / count), round(start[1] + (end[1] - start[1]) * i / count))
        for i in range(count + 1)
    ]
