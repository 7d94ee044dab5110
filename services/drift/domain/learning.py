"""A reference that is learnt from the stream itself: after a change, and of the quality of the rows, from the start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.bins import Bins, Counts
from schemas.reference import Reference, Season, strata_count
from services.drift.domain.strata import CYCLES

FEW_CELLS, MOST_PANES = 64, 256
"""Of families of few cells panes are kept, to see how much they depend on each other: a checkpoint holds them."""
LONGEST = 64
"""By how much longer than first meant it may take, where rows depend on each other."""

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Learning:
    """The fold over panes.

    Attributes:
        counts: Rows per stratum and cell, shape (strata, cells).
        visits: Shape (strata,).
        panes: The newest ones, oldest first.
        strata: Of those.
        rows: Of all panes.
        need: Rows that it takes.
        stratum: Of the newest pane; below 0 before the first.
    """

    counts: Ints
    visits: Ints
    panes: list[Counts]
    strata: list[int]
    rows: int
    need: int
    stratum: int = -1

    @classmethod
    def begun(cls, cells: int, strata: int, need: int) -> Learning:
        """Nothing is learnt yet."""
        return cls(np.zeros((strata, cells), np.int64), np.zeros(strata, np.int64), [], [], 0, need)

    def add(self, counts: Counts, rows: int, stratum: int) -> None:
        """Take in a pane with rows, its counts of shape (cells,)."""
        self.counts[stratum] += counts
        self.visits[stratum] += stratum != self.stratum
        self.stratum = stratum
        self.rows += rows
        if len(counts) <= FEW_CELLS:
            self.panes, self.strata = [*self.panes, counts][-MOST_PANES:], [*self.strata, stratum][-MOST_PANES:]

    def enough(self, usual: Reference | None) -> bool:
        """Whether it has the rows, and two visits of each stratum that the usual reference has."""
        if self.rows < self.need:
            return False
        if usual is None or len(self.visits) == 1:
            return True
        return bool((self.visits >= np.where(usual.visits >= CYCLES, CYCLES, 0)).all())

    def reference(self, bins: Bins, seasons: tuple[Season, ...]) -> Reference:
        """What was learnt."""
        panes = np.array(self.panes, np.int32).reshape(-1, bins.cells)
        return Reference(bins, self.counts, self.visits, panes, np.array(self.strata, np.int64), seasons)


def fresh(bins: Bins, seasons: tuple[Season, ...], need: int) -> Learning:
    """A reference of these bins is to be learnt."""
    return Learning.begun(bins.cells, strata_count(seasons), need)
