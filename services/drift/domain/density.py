"""How many rows a pane holds, and which panes would hold enough.

A pane of a row or two says little, and what is said of many such panes is what single rows say: the statistic then
sees each wave of the stream, and opens episodes about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas.quantities import MILLISECONDS
from schemas.reference import HOUR, Season

ENOUGH_ROWS = 1_000
"""Rows by which the rate of a stream is known."""
FEWEST, GOOD = 20, 25
"""Rows of a pane, on average, below which it is too short; and for how many another length is looked for."""

_SECOND, _MINUTE, _DAY = (MILLISECONDS[unit] for unit in ("s", "m", "d"))
LENGTHS = (
    *(each * _SECOND for each in (1, 2, 5, 10, 15, 30)),
    *(each * _MINUTE for each in (1, 2, 5, 10, 15, 30)),
    *(each * HOUR for each in (1, 2, 3, 6, 12)),
    *(each * _DAY for each in (1, 2, 7, 14, 30, 90, 365)),
)
"""Lengths of a pane that people would write, milliseconds."""


@dataclass(frozen=True, slots=True)
class Density:
    """A fold over panes of event time, until the rate is known.

    Attributes:
        rows: Good rows.
        panes: Panes that had any.
        first: Index of the first such pane, below 0 before it.
        last: Of the newest.
    """

    rows: int = 0
    panes: int = 0
    first: int = -1
    last: int = -1

    @property
    def known(self) -> bool:
        """Whether the rate is known; it does not change any more."""
        return self.rows >= ENOUGH_ROWS

    @property
    def mean(self) -> float:
        """Rows of a pane that has any."""
        return self.rows / max(1, self.panes)

    def behind(self, pane: int, rows: int) -> Density:
        """The fold behind a pane; the panes ascend, and one that was seen changes nothing."""
        if self.known or not rows or (self.panes and pane <= self.last):
            return self
        first = self.first if self.panes else pane
        return replace(self, rows=self.rows + rows, panes=self.panes + 1, first=first, last=pane)

    def better(self, pane: int, seasons: Sequence[Season] = ()) -> int | None:
        """The length of a pane that holds enough rows, milliseconds; None where the present one is the best there is.

        Args:
            pane: The present length.
            seasons: Strata are hours or days: no pane may be longer.
        """
        if not self.known or self.mean >= FEWEST:
            return None
        longest = HOUR if "hour_of_day" in seasons else _DAY if seasons else LENGTHS[-1]
        wanted = FEWEST * (self.last - self.first + 1) * pane / self.rows
        lengths = [each for each in LENGTHS if each <= longest]
        found = next((each for each in lengths if each >= wanted), lengths[-1])
        return found if found > pane else None
