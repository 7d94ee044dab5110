"""The counter: closes panes of one partition, and says what was in them on `drift-counts`.

It reads `scored` (features, predictions and what became of rows at the door, by event time) and `examples` (outputs
with their labels, by label time), each for itself: their messages on `drift-counts` are told apart by their coverage.
One message per input message that closes panes, none for the others: commits run ahead of what the output covers, so a
restart reads an input again from the covered mark up to the commit, and further back for rows of open panes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runtime.errors import Transient
from runtime.metrics import Metrics
from runtime.ports import LogReader, Outgoing, Place, Polled
from runtime.references import References
from runtime.stage import Decoded, decode
from schemas.bins import Bins
from schemas.spec import Pipeline
from services.drift.domain.merging import EXAMPLES
from services.drift.domain.sums import SCORED
from services.drift.handler.lanes import ExamplesLane, Lane, ScoredLane, emit, versions
from services.drift.handler.resuming import newest, rewind, run_on


class Counter:
    """Counts each partition for itself.

    Args:
        spec: The pipeline: length of a pane, lateness.
        references: Where the bins of members are.
        metrics: Where late rows are counted.
    """

    inputs: tuple[str, ...] = (EXAMPLES, SCORED)
    follows: tuple[str, ...] = ()
    leads = False

    def __init__(self, spec: Pipeline, references: References, metrics: Metrics | None = None) -> None:
        self._spec, self._metrics = spec, metrics or Metrics()
        self._references = references
        self._log: LogReader | None = None
        self._lanes: dict[Place, Lane] = {}

    def restore(self, place: Place, log: LogReader) -> list[Outgoing]:
        """Take up behind the newest counts; what lies between them and the commit is counted again, not said again."""
        self._log = log
        resumed, spec = newest(log, place), self._spec
        lane: Lane = ExamplesLane(spec, resumed) if place.topic == EXAMPLES else ScoredLane(spec, resumed, self._bins)
        if resumed.closed is not None:
            begin = (resumed.closed + 1) * spec.drift.pane
            for message in rewind(log, place, resumed.mark + 1, begin, lane.highest):
                lane.recall(message)
        owed = []
        for message in run_on(log, place, resumed.mark + 1):
            owed += self._count(place, lane, message)[0]
        self._lanes[place] = lane
        return owed

    def follow(self, log: LogReader) -> dict[Place, int]:  # noqa: ARG002 - the port's signature
        """Nothing."""
        return {}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """One message per input message that closes panes.

        A member's bins are fetched before its first row is counted: the store may be away.
        """
        decoded = [(Place(run.topic, run.partition), decode(run)) for run in polled]
        for each in (each for place, run in decoded if place.topic == SCORED for each in run):
            for version in versions(each.batch):
                self._bins(version)
        for place, messages in decoded:
            outgoing: list[Outgoing] = []
            for message in messages:
                closed, late = self._count(place, self._lanes[place], message)
                self._metrics.late.labels(place.topic).inc(late)
                outgoing += closed
            yield outgoing

    def tick(self, now: int) -> list[Outgoing]:  # noqa: ARG002 - panes close on watermarks, never on clocks
        """Nothing."""
        return []

    def forget(self, place: Place) -> None:
        """Drop the partition."""
        self._lanes.pop(place, None)

    def _bins(self, member: int) -> Bins | None:
        if self._log is None:
            raise Transient("no partition was gained yet")
        return self._references.bins(member, self._log)

    def _count(self, place: Place, lane: Lane, message: Decoded) -> tuple[list[Outgoing], int]:
        """What the message closes, and how many of its rows came too late."""
        if lane.fold.seen(place.topic, message.offset):
            return [], 0
        late = lane.count(message)
        closed = lane.panes.close(lane.passed())
        return ([] if closed is None else emit(place, lane, message, closed, self._spec.digest)), late
