"""Which entity has which place in the state of windows. Only time takes a place away, never another entity."""

from __future__ import annotations

from itertools import repeat

import numpy as np
import pyarrow as pa

from services.features.domain.windows_panes import NEVER, Ints

LEAST = 64
"""Places to begin with."""


class Entities:
    """The entities of one partition.

    Args:
        limit: Most entities; more are refused until time has freed places.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._slots: dict[str, int] = {}
        self._names: list[str] = []
        self._free: list[int] = []
        self._newest = np.zeros(0, np.int64)

    @property
    def capacity(self) -> int:
        """Places that there are, free ones included."""
        return len(self._newest)

    def fits(self, names: pa.Array) -> bool:
        """Whether there is a place for each that is new, without waiting for time."""
        left = self.limit - len(self._slots)
        return len(names) <= left or self._new(names) <= left

    def place(self, names: pa.Array, times: Ints) -> Ints:
        """The place of each row's entity, -1 for one that is refused; new ones are let in as they appear."""
        coded = names.dictionary_encode()
        distinct = coded.dictionary.to_pylist()
        places = self._known(distinct)
        new = np.flatnonzero(places < 0)[: self.limit - len(self._slots)]
        places[new] = [self._let_in(distinct[each]) for each in new.tolist()]
        slots: Ints = places[coded.indices.to_numpy()]
        np.maximum.at(self._newest, slots[slots >= 0], times[slots >= 0])
        return slots

    def expire(self, before: int) -> Ints:
        """Free the places of entities whose rows are all older than a time; return the places."""
        old = np.flatnonzero((self._newest < before) & (self._newest > NEVER))
        for each in old.tolist():
            del self._slots[self._names[each]]
        self._newest[old] = NEVER
        self._free += old.tolist()
        return old

    def short(self, names: pa.Array) -> bool:
        """Whether there are more new ones than free places."""
        return len(names) > len(self._free) and self._new(names) > len(self._free)

    def grow(self) -> int:
        """Twice as many places; return how many."""
        old = self.capacity
        new = max(LEAST, 2 * old)
        self._newest = np.concatenate([self._newest, np.full(new - old, NEVER)])
        self._names += [""] * (new - old)
        self._free += range(new - 1, old - 1, -1)
        return new

    def _new(self, names: pa.Array) -> int:
        return int((self._known(names.unique().to_pylist()) < 0).sum())

    def _known(self, distinct: list[str]) -> Ints:
        return np.fromiter(map(self._slots.get, distinct, repeat(-1)), np.int64, len(distinct))

    def _let_in(self, name: str) -> int:
        slot = self._free.pop()
        self._slots[name], self._names[slot] = slot, name
        return slot
