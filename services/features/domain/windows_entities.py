"""Which entity has which place in the state of windows. Only time takes a place away, never another entity."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.features.domain.windows_panes import NEVER, Ints

LEAST = 64
"""Places to begin with."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Entities of rows.

    Attributes:
        names: Of each row.
        distinct: Each once, as they appear.
        indices: Of each row which of them.
        places: Of each of them its place, -1 for a new one.
    """

    names: pa.Array
    distinct: list[str]
    indices: npt.NDArray[np.int32]
    places: Ints

    @property
    def new(self) -> Ints:
        """Which of the distinct ones have no place."""
        return np.flatnonzero(self.places < 0)


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
        self._found: _Found | None = None

    @property
    def capacity(self) -> int:
        """Places that there are, free ones included."""
        return len(self._newest)

    def fits(self, names: pa.Array) -> bool:
        """Whether there is a place for each that is new, without waiting for time."""
        left = self.limit - len(self._slots)
        return len(names) <= left or len(self._look_up(names).new) <= left

    def place(self, names: pa.Array, times: Ints) -> Ints:
        """The place of each row's entity, -1 for one that is refused; new ones are let in as they appear."""
        found = self._look_up(names)
        if len(new := found.new[: self.limit - len(self._slots)]):
            found.places[new] = [self._let_in(found.distinct[each]) for each in new.tolist()]
            self._found = None
        slots: Ints = found.places[found.indices]
        np.maximum.at(self._newest, slots[slots >= 0], times[slots >= 0])
        return slots

    def expire(self, before: int) -> Ints:
        """Free the places of entities whose rows are all older than a time; return the places."""
        old = np.flatnonzero((self._newest < before) & (self._newest > NEVER))
        for each in old.tolist():
            del self._slots[self._names[each]]
        self._newest[old] = NEVER
        self._free += old.tolist()
        self._found = None
        return old

    def short(self, names: pa.Array) -> bool:
        """Whether there are more new ones than free places."""
        return len(names) > len(self._free) and len(self._look_up(names).new) > len(self._free)

    def grow(self) -> int:
        """Twice as many places; return how many."""
        old = self.capacity
        new = max(LEAST, 2 * old)
        self._newest = np.concatenate([self._newest, np.full(new - old, NEVER)])
        self._names += [""] * (new - old)
        self._free += range(new - 1, old - 1, -1)
        return new

    def _look_up(self, names: pa.Array) -> _Found:
        """What is known of rows; whoever asks for the same ones again gets the same, until it changes."""
        if self._found is None or self._found.names is not names:
            coded = names.dictionary_encode()
            distinct = coded.dictionary.to_pylist()
            places = np.fromiter(map(self._slots.get, distinct, repeat(-1)), np.int64, len(distinct))
            self._found = _Found(names, distinct, coded.indices.to_numpy(), places)
        return self._found

    def _let_in(self, name: str) -> int:
        slot = self._free.pop()
        self._slots[name], self._names[slot] = slot, name
        return slot
