"""How far event time has come in each own source, and what each partition has heard of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas import batch as b
from schemas.events import YEARS_1_TO_9999

IDLE_SECONDS = 10.0
LOWEST = YEARS_1_TO_9999[0]
"""Event time of a source whose rows were all handled by a writer before us: readers know better and keep theirs."""


@dataclass(slots=True)
class Source:
    """State of one source.

    Attributes:
        handled_before: Whether readers may know it from a writer before us.
        time: Highest event time in milliseconds that we saw.
        idle: Whether nothing came for IDLE_SECONDS.
        moved: Whether something came since the last look at the clock.
        since: When that look was, milliseconds.
    """

    handled_before: bool
    time: int | None = None
    idle: bool = False
    moved: bool = True
    since: int = 0

    def mark(self) -> b.Watermark | None:
        """What to tell readers; None: nothing."""
        if self.time is not None:
            return self.time, self.idle
        return (LOWEST, True) if self.handled_before and self.idle else None

    def look(self, now: int) -> None:
        """Compare with the clock."""
        if self.moved:
            self.since, self.moved = now, False
        elif now - self.since >= IDLE_SECONDS * 1000:
            self.idle = True


class Watermarks:
    """The own sources of one topic.

    Args:
        pane: Milliseconds of event time after which a silent partition hears from us.
    """

    def __init__(self, pane: int) -> None:
        self._pane = pane
        self._sources: dict[int, Source] = {}
        self._told: dict[int, dict[int, tuple[int, bool]]] = {}

    def gain(self, source: int, *, handled_before: bool) -> None:
        """Begin with a source."""
        self.lose(source)
        self._sources[source] = Source(handled_before)

    def lose(self, source: int) -> None:
        """Say nothing more of a source."""
        self._sources.pop(source, None)
        for told in self._told.values():
            told.pop(source, None)

    def move(self, sources: Iterable[int], rows: pa.RecordBatch) -> None:
        """Messages of the sources came, and these rows, ascending by source, are what is valid of them."""
        for each in sources:
            self._sources[each].moved, self._sources[each].idle = True, False
        if not rows.num_rows:
            return
        source = b.sources(rows)
        starts = np.concatenate(([0], np.flatnonzero(np.diff(source)) + 1))
        times = rows.column(b.TIME).cast(pa.int64()).to_numpy(zero_copy_only=False)
        highest = np.maximum.reduceat(times, starts)
        for each, time in zip(source[starts].tolist(), highest.tolist(), strict=True):
            state = self._sources[each]
            state.time = time if state.time is None else max(time, state.time)

    def look(self, now: int) -> None:
        """Let sources that stood still for IDLE_SECONDS be idle; `now` in milliseconds."""
        for source in self._sources.values():
            source.look(now)

    def owes(self, partition: int) -> bool:
        """Whether a partition should hear of a source that entered a new pane, fell asleep or woke up."""
        return any(mark != self._told.get(partition, {}).get(source) for source, mark in self._coarse().items())

    def tell(self, partition: int) -> dict[int, b.Watermark]:
        """What to write into the last message for a partition."""
        self._told[partition] = self._coarse()
        return self._marks()

    def _marks(self) -> dict[int, b.Watermark]:
        marks = {each: source.mark() for each, source in sorted(self._sources.items())}
        return {each: mark for each, mark in marks.items() if mark is not None}

    def _coarse(self) -> dict[int, tuple[int, bool]]:
        return {source: (time // self._pane, idle) for source, (time, idle) in self._marks().items()}
