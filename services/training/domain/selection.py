"""Which labelled rows a dataset takes, and how few of them where all would be too many.

| selection | rows |
|---|---|
| `20000` | the newest |
| `7d` | those whose label came within so much time before the cut-off |
| `all` | all |
| `{mixed: 20000}` | the newest half of so many, and as many of all older ones |
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.quantities import duration, milliseconds
from schemas.spec import Mixed, Rows
from services.training.domain.rows import BEGINNING

COLUMNS = 10
"""Columns that a row has besides its features."""
CELL = 8
"""Bytes of a value."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is taken.

    Attributes:
        newest: Most of the newest rows; None for all.
        older: How many of the rows before those, chosen by their identity's hash: each is as likely as any other.
        span: Only rows with a label time this many milliseconds before the cut-off count; None for all.
    """

    newest: int | None = None
    older: int = 0
    span: int | None = None

    @property
    def rows(self) -> int | None:
        """Most rows that it takes, None where nothing limits it."""
        return None if self.newest is None else self.newest + self.older

    @property
    def plain(self) -> bool:
        """Whether it is so many of the newest rows and nothing else."""
        return self.newest is not None and not self.older and self.span is None

    def since(self, cutoff: int, least: int = BEGINNING) -> int:
        """Least label time that counts at a cut-off."""
        return least if self.span is None else max(least, cutoff - self.span + 1)

    def capped(self, most: int) -> Selection:
        """The same with at most so many rows: of what it limits by time alone, the newest half and older ones."""
        if self.newest is None:
            return replace(self, newest=most - most // 2, older=most // 2)
        if self.rows is not None and self.rows > most:
            return replace(self, newest=most - most // 2, older=most // 2) if self.older else replace(self, newest=most)
        return self

    def __str__(self) -> str:
        """As pipeline.yaml says it."""
        if self.older:
            return f"mixed: {self.rows}"
        if self.newest is not None:
            return f"{self.newest} rows"
        return "all" if self.span is None else duration(self.span)


ALL = Selection()


def selected(window: Rows) -> Selection:
    """What `training.window` says."""
    if isinstance(window, Mixed):
        return Selection(window.mixed - window.mixed // 2, window.mixed // 2)
    if isinstance(window, int):
        return Selection(window)
    return ALL if window == "all" else Selection(span=milliseconds(window))


def most_rows(memory: int, features: int) -> int:
    """How many rows of so many features a dataset of so many bytes has: eight bytes a value."""
    return max(1, memory // (CELL * (features + COLUMNS)))
