"""What one family is judged by: the anchor's own reference, later a provisional one, and the worlds of before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from schemas.bins import Counts, Family
from schemas.reference import Reference, strata_of
from services.drift.domain.archive import pooled, recurring
from services.drift.domain.evidence import Episode
from services.drift.domain.learning import LONGEST, fresh
from services.drift.domain.monitor import Judged, Monitor
from services.drift.domain.opening import statistic
from services.drift.domain.pane_counts import QUALITY_BINS, PaneCounts, part, restricted, told
from services.drift.domain.plan import FEWEST_ROWS
from services.drift.domain.recent import Recent
from services.drift.domain.standing import Rules, Standing, World

Ints = npt.NDArray[np.int64]

References: TypeAlias = Callable[[int], Reference | None]
"""The reference of a member, always the same; None where its artefact has none."""

MOST_MEMBERS, MOST_WORLDS = 8, 4
ACROSS: tuple[Family, ...] = ("features", "label")
"""Families whose earlier anchors are asked; outputs and losses of one member tell nothing of another's."""


class Ruler:
    """The reference in force and the monitor around it.

    Args:
        family: Which streams.
        rules: Of the pipeline.
        references: What is normal, by member.
        standing: What is known of the family; changed in place.
    """

    def __init__(self, family: Family, rules: Rules, references: References, standing: Standing) -> None:
        self._family, self._rules, self._references = family, rules, references
        self.standing = standing
        self._earlier: Mapping[int, Reference] = {}
        self.own = standing.current = self._reference(standing.anchor)
        known = references(standing.anchor) if standing.anchor else None
        self._width = known.bins.cells if known is not None else -1
        self._cells = part(known.bins, family) if known is not None else np.empty(0, np.intp)
        self.monitor = self._monitored(self.own)
        self._known = None if self.monitor is None else self.monitor.dependence
        if self.monitor is not None and not self.monitor.judged:
            self.relearn()  # nothing that the reference knows well enough

    def _reference(self, anchor: int) -> Reference | None:
        """A member's own; of the quality of rows, which no member has, the bins alone."""
        if self._family == "quality":
            return pooled(QUALITY_BINS, np.zeros(QUALITY_BINS.cells, np.int64))
        known = self._references(anchor) if anchor else None
        return None if known is None else restricted(known, self._family)

    def _monitored(self, reference: Reference | None, known: npt.NDArray[np.float64] | None = None) -> Monitor | None:
        if reference is None:
            return None
        threshold = self._rules.threshold(self._family)
        return Monitor(reference, self._family, threshold, by_rows=self._rules.by_rows, known=known)

    def taken(self, pane: PaneCounts) -> Counts:
        """The family's cells by source; of quality those of every pane, else those of the anchor's."""
        if self._family == "quality":
            return told(pane.quality)
        if pane.anchor != self.standing.anchor or pane.counts.shape[1] != self._width:
            return np.zeros((len(pane.sources), len(self._cells)), np.int32)
        return pane.counts[:, self._cells]

    def rows(self, counts: npt.NDArray[np.integer]) -> int:
        """Rows of a pane: of the stream that has most."""
        if self.own is None or not len(counts):
            return 0
        return int(np.add.reduceat(counts, self.own.bins.offsets[:-1]).max())

    def _stratum(self, pane: int) -> int:
        seasons = self.own.seasons if self.own is not None else ()
        return int(strata_of(np.array([pane * self._rules.pane]), seasons)[0])

    def remember(self, pane: PaneCounts, counts: Counts, rows: int) -> None:
        """Keep the pane, of so many rows, among the newest."""
        if self.own is not None and counts.any():
            strata = np.zeros(len(self.own.visits), np.int64)
            strata[self._stratum(pane.pane)] = rows
            self.standing.recent.add(pane.pane, pane.sources, counts, strata)

    def judge(self, pane: int, counts: Counts) -> Judged | None:
        """What a pane did; None where it has no rows or there is no reference in force."""
        if self.monitor is None or not counts.any():
            return None
        judged = self.monitor.judge(counts, pane, self._stratum(pane))
        self.standing.history.append(statistic(judged, self._rules.pane))
        return judged

    def like(self, episode: Episode, counts: Counts) -> float:
        """What a pane says for the leading stream being as in the episode, and not as in the reference."""
        if self.own is None:
            return 0.0
        leading = episode.streams[0]
        for index, stream in enumerate(self.own.bins.streams):
            if (stream.name, stream.kind) == (leading.name, leading.kind):
                return float(counts[self.own.bins.at(index)] @ leading.odds(stream))
        return 0.0

    def relearn(self) -> None:
        """Learn a provisional reference from now on; until it is in force, the counts are not judged."""
        if self.own is not None:
            need = max(self._rules.settle, FEWEST_ROWS)
            self.standing.learning = fresh(self.own.bins, self.own.seasons, need)
        self.monitor = None

    def learn(self, pane: int, counts: Counts, rows: int) -> bool:
        """Whether the provisional reference came into force with this pane, which has so many rows."""
        state, learning = self.standing, self.standing.learning
        if learning is None or self.own is None or not counts.any():
            return False
        learning.add(counts, rows, self._stratum(pane))
        if not learning.enough(self.own):
            return False
        reference = learning.reference(self.own.bins, self.own.seasons)
        monitor = self._monitored(reference, self._known)
        if monitor is None or (not monitor.judged and learning.panes and learning.need < LONGEST * FEWEST_ROWS):
            learning.need *= 2  # rows that depend on each other say less
            return False
        state.current, state.own, state.learning, self.monitor = reference, False, None, monitor
        state.recent = Recent()
        return True

    def known_by(self, after: Ints) -> int:
        """The member that knew a world of these counts; 0 if none did."""
        current = self.standing.current
        if current is None or self.monitor is None:
            return 0
        streams = [index for index, each in enumerate(current.bins.streams) if each.judged]
        dependence = dict(zip(streams, self.monitor.dependence.tolist(), strict=True))
        threshold = self._rules.threshold(self._family)
        return recurring(current, self._archive(), after, self._family, threshold, dependence)

    def _archive(self) -> list[tuple[int, Reference]]:
        """Members and the worlds that they knew, but for the one in force."""
        state = self.standing
        known = self._known_worlds()
        found = [(member, known[member]) for member in state.members if member in known]
        worlds = [(each.anchor, each.counts) for each in state.worlds if each.anchor in known]
        found += [(member, pooled(known[member].bins, counts)) for member, counts in worlds]
        if not state.own and self.own is not None:
            found.append((state.anchor, self.own))
        return found

    def _known_worlds(self) -> dict[int, Reference]:
        """What each anchor knew of the family, without panes: asked at an alarm, so it must be at hand by then."""
        own = {} if self.own is None else {self.standing.anchor: pooled(self.own.bins, self.own.pooled)}
        return {**self._earlier, **own}

    def _keep(self, known: Mapping[int, Reference]) -> None:
        """Have at hand what the archive names."""
        named = self._named()
        self._earlier = {member: reference for member, reference in known.items() if member in named}

    def _named(self) -> set[int]:
        return {*self.standing.members, *(each.anchor for each in self.standing.worlds)}

    def inherit(self, before: Ruler) -> None:
        """Take over the archive of the anchor before, and put that anchor into it."""
        old = before.standing
        known = (*old.members, old.anchor) if old.anchor else ()
        self.standing.members, self.standing.worlds = known[-MOST_MEMBERS:], before.worlds()
        self._keep(before._known_worlds())

    def worlds(self) -> tuple[World, ...]:
        """Those of the archive, and the one in force if the stream itself has taught it."""
        state = self.standing
        if state.own or state.current is None or state.learning is not None or self._family in ("quality", "concept"):
            return state.worlds
        return (*state.worlds, World(state.anchor, state.current.pooled))[-MOST_WORLDS:]

    def resume(self, standing: Standing, monitor: bytes | None) -> None:
        """Go on with what a checkpoint holds; without a monitor's bytes nothing is judged."""
        self.standing = standing
        asked = {
            member: self._reference(member) for member in (*standing.members, *(w.anchor for w in standing.worlds))
        }
        self._keep({member: pooled(each.bins, each.pooled) for member, each in asked.items() if each is not None})
        if monitor is None:
            self.monitor = None
            return
        if not standing.own:
            self.monitor = self._monitored(standing.current, self._known)
        if self.monitor is not None:
            self.monitor.resume(monitor)
