"""The window features of one partition: rows in the order of the log in, what was before each of them out.

A pure fold of the rows: how they are cut into batches changes no bit. A row's windows hold the rows of its entity that
came before it and whose pane is one of the window's; what is kept goes by the partition's highest event time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa

from schemas.windows import EVERY_ROW, Window
from services.features.domain.windows_entities import Entities
from services.features.domain.windows_panes import NEVER, Floats, Ints, Panes, Rows
from services.features.domain.windows_rows import LastRows

Key = tuple[str, int, int | None]
"""What windows share their state: what they are over, how long, how many rows."""


class Windows:
    """State of one partition.

    Args:
        windows: The features over windows, by name.
        lateness: How late a row may be and still count everywhere, milliseconds.
        entities: Most entities.
    """

    def __init__(self, windows: Mapping[str, Window], lateness: int, entities: int) -> None:
        self._windows = windows
        self._reach = max(each.reach(lateness) for each in windows.values())
        self._tick = max(each.pane for each in windows.values())
        self._states = {key: _state(key, windows, lateness) for key in map(_key, windows.values())}
        self._entities = Entities(entities)
        self._highest = NEVER
        self.refused = 0
        """Rows so far whose entity found no place."""

    def step(self, names: pa.Array, times: Ints, values: Mapping[str, Floats]) -> dict[str, Floats]:
        """The features of each row, NaN for null; all are null for a refused entity.

        Args:
            names: The rows' entities.
            times: Event times, milliseconds.
            values: What windows are over, by its text; NaN for null.
        """
        highest = np.maximum(np.maximum.accumulate(self._clock(times, values)), self._highest)
        parts = [
            self._part(
                names.slice(start, stop - start), times[start:stop], highest[start:stop], cut(values, start, stop)
            )
            for start, stop in self._parts(names, highest)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._windows}

    def _parts(self, names: pa.Array, highest: Ints) -> Iterator[tuple[int, int]]:
        """Where entities may be refused, it must not depend on batches when places are freed: at each pane."""
        if self._entities.fits(names):
            yield 0, len(names)
            return
        passed = self._passed(highest)
        cuts = [0, *(np.flatnonzero(np.diff(passed)) + 1).tolist(), len(names)]
        for start, stop in pairwise(cuts):
            self._expire(int(passed[start]))
            yield start, stop

    def _passed(self, highest: Ints) -> Ints:
        """The moment by which places are freed: where the newest row's pane began."""
        return highest // self._tick * self._tick

    def _part(self, names: pa.Array, times: Ints, highest: Ints, values: Mapping[str, Floats]) -> dict[str, Floats]:
        self._make_room(names)
        seen = np.maximum(times, self._passed(highest) - self._reach)
        rows = self._rows(self._entities.place(names, seen), times, highest, values)
        self._highest = max(self._highest, int(highest[-1])) if len(highest) else self._highest
        self.refused += self._refused(rows)
        return self._features(rows, values)

    def _clock(self, times: Ints, values: Mapping[str, Floats]) -> Ints:  # noqa: ARG002 - labels move no clock
        """What moves time on."""
        return times

    def _rows(self, slots: Ints, times: Ints, highest: Ints, values: Mapping[str, Floats]) -> Rows:  # noqa: ARG002
        return Rows(slots, times, highest)

    def _refused(self, rows: Rows) -> int:
        return int((rows.slots < 0).sum())

    def _features(self, rows: Rows, values: Mapping[str, Floats]) -> dict[str, Floats]:
        every = np.ones(len(rows.times))
        with np.errstate(over="ignore", invalid="ignore"):
            found = {
                key: state.step(rows, every if key[0] == EVERY_ROW else values[key[0]] + 0.0)
                for key, state in self._states.items()
            }
        return {
            name: np.where((rows.slots >= 0) & np.isfinite(each), each, np.nan)
            for name, window in self._windows.items()
            for each in (found[_key(window)][window.aggregate],)
        }

    def _make_room(self, names: pa.Array) -> None:
        if self._entities.short(names):
            self._expire(self._highest // self._tick * self._tick)
        while self._entities.short(names) and self._entities.capacity < self._entities.limit:
            places = self._entities.grow()
            for state in self._states.values():
                state.grow(places)

    def _expire(self, now: int) -> None:
        old = self._entities.expire(now - self._reach)
        for state in self._states.values():
            state.clear(old)


def _key(window: Window) -> Key:
    return window.of, window.span, window.rows


def _state(key: Key, windows: Mapping[str, Window], lateness: int) -> Panes | LastRows:
    alike = [each for each in windows.values() if _key(each) == key]
    aggregates = dict.fromkeys(each.aggregate for each in alike)
    pane, kept = alike[0].pane, alike[0].kept(lateness)
    return Panes(pane, kept, aggregates) if key[2] is None else LastRows(key[2], pane, kept, aggregates)


def cut(values: Mapping[str, Floats], start: int, stop: int) -> dict[str, Floats]:
    """Of each column the values from one row to another."""
    return {name: each[start:stop] for name, each in values.items()}
