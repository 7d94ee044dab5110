"""How far event time has come in each own source, and what each partition has heard of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas import batch as b

IDLE_SECONDS = 10.0
HOPE_SECONDS = 2.0
"""When one source wakes up, the others may be about to: a day's backlog of theirs must not look late until then."""


@dataclass(slots=True)
class Source:
    """State of one source.

    Attributes:
        patience: After how many seconds without a message it is idle.
        time: Highest event time in milliseconds that we saw.
        idle: Whether readers need not wait for it.
        moved: Whether something came since the last look at the clock.
        since: When that look was, milliseconds.
    """

    patience: float
    time: int | None = None
    idle: bool = False
    moved: bool = True
    since: int = 0

    @property
    def waking(self) -> bool:
        """Whether its next message says that events come again, perhaps not here alone."""
        return self.idle or self.time is None

    def mark(self) -> b.Watermark:
        """What to tell readers, who may know a source from a writer before us."""
        return b.UNHEARD if self.time is None else self.time, self.idle

    def wake(self, patience: float) -> None:
        """Something came, or may be about to."""
        self.moved, self.idle, self.patience = True, False, patience

    def look(self, now: int) -> None:
        """Compare with the clock."""
        if self.moved:
            self.since, self.moved = now, False
        elif now - self.since >= self.patience * 1000:
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
        """Begin with a source. Readers wait for it as if it had just spoken: its messages may have been there long."""
        self.lose(source)
        self._sources[source] = Source(IDLE_SECONDS if handled_before else HOPE_SECONDS)

    def lose(self, source: int) -> None:
        """Say nothing more of a source."""
        self._sources.pop(source, None)
        for told in self._told.values():
            told.pop(source, None)

    def move(self, sources: Iterable[int], rows: pa.RecordBatch) -> None:
        """Messages of the sources came, and these rows, ascending by source, are what is valid of them."""
        self._wake([self._sources[each] for each in sources])
        if not rows.num_rows:
            return
        source = b.sources(rows)
        starts = np.concatenate(([0], np.flatnonzero(np.diff(source)) + 1))
        times = rows.column(b.TIME).cast(pa.int64()).to_numpy(zero_copy_only=False)
        highest = np.maximum.reduceat(times, starts)
        for each, time in zip(source[starts].tolist(), highest.tolist(), strict=True):
            state = self._sources[each]
            state.time = time if state.time is None else max(time, state.time)

    def _wake(self, speaking: Sequence[Source]) -> None:
        if any(source.waking for source in speaking):
            for source in self._sources.values():
                if source.waking:
                    source.wake(HOPE_SECONDS if source.idle else source.patience)
        for source in speaking:
            source.wake(IDLE_SECONDS)

    def look(self, now: int) -> None:
        """Let sources that stood still for too long be idle; `now` in milliseconds."""
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
        return {each: source.mark() for each, source in sorted(self._sources.items())}

    def _coarse(self) -> dict[int, tuple[int, bool]]:
        return {source: (time // self._pane, idle) for source, (time, idle) in self._marks().items()}
