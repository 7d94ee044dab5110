"""The rows of a batch that count in panes: which ones share one, and which ones a later row of the batch has to see."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.windows import PANES

Ints = npt.NDArray[np.int64]

LONG = 16
"""Rows of one entity in a batch up to which each is a step for all entities: more are folded, and looked for, apart."""


class Counted:
    """The rows that count, sorted by entity and pane, in the order of the log where both are the same.

    Args:
        order: Index in the batch of each row that has a place, entity by entity.
        counts: Which rows of the batch count.
        slots: Entities of all rows of the batch.
        panes: Panes of all rows of the batch.

    Attributes:
        rows: Index of each in the batch.
        slots: Its entity.
        panes: Its pane.
        starts: Where each group of the same entity and pane starts.
        ends: And where it ends.
        group: The group of each row.
        rank: Its place in the group.
    """

    def __init__(self, order: Ints, counts: npt.NDArray[np.bool_], slots: Ints, panes: Ints) -> None:
        self._order, self._slots, self._last = order, slots[order], panes[order]
        self._counts = counts[order]
        self.rows = order[self._counts]
        self.slots, self.panes = slots[self.rows], panes[self.rows]
        self._came, self._place = self.panes, np.arange(len(self.rows))
        if ((self.slots[1:] == self.slots[:-1]) & (self.panes[1:] < self.panes[:-1])).any():
            by_pane = np.lexsort((self.panes, self.slots))
            self.rows, self.panes = self.rows[by_pane], self.panes[by_pane]
            self._place[by_pane] = np.arange(len(by_pane))
        self._group()
        self._look_back()

    def _group(self) -> None:
        self.starts = changes(self.slots, self.panes)
        self.ends = np.append(self.starts, len(self.rows))[1:]
        sizes = self.ends - self.starts
        self.group = np.repeat(np.arange(len(sizes)), sizes)
        self.rank = np.arange(len(self.rows)) - self.starts[self.group]
        self._turns = [np.flatnonzero(self.rank == rank) for rank in range(1, min(int(sizes.max(initial=0)), LONG))]
        self._long = np.flatnonzero(sizes > LONG).tolist()

    def _look_back(self) -> None:
        """Of each row how many rows that count are ahead of it, in all and of its entity."""
        self._ahead: Ints = np.cumsum(self._counts) - self._counts
        begins = changes(self._slots)
        self._own: Ints = self._ahead - np.repeat(self._ahead[begins], np.diff(np.append(begins, len(self._slots))))

    def accumulate(self, how: np.ufunc, before: npt.NDArray[Any], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Fold of each group up to each row, strictly one after the other, begun with what was before.

        The second rows of all groups are one step, their third ones another; a long group goes on by itself.
        """
        out = np.array(values)
        out[self.starts] = how(before, values[self.starts])
        for turn in self._turns:
            out[turn] = how(out[turn - 1], values[turn])
        for each in self._long:
            line = slice(self.starts[each] + LONG - 1, self.ends[each])
            out[line] = how.accumulate(out[line])
        return out

    def before(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Which panes of windows rows of this batch have touched ahead of the asking row, and the last such row each.

        Args:
            start: The first asking row, in the order of entities.
            stop: The one behind the last.

        Returns:
            Places in a matrix of a line per asking row and a column per pane, later ones hold; and rows that count.
        """
        own, ahead, last = (each[start:stop] for each in (self._own, self._ahead, self._last))
        if (most := int(own.max(initial=0))) > LONG:
            return self._found(start, stop)
        places, rows = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        asking = np.arange(stop - start)
        for back in range(1, most + 1):
            asking = asking[own[asking] >= back]
            row = ahead[asking] - back
            column = self._came[row] - last[asking] + PANES
            inside = (column >= 0) & (column <= PANES)
            places.append((asking * (PANES + 1) + column)[inside])
            rows.append(self._place[row[inside]])
        return np.concatenate(places[::-1]), np.concatenate(rows[::-1])

    def _found(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """The same by search, where an entity has very many rows."""
        distinct, wide = np.unique(self.panes), int(self._order.max()) + 1
        codes = self.slots * len(distinct) + np.searchsorted(distinct, self.panes)
        asking = np.flatnonzero(self._own[start:stop])
        panes = self._last[start:stop][asking, None] + np.arange(-PANES, 1)
        line, column = np.nonzero((panes >= distinct[0]) & (panes <= distinct[-1]))
        pane, row = panes[line, column], asking[line]
        rank = np.searchsorted(distinct, pane)
        sought = self._slots[start:stop][row] * len(distinct) + rank
        found = np.searchsorted(codes * wide + self.rows, sought * wide + self._order[start:stop][row]) - 1
        hit = (found >= 0) & (codes[found] == sought) & (distinct[rank] == pane)
        return (row * (PANES + 1) + column)[hit], found[hit]


def changes(*columns: Ints) -> Ints:
    """Where a row differs from the one before, the first one included."""
    another = np.ones(len(columns[0]), bool)
    another[1:] = np.logical_or.reduce([each[1:] != each[:-1] for each in columns])
    return np.flatnonzero(another)
