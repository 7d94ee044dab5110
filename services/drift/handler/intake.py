"""From messages of counts to judged panes: both lanes, and from where a restart has to read them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from runtime.errors import NEW_GENERATION, HoleFound
from runtime.stage import Decoded
from schemas.bins import Bins
from services.drift.domain.density import Density
from services.drift.domain.door import OK
from services.drift.domain.evidence import Transition
from services.drift.domain.judge import Judge
from services.drift.domain.lanes import Lanes
from services.drift.domain.merging import Merge
from services.drift.domain.panes import MEMBER
from services.drift.domain.sums import SCORED, Sums, by_panes
from services.drift.domain.witness import Errors

TOPIC = "drift-counts"
Moved = tuple[Transition, dict[str, int]]
"""A transition, and the log positions through which its pane was counted."""


class Positions(msgspec.Struct, frozen=True):
    """Partition of drift-counts: offset from which a restart reads each kind of counts; absent: from the beginning."""

    scored: dict[int, int] = {}
    examples: dict[int, int] = {}


class Intake:
    """What is counted and not judged yet.

    Args:
        partitions: Of drift-counts.
        pane: Length of a pane in milliseconds.
        judge: Who judges the panes.
        bins: Of a member; None for one without. A transient error would lose panes: they are at hand.
        positions: What `positions` said when the judge's checkpoint was made.
        density: What was known then of how many rows panes hold.
    """

    def __init__(
        self,
        partitions: int,
        pane: int,
        judge: Judge,
        bins: Callable[[int], Bins | None],
        positions: Positions,
        density: Density,
    ) -> None:
        self._pane, self._judge, self._bins = pane, judge, bins
        self._scored = Sums(partitions, self._cells, judge.watches["features"].standing.anchor)
        self._examples = Merge(partitions, pane)
        self._positions, self.density = positions, density
        self._since = judge.since[1]
        self._next: dict[int, int] = {}
        self.unkept = 0
        """Panes that were judged since the last checkpoint."""

    def position(self, partition: int) -> int:
        """Offset from which to read a partition behind a restart."""
        return min(each.get(partition, 0) for each in (self._positions.scored, self._positions.examples))

    def add(self, partition: int, message: Decoded) -> None:
        """Take a message of counts.

        Raises:
            HoleFound: Panes before it are missing.
        """
        lanes: Lanes = self._scored if SCORED in message.headers.coverage else self._examples
        lane, panes = lanes.lanes[partition], message.headers.panes or (0, 0)
        if not lane.follows(panes[0]):
            raise HoleFound(
                f"{TOPIC}/{partition} offset {message.offset} counts panes from {panes[0]} on, but the panes "
                f"before it end with {lane.closed}: a message is missing. Was the topic made again? {NEW_GENERATION}"
            )
        lane.add(message.offset, message.batch, message.headers, panes)
        self._next[partition] = message.offset + 1

    def judge(self) -> Iterator[Moved]:
        """Judge what all partitions have closed."""
        for pane in self._scored.settle():
            self.unkept += 1
            self.density = self.density.behind(pane.pane, int(pane.quality[:, OK].sum()))
            for moved in self._judge.events(pane):
                yield moved, self._scored.through(moved.pane)
        anchor = self._judge.watches["concept"].standing.anchor
        for labelled, rows in by_panes(self._examples.settle(), self._pane, self._bins, anchor):
            self.unkept += 1
            for moved in self._judge.labels(labelled, Errors(rows.keys[0], rows.errors(self._bins(labelled.anchor)))):
                yield moved, self._examples.through(moved.pane)
        self._advance()

    @property
    def through(self) -> int | None:
        """Time before which everything that was certain was said, milliseconds; None before both lanes have begun."""
        settled = self._scored.settled, self._examples.settled
        known = [each for each in settled if each is not None]
        return (min(*known, *self._judge.pending) + 1) * self._pane if len(known) == len(settled) else None

    def _advance(self) -> None:
        """Note from where to read again, while the lanes still know it.

        Of scored rows that is what is not judged. Of joined rows it is where the witness was empty, maybe long ago.
        """
        events, labels = self._judge.since
        scored = {**self._positions.scored, **self._unseen(self._scored), **self._scored.positions(events)}
        examples = {**self._positions.examples, **self._unseen(self._examples)}
        if labels != self._since:
            self._since, examples = labels, {**examples, **self._examples.positions(labels)}
        self._positions = Positions(scored, examples)
        self._scored.prune()
        self._examples.prune()

    def _unseen(self, lanes: Lanes) -> dict[int, int]:
        """The end of what was read of partitions in which nothing of the kind was found."""
        known = lanes.positions(0)
        return {partition: end for partition, end in self._next.items() if partition not in known}

    def positions(self) -> Positions:
        """From where a restart reads again that begins with what was judged by now."""
        self.unkept = 0
        return self._positions

    def _cells(self, member: int) -> int:
        known = self._bins(member)
        return 0 if known is None else known.cells


def members(message: Decoded) -> set[int]:
    """The members that a message of counts is of."""
    return {version for version in message.batch.column(MEMBER).unique().to_pylist() if version}
