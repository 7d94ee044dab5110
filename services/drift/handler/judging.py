"""The judge: one leader reads the counts of all partitions and says when an episode opens and closes.

Panes are judged when the slowest partition has closed them, in merged order, so that any number of partitions and any
interleaving give the same episodes. Nothing here waits for a message on `models`: the rows name the member (see
`domain.episodes`), the announced pool only has to agree with that rule.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from runtime.announced import Announced
from runtime.errors import NEW_GENERATION, HoleFound, InvalidMessage, WrongSetup
from runtime.metrics import Metrics
from runtime.ports import LogReader, Outgoing, Place, Polled
from runtime.stage import Decoded, decode
from schemas.cloudevents import Form
from schemas.messages import Pool
from schemas.spec import Pipeline
from services.drift.domain.episodes import Episodes, Transition
from services.drift.domain.merging import Merge
from services.drift.handler.checkpoint import Checkpoint, newest
from services.drift.handler.saying import Sayings

COUNTS, MODELS = "drift-counts", "models"
log = logging.getLogger("headrace.drift")


class Judge:
    """Leads while it owns the operator topic's only partition; the topic itself has no wish for drift yet.

    Args:
        spec: The pipeline: length of a pane, rows to settle.
        metrics: Where episodes are counted.
        form: How its CloudEvents are laid into Kafka messages.
    """

    inputs: tuple[str, ...] = ("operator",)
    follows: tuple[str, ...] = (COUNTS, MODELS)
    leads = True

    def __init__(self, spec: Pipeline, metrics: Metrics | None = None, form: Form = "structured") -> None:
        self._spec, self._metrics, self._form = spec, metrics or Metrics(), form
        self._begin(Checkpoint(), 0)

    def _begin(self, checkpoint: Checkpoint, partitions: int) -> None:
        pane, settle = self._spec.drift.pane, self._spec.drift.settle
        self._checkpoint = checkpoint
        self._merge = Merge(partitions, pane)
        self._episodes = Episodes(pane, settle, checkpoint.standing)
        self._sayings = Sayings(self._spec, self._form)
        self._announced = Announced()

    def restore(self, place: Place, log: LogReader) -> list[Outgoing]:  # noqa: ARG002 - there is one place
        """Take the lead: the newest checkpoint, from now on under an epoch above all that judges said."""
        last = newest(log)
        sayings = Sayings(self._spec, self._form)
        epoch = max(last.epoch, sayings.remember(log)) + 1
        self._begin(Checkpoint(epoch, last.positions, last.standing), log.partitions(COUNTS))
        self._sayings = sayings
        return [self._checkpoint.outgoing()]

    def follow(self, log: LogReader) -> dict[Place, int]:
        """Counts since the checkpoint's monitor was empty; all that is announced of models."""
        places = [Place(COUNTS, partition) for partition in range(log.partitions(COUNTS))]
        positions = {place: self._checkpoint.positions.get(place.partition, log.begin(place)) for place in places}
        return {**positions, Place(MODELS, 0): log.begin(Place(MODELS, 0))}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """Facts, decision and checkpoint of each transition, in one list each."""
        counts = [(run.partition, _counts(run)) for run in polled if run.topic == COUNTS]
        for run in (run for run in polled if run.topic == MODELS):
            self._hear(run)
        for partition, messages in counts:
            self._add(partition, messages)
        for transition in self._episodes.judge(self._merge.settle()):
            yield self._move(transition)
        self._merge.prune()

    def tick(self, now: int) -> list[Outgoing]:  # noqa: ARG002 - judged on watermarks, never on clocks
        """Nothing."""
        return []

    def forget(self, place: Place) -> None:  # noqa: ARG002 - there is one place
        """Lose the lead."""
        self._begin(Checkpoint(), 0)

    def _hear(self, run: Polled) -> None:
        """What is announced, but for what a controller says that was replaced."""
        said = [self._announced.take(message) for message in run.messages]
        if self._announced.pool in said and self._announced.pool is not None:
            _agree(self._announced.pool)

    def _add(self, partition: int, messages: Sequence[Decoded]) -> None:
        lane = self._merge.lanes[partition]
        for message in messages:
            panes = message.headers.panes or (0, 0)
            if not lane.follows(panes[0]):
                raise HoleFound(
                    f"{COUNTS}/{partition} offset {message.offset} counts panes from {panes[0]} on, but the panes "
                    f"before it end with {lane.closed}: a message is missing. Was the topic made again? "
                    f"{NEW_GENERATION}"
                )
            lane.add(message.offset, message.batch, message.headers, panes)

    def _move(self, transition: Transition) -> list[Outgoing]:
        positions = self._checkpoint.positions | self._merge.positions(transition.pane)
        self._checkpoint = Checkpoint(self._checkpoint.epoch, positions, transition.standing)
        said = self._sayings.say(transition, self._merge.through(transition.pane), self._checkpoint.epoch)
        for state, episode in (("opened", transition.opened), ("closed", transition.closed)):
            if episode is not None:
                self._metrics.episodes.labels(state).inc()
                log.info("episode_moved", extra={"episode": episode.id, "state": state, "reason": transition.reason})
        return [*said, self._checkpoint.outgoing()]


def _counts(run: Polled) -> list[Decoded]:
    messages = decode(run)
    for message in messages:
        if message.headers.panes is None or "examples" not in message.headers.coverage:
            why = "the headers `panes` and `coverage` of drift-counts are missing"
            raise InvalidMessage(run.topic, run.partition, message.offset, "undecodable_batch", why)
    return messages


def _agree(pool: Pool) -> None:
    """The rule that the rows name the anchor holds while the anchor is the newest member."""
    if pool.anchor != max(pool.members):
        raise WrongSetup(
            f"pool {pool.version} of {pool.model!r} names member {pool.anchor} as anchor, but {max(pool.members)} is "
            "its newest: an older anchor is not supported yet. Announce a pool whose newest member is the anchor."
        )
