"""When an episode opens, when it closes, and what the monitor watches: a fold over the merged rows.

The anchor is the newest member that the merged rows carry: with pools of one member the rows themselves say which one
ruled, so that no message about the pool has to be put in order with them and every reading of the log agrees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from services.drift.domain.concept import Change, Concept
from services.drift.domain.merging import Key, Rows

FAMILY = "concept"
IN_FORCE = "provisional reference in force"
NEW_ANCHOR = "a new anchor answers"


@dataclass(frozen=True, slots=True)
class Episode:
    """An alarm: which member's errors rose, and where.

    Attributes:
        id: The same for every reading of the log.
        anchor: The member that was watched.
        pane: Index of the pane of the row that raised the alarm.
        at: Label time of that row, milliseconds.
        change: The evidence.
    """

    id: str
    anchor: int
    pane: int
    at: int
    change: Change


@dataclass(frozen=True, slots=True)
class Standing:
    """All that a judge knows whenever its monitor is empty: what a checkpoint keeps.

    Attributes:
        anchor: The member that is watched, 0 before the first.
        after: The last row that is judged, None before the first.
        episode: The open episode.
        settling: Rows of the anchor that close it; above 0 while one is open.
    """

    anchor: int = 0
    after: Key | None = None
    episode: Episode | None = None
    settling: int = 0


@dataclass(frozen=True, slots=True)
class Transition:
    """The monitor began anew.

    Attributes:
        standing: What holds now.
        pane: Pane of the row that made it so.
        time: Label time of that row, milliseconds.
        opened: The episode that this opened.
        closed: The episode that this closed.
        reason: Why it began anew.
    """

    standing: Standing
    pane: int
    time: int
    reason: str
    opened: Episode | None = None
    closed: Episode | None = None


class Episodes:
    """Judges rows in merged order.

    Args:
        pane: Length of a pane in milliseconds.
        settle: Rows of the anchor behind the probable start of a change, with which an episode closes.
        standing: Where to go on.
    """

    def __init__(self, pane: int, settle: int, standing: Standing | None = None) -> None:
        self._pane, self._settle = pane, settle
        self._standing = standing or Standing()
        self._last = self._standing.after
        self._settling = self._standing.settling
        self._concept = Concept()

    def judge(self, rows: Rows) -> Iterator[Transition]:
        """What the rows change. Rows up to the standing's `after` were judged before a restart and are left out."""
        if self._standing.after is not None:
            rows = rows.behind(self._standing.after)
        for part in self._parts(rows):
            anchor = int(part.member[0])
            if anchor > self._standing.anchor:
                yield self._switch(anchor, part.key(0))
            yield from self._watch(part[part.member == self._standing.anchor])
            self._last = part.key(-1)

    def _parts(self, rows: Rows) -> Iterator[Rows]:
        """Cut in front of every row that carries a newer member than all before it."""
        newest = np.maximum.accumulate(np.concatenate(([self._standing.anchor], rows.member)))
        cuts = np.flatnonzero(newest[1:] > newest[:-1]).tolist()
        for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
            if end > begin:
                yield rows[begin:end]

    def _watch(self, rows: Rows) -> Iterator[Transition]:
        start, (times, *_) = 0, rows.keys
        while start < len(rows):
            if self._standing.episode is not None:
                count = min(self._settling, len(rows) - start)
                self._settling -= count
                change = None
            else:
                count, change = self._concept.update(rows.loss[start:], times[start:])
            start += count
            if change is not None:
                yield self._changed(change, rows.key(start - 1))
            if self._standing.episode is not None and self._settling == 0:
                yield self._close(self._standing.episode, rows.key(start - 1))

    def _changed(self, change: Change, key: Key) -> Transition:
        if change.rise <= 0:
            return self._move(replace(self._standing, after=key), key, "the error fell")
        episode = self._episode(change, key)
        settling = max(0, self._settle - change.rows_after)
        if settling == 0:
            return self._move(Standing(self._standing.anchor, key), key, IN_FORCE, opened=episode, closed=episode)
        standing = replace(self._standing, after=key, episode=episode, settling=settling)
        return self._move(standing, key, "the error rose", opened=episode)

    def _episode(self, change: Change, key: Key) -> Episode:
        anchor, pane = self._standing.anchor, key.time // self._pane
        # The row is in the name because a long pane can hold two alarms.
        name = "/".join(map(str, (anchor, FAMILY, pane, *key)))
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return Episode(digest, anchor, pane, key.time, change)

    def _close(self, episode: Episode, key: Key) -> Transition:
        standing = Standing(self._standing.anchor, key)
        return self._move(standing, key, IN_FORCE, closed=episode)

    def _switch(self, anchor: int, key: Key) -> Transition:
        """The row itself is still to be judged, so the standing is behind the one before it."""
        return self._move(Standing(anchor, self._last), key, NEW_ANCHOR, closed=self._standing.episode)

    def _move(
        self,
        standing: Standing,
        key: Key,
        reason: str,
        opened: Episode | None = None,
        closed: Episode | None = None,
    ) -> Transition:
        self._standing, self._settling = standing, standing.settling
        self._concept.restart()
        return Transition(standing, key.time // self._pane, key.time, reason, opened, closed)
