"""One family watched: when its episode opens and closes, and what it is judged by. A fold over panes.

A family knows nothing of the others, so that one open episode hides no change elsewhere and the order in which two
families' panes are read does not matter. After an alarm there are two ways on:

* bad data: the reference stays, and the episode closes when a block of `settle` rows fits it again;
* all else: a provisional reference is learnt from the rows behind the alarm, and the episode closes when it is in
  force (of concept: when `settle` labelled rows lie behind the start, and ADWIN begins anew).

A new anchor closes either and brings its own reference. What was in force before goes into the archive.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from schemas.bins import Counts, Family
from services.drift.domain.evidence import Episode, Transition
from services.drift.domain.keeping import pack, unpack
from services.drift.domain.monitor import Judged
from services.drift.domain.opening import Scene, by_counts, by_witness
from services.drift.domain.pane_counts import PaneCounts
from services.drift.domain.recent import Recent
from services.drift.domain.ruler import ACROSS, References, Ruler
from services.drift.domain.standing import Rules, Standing
from services.drift.domain.witness import Errors, Since, Witness

IN_FORCE = "provisional reference in force"
NEW_ANCHOR = "a new anchor answers"
RIGHT_AGAIN = "the data is right again"
RELEASED = "released by an operator"

NAMED, LONGEST_WAIT = 100, 60
"""Rows, or panes, behind an alarm of the features with which it is given its name."""
DOUBT = 20.0
"""Evidence against a block of rows, per pane of it, from which its data is still bad."""


class Watch:
    """Judges the panes of one family, in ascending order; a pane up to the last judged one changes nothing.

    Args:
        family: Which.
        rules: Of the pipeline.
        references: What is normal, by member.
    """

    def __init__(self, family: Family, rules: Rules, references: References) -> None:
        self.family, self._rules, self._references = family, rules, references
        self._witness = Witness(Since()) if family == "concept" else None
        self._begin(0)

    def _begin(self, anchor: int) -> None:
        """Watch a member by its own reference."""
        self._ruler = Ruler(self.family, self._rules, self._references, Standing(anchor=anchor))

    @property
    def standing(self) -> Standing:
        """What it knows but for monitor and witness."""
        return self._ruler.standing

    # --- a pane -------------------------------------------------------------------------------------

    def judge(self, pane: PaneCounts, errors: Errors | None = None) -> list[Transition]:
        """What a pane changes.

        Args:
            pane: Counts of all sources.
            errors: Of concept: what the pane's anchor got wrong.
        """
        if pane.anchor < self.standing.anchor:
            errors = None  # of a member that is no longer watched
        if pane.pane <= self.standing.last:
            self._again(pane.pane, errors)
            return []
        found = self._switched(pane) if pane.anchor > self.standing.anchor else []
        state, counts = self.standing, self._ruler.taken(pane)
        state.last = pane.pane
        total = counts.sum(0, dtype=np.int32)
        rows = self._ruler.rows(total)
        self._ruler.remember(pane, counts, rows)
        found += self._move(pane.pane, total, rows, errors)
        self.standing.recent.prune()
        return found

    def _again(self, pane: int, errors: Errors | None) -> None:
        """Behind a restart: the witness learns what it knew."""
        if self._witness is not None and errors is not None and self.standing.episode is None:
            self._witness.hear(pane, errors)

    def _move(self, pane: int, counts: Counts, counted: int, errors: Errors | None) -> list[Transition]:
        rows = len(errors.losses) if errors is not None else counted
        if self.standing.episode is None:
            opened = self._opened(pane, counts, errors, rows)
            if opened is not None:
                return [opened, *self._ended(pane, 0)]
            self._ruler.learn(pane, counts, counted)
            return []
        if self.standing.episode.kind == "bad_data":
            return self._blocked(pane, counts, rows)
        learnt = self._ruler.learn(pane, counts, counted)
        if learnt and self.family != "concept":
            return [self._closed(pane, IN_FORCE)]
        return self._ended(pane, rows)

    # --- an episode opens ---------------------------------------------------------------------------

    def _opened(self, pane: int, counts: Counts, errors: Errors | None, rows: int) -> Transition | None:
        seen = self._witness.hear(pane, errors) if self._witness is not None and errors is not None else None
        if seen is not None and self._witness is not None:
            monitor = self._ruler.monitor
            suspects = monitor.suspects() if monitor is not None else []
            witnessed = by_witness(self._scene(pane), self.standing.current, seen, suspects)
            behind = seen.change.rows_after + rows - self._witness.since.row
            return self._open(pane, witnessed, behind)
        judged = self._alarmed(pane, counts, rows)
        monitor, current = self._ruler.monitor, self.standing.current
        if judged is None or monitor is None or current is None:
            return None
        episode, after = by_counts(self._scene(judged.pane), current, judged, monitor.suspects())
        if episode is None:
            self._ruler.relearn()  # the better world is the one to go on with
            return None
        return self._open(pane, self._named(episode, after), episode.rows)

    def _alarmed(self, pane: int, counts: Counts, rows: int) -> Judged | None:
        """An alarm that can be named. That of the features waits for more rows: a few do not tell what has moved."""
        state = self.standing
        if state.alarm is None:
            judged = self._ruler.judge(pane, counts)
            if judged is None or not judged.alarm or self.family != "features":
                return judged if judged is not None and judged.alarm else None
            state.alarm = pane, judged.statistic, 0
            return None
        first, told, waited = state.alarm
        state.alarm = first, told, waited + rows
        if waited + rows < NAMED and pane - first < LONGEST_WAIT:
            return None
        state.alarm = None
        return Judged(first, told, float(np.log(self._rules.threshold(self.family))))

    def _scene(self, pane: int) -> Scene:
        state, history = self.standing, tuple(self.standing.history)
        return Scene(self.family, state.anchor, pane, self._rules.pane, state.recent, history, self._ruler.own)

    def _named(self, episode: Episode, after: npt.NDArray[np.int64]) -> Episode:
        """The episode, recurring where an archived world explains the rows."""
        member = 0 if episode.kind in ("bad_data", "concept") else self._ruler.known_by(after)
        if not member:
            return episode
        reason = f"{episode.reason}; as when member {member} was fitted"
        return replace(episode, kind="recurring", recurs=member, reason=reason)

    def _open(self, pane: int, episode: Episode, behind: int) -> Transition:
        state = self.standing
        state.episode, state.block, state.rest = episode, (0, 0, 0.0), self._rules.settle - behind
        if episode.kind != "bad_data":
            state.worlds = self._ruler.worlds()
            self._ruler.relearn()
        elif self._ruler.monitor is not None:
            self._ruler.monitor.restart()
        return Transition(self.family, pane, (pane + 1) * self._rules.pane, episode.reason, opened=episode)

    # --- and goes on --------------------------------------------------------------------------------

    def _ended(self, pane: int, rows: int) -> list[Transition]:
        """A concept episode is over when enough labelled rows lie behind its start."""
        self.standing.rest -= rows
        if self.family != "concept" or self.standing.rest > 0:
            return []
        return [self._closed(pane, IN_FORCE)]

    def _blocked(self, pane: int, counts: Counts, rows: int) -> list[Transition]:
        """Bad data: the reference is tried on block after block, and a block ends where it is clear that it is bad."""
        state, monitor, judged = self.standing, self._ruler.monitor, self._ruler.judge(pane, counts)
        if judged is None or monitor is None or state.episode is None:
            return []
        seen, panes, evidence = state.block
        seen, panes, evidence = seen + rows, panes + 1, evidence + self._ruler.like(state.episode, counts)
        doubted = judged.statistic >= np.log(DOUBT * (seen if self._rules.by_rows else panes))
        if not doubted and seen < self._rules.settle:
            state.block = seen, panes, evidence
            return []
        state.block = 0, 0, 0.0
        monitor.restart()
        if doubted or evidence > 0:
            return []
        state.recent = Recent()  # what was wrong tells nothing of the next change
        return [self._closed(pane, RIGHT_AGAIN)]

    def _closed(self, pane: int, reason: str) -> Transition:
        episode, self.standing.episode = self.standing.episode, None
        if self._witness is not None:
            self._witness.restart(Since(pane + 1))
        return Transition(self.family, pane, (pane + 1) * self._rules.pane, reason, closed=episode)

    def _switched(self, pane: PaneCounts) -> list[Transition]:
        """A newer member answers."""
        before = self._ruler
        closed = [self._closed(pane.pane, NEW_ANCHOR)] if before.standing.episode is not None else []
        self._begin(pane.anchor)
        self.standing.history = before.standing.history
        if self.family in ACROSS:
            self._ruler.inherit(before)
        if self._witness is not None:
            self._witness.restart(Since(pane.pane))
        return closed

    def release(self, episode: str) -> list[Transition]:
        """An operator ends an episode: what comes now is normal. Nothing if another one or none is open."""
        found = self.standing.episode
        if found is None or found.id != episode:
            return []
        if found.kind == "bad_data":
            self._ruler.relearn()
        return [self._closed(self.standing.last, RELEASED)]

    # --- checkpoints --------------------------------------------------------------------------------

    @property
    def since(self) -> int:
        """The pane from which on it has to be shown everything again behind a restart."""
        following = self.standing.last + 1
        if self._witness is None or self.standing.episode is not None:
            return following
        return min(following, max(0, self._witness.since.pane))

    def checkpoint(self) -> bytes:
        """All that the panes have taught it, but for the witness."""
        plain, arrays = self.standing.parts()
        since = self._witness.since if self._witness is not None else Since()
        plain["since"] = since.pane, since.row
        if self._ruler.monitor is not None:
            arrays["monitor"] = np.frombuffer(self._ruler.monitor.checkpoint(), np.uint8)
        return pack(plain, arrays)

    def resume(self, value: bytes) -> None:
        """Go on from a checkpoint exactly as the one that made it would.

        Raises:
            BadCheckpointError: It is none.
        """
        plain, arrays = unpack(value)
        self._begin(plain["anchor"])
        monitor = arrays["monitor"].tobytes() if "monitor" in arrays else None
        self._ruler.resume(Standing.read(plain, arrays, self._ruler.own), monitor)
        if self._witness is not None:
            self._witness = Witness(Since(*plain["since"]))
