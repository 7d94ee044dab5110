"""The counter: closes panes of one partition of `examples`, and says what was in them on `drift-counts`.

One message per input message that closes panes, none for the others: commits run ahead of what the output covers, so a
restart reads `examples` again from the covered mark up to the commit, and further back for rows of open panes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtime.fold import Fold
from runtime.metrics import Metrics
from runtime.ports import LogReader, Outgoing, Place, Polled
from runtime.stage import Decoded, decode, pieces
from schemas import batch as b
from schemas.spec import Pipeline
from services.drift.domain.panes import OpenPanes, losses
from services.drift.handler.resuming import OUTPUT, SOURCE, newest, rewind, run_on


@dataclass(slots=True)
class Lane:
    """State of one partition.

    Attributes:
        fold: Marks and watermarks of the input.
        panes: Rows that wait for their pane to close.
        mark: Input offset that the output covers.
        said: The fold's state at the mark.
    """

    fold: Fold
    panes: OpenPanes
    mark: int
    said: b.Through


class Counter:
    """Counts each partition for itself.

    Args:
        spec: The pipeline: length of a pane, lateness.
        metrics: Where late rows are counted.
    """

    inputs: tuple[str, ...] = (SOURCE,)
    follows: tuple[str, ...] = ()
    leads = False

    def __init__(self, spec: Pipeline, metrics: Metrics | None = None) -> None:
        self._spec, self._metrics = spec, metrics or Metrics()
        self._lanes: dict[int, Lane] = {}

    def restore(self, place: Place, log: LogReader) -> list[Outgoing]:
        """Take up behind the newest counts; what lies between them and the commit is counted again, not said again."""
        resumed = newest(log, place.partition)
        fold = Fold(self.inputs, resumed.through)
        fold.marks[SOURCE] = resumed.mark
        panes = OpenPanes(self._spec.drift.pane, self._spec.drift.lateness, resumed.closed)
        lane = self._lanes[place.partition] = Lane(fold, panes, resumed.mark, fold.through())
        if resumed.closed is not None:
            for message in rewind(log, place, resumed.mark + 1, (resumed.closed + 1) * self._spec.drift.pane):
                panes.add(losses(message.batch))
        owed = []
        for message in run_on(log, place, resumed.mark + 1):
            owed += self._count(place.partition, lane, message)[0]
        return owed

    def follow(self, log: LogReader) -> dict[Place, int]:  # noqa: ARG002 - the port's signature
        """Nothing."""
        return {}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """One message per input message that closes panes."""
        decoded = [(run.partition, decode(run)) for run in polled]
        for partition, messages in decoded:
            outgoing: list[Outgoing] = []
            for message in messages:
                closed, late = self._count(partition, self._lanes[partition], message)
                self._metrics.late.labels(SOURCE).inc(late)
                outgoing += closed
            yield outgoing

    def tick(self, now: int) -> list[Outgoing]:  # noqa: ARG002 - panes close on watermarks, never on clocks
        """Nothing."""
        return []

    def forget(self, place: Place) -> None:
        """Drop the partition."""
        self._lanes.pop(place.partition, None)

    def _count(self, partition: int, lane: Lane, message: Decoded) -> tuple[list[Outgoing], int]:
        """What the message closes, and how many of its rows came too late."""
        if lane.fold.seen(SOURCE, message.offset):
            return [], 0
        # Examples come in the order of their labels, not of their events: the fold's rule for rows is not theirs, so
        # it sees none. A repeated row has the same label time: it is late, or taken once when its pane closes.
        lane.fold.take(SOURCE, message.offset, message.batch.slice(0, 0), message.headers)
        late = lane.panes.add(losses(message.batch))
        closed = lane.panes.close(lane.fold.passed())
        if closed is None:
            return [], late
        panes, rows = closed
        through = lane.fold.through()
        headers = b.Headers(
            pipeline=self._spec.digest,
            topic_id=message.headers.topic_id,
            coverage={SOURCE: (lane.mark + 1, message.offset)},
            through=through,
            panes=panes,
        )
        outgoing = pieces(Place(OUTPUT, partition), rows, headers, lane.said)
        lane.mark, lane.said = message.offset, through
        return outgoing, late
