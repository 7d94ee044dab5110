"""What came lately, in memory that grows with the logarithm of time: the rows behind the start of a change.

Panes lie in buckets of 1, 2, 4, ... panes, at most two of each size: a change that began n panes ago is known but for
the bucket that holds its start. By source only the very newest panes are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas.bins import Counts

EACH, LEVELS = 2, 10
"""Buckets of one size, and sizes: 2,000 panes."""
MOST_APART, MOST_CELLS = 32, 6_000
"""Panes that are kept by source, and cells that are not 0 in them."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Neighbouring panes.

    Attributes:
        first: Index of the first one.
        last: Index of the last one.
        level: Logarithm to base 2 of how many panes with rows they are.
        counts: Shape (cells,).
        strata: Rows of each stratum, shape (strata,).
    """

    first: int
    last: int
    level: int
    counts: Ints
    strata: Ints

    def and_then(self, other: Bucket) -> Bucket:
        """Both, the other one being the later."""
        counts, strata = self.counts + other.counts, self.strata + other.strata
        return Bucket(self.first, other.last, self.level + 1, counts, strata)


@dataclass(frozen=True, slots=True, eq=False)
class Apart:
    """One pane by source.

    Attributes:
        pane: Its index.
        sources: Ascending.
        counts: Shape (sources, cells).
        size: Cells that are not 0.
    """

    pane: int
    sources: tuple[int, ...]
    counts: Counts
    size: int


@dataclass(slots=True)
class Recent:
    """The fold over panes.

    Attributes:
        buckets: Oldest first.
        apart: The newest panes by source, oldest first.
    """

    buckets: list[Bucket] = field(default_factory=list)
    apart: list[Apart] = field(default_factory=list)

    def add(self, pane: int, sources: tuple[int, ...], counts: Counts, stratum: Ints) -> None:
        """Take in a pane with rows.

        Args:
            pane: Its index.
            sources: Ascending.
            counts: Shape (sources, cells).
            stratum: Its rows at its stratum, shape (strata,).
        """
        self.buckets.append(Bucket(pane, pane, 0, counts.sum(0, dtype=np.int64), stratum))
        for level in range(LEVELS):
            same = [i for i, each in enumerate(self.buckets) if each.level == level]
            if len(same) <= EACH:
                break
            first, second = same[0], same[1]
            self.buckets[first : second + 1] = [self.buckets[first].and_then(self.buckets[second])]
        self.buckets = [each for each in self.buckets if each.level < LEVELS]
        self.apart.append(Apart(pane, sources, counts, int(np.count_nonzero(counts))))

    def prune(self) -> None:
        """Forget what is too much by source, be it the newest pane itself."""
        total = 0
        for kept, each in enumerate(reversed(self.apart)):
            total += each.size
            if total > MOST_CELLS or kept == MOST_APART:
                self.apart = self.apart[len(self.apart) - kept :]
                return

    def behind(self) -> list[Bucket]:
        """For every bucket what came since its beginning, the shortest stretch first."""
        found: list[Bucket] = []
        for each in reversed(self.buckets):
            found.append(each.and_then(found[-1]) if found else each)
        return found

    def by_source(self, pane: int) -> tuple[tuple[int, ...], Ints]:
        """Sources and their newest counts, from that pane on at the earliest, shape (sources, cells)."""
        chosen = [each for each in self.apart if each.pane >= pane] or self.apart[-1:]
        sources = tuple(sorted({each for one in chosen for each in one.sources}))
        cells = chosen[0].counts.shape[1] if chosen else 0
        total = np.zeros((len(sources), cells), np.int64)
        for one in chosen:
            total[np.searchsorted(sources, one.sources)] += one.counts
        return sources, total
