"""One input of one partition as it is counted: what its fold has seen, and which of its panes are open.

Joined rows are kept until their pane of label time closes, and then told one by one; scored rows are counted into panes
of event time and let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa

from runtime.fold import Fold
from runtime.ports import Outgoing, Place
from runtime.stage import Decoded, pieces
from schemas import batch as b
from schemas.bins import Bins
from schemas.spec import Pipeline
from schemas.task import anchors
from services.drift.domain.merging import EXAMPLES
from services.drift.domain.panes import OpenPanes, judged
from services.drift.domain.sums import SCORED
from services.drift.domain.tallies import Tallies
from services.drift.handler.resuming import OUTPUT, Resumed

Closed = tuple[tuple[int, int], pa.RecordBatch]


class Panes(Protocol):
    """Open panes."""

    closed: int | None

    def close(self, watermark: int | None, /) -> Closed | None:
        """First and last index of the panes that a watermark closes, and their rows."""


class Lane(Protocol):
    """An input of a partition."""

    fold: Fold
    mark: int
    said: b.Through

    @property
    def panes(self) -> Panes:
        """What is open."""

    def recall(self, message: Decoded) -> None:
        """Take the rows of open panes in a message that was counted before a restart."""

    def count(self, message: Decoded) -> int:
        """Take a message's rows; how many of them came too late."""

    def passed(self) -> int | None:
        """The time up to which nothing more is expected."""

    @staticmethod
    def highest(through: b.Through) -> int | None:
        """A time that no row has exceeded which its writer had seen."""


class ExamplesLane:
    """Joined rows, by label time."""

    def __init__(self, spec: Pipeline, resumed: Resumed) -> None:
        self.fold, self.mark = _fold(EXAMPLES, resumed), resumed.mark
        self.said = self.fold.through()
        self.panes = OpenPanes(spec.drift.pane, spec.drift.lateness, resumed.closed)
        self._target = spec.target

    def recall(self, message: Decoded) -> None:
        """See `Lane`."""
        self.panes.add(judged(message.batch, self._target))

    def count(self, message: Decoded) -> int:
        """See `Lane`."""
        # Examples come in the order of their labels, not of their events: the fold's rule for rows is not theirs, so
        # it sees none. A repeated row has the same label time: it is late, or taken once when its pane closes.
        self.fold.take(EXAMPLES, message.offset, message.batch.slice(0, 0), message.headers)
        return self.panes.add(judged(message.batch, self._target))

    def passed(self) -> int | None:
        """See `Lane`."""
        return self.fold.passed()

    @staticmethod
    def highest(through: b.Through) -> int | None:
        """See `Lane`."""
        return through.highest.get(b.LABELS)


class ScoredLane:
    """Scored rows, by event time.

    Args:
        spec: The pipeline.
        resumed: Where to take up.
        bins: The bins of a member. Raises `Transient`.
    """

    def __init__(self, spec: Pipeline, resumed: Resumed, bins: Callable[[int], Bins | None]) -> None:
        self.fold, self.mark = _fold(SCORED, resumed), resumed.mark
        self.said = self.fold.through()
        self.panes = Tallies(spec.target, spec.drift.pane, spec.drift.lateness, resumed.closed)
        self._bins = bins
        self._before = Fold((SCORED,))

    def recall(self, message: Decoded) -> None:
        """See `Lane`. Repeated rows are found among these messages: what was earlier is of closed panes."""
        rows, rejects = self._before.novel(b.EVENTS, message.batch, message.headers)
        self.panes.add(rows, self._bins, again=True)
        self.panes.refuse(rejects, _marks(message), again=True)

    def count(self, message: Decoded) -> int:
        """See `Lane`."""
        rows, rejects = self.fold.take(SCORED, message.offset, message.batch, message.headers)
        self.panes.refuse(rejects, _marks(message))
        return self.panes.add(rows, self._bins)

    def passed(self) -> int | None:
        """See `Lane`."""
        return self.fold.watermark(b.EVENTS)

    @staticmethod
    def highest(through: b.Through) -> int | None:
        """See `Lane`. Refused rows count where their source had come to, which is told by its watermark."""
        marks = [time for time, _ in through.watermarks.get(b.EVENTS, {}).values()]
        return max([*marks, through.highest[b.EVENTS]]) if b.EVENTS in through.highest else max(marks, default=None)


def versions(rows: pa.RecordBatch) -> Iterator[int]:
    """The members whose bins scored rows need."""
    return (each for each in np.unique(anchors(rows)).tolist() if each)


def emit(place: Place, lane: Lane, message: Decoded, closed: Closed, pipeline: str) -> list[Outgoing]:
    """The messages that say which panes a message closed; the lane goes on behind it."""
    panes, rows = closed
    through = lane.fold.through()
    headers = b.Headers(
        pipeline=pipeline,
        topic_id=message.headers.topic_id,
        coverage={place.topic: (lane.mark + 1, message.offset)},
        through=through,
        panes=panes,
    )
    outgoing = pieces(Place(OUTPUT, place.partition), rows, headers, lane.said)
    lane.mark, lane.said = message.offset, through
    return outgoing


def _fold(source: str, resumed: Resumed) -> Fold:
    fold = Fold((source,), resumed.through)
    fold.marks[source] = resumed.mark
    return fold


def _marks(message: Decoded) -> dict[int, b.Watermark]:
    through = message.headers.through
    return {} if through is None else through.watermarks.get(b.EVENTS, {})
