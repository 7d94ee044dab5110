"""The judge: one leader reads the counts of all partitions and says when an episode opens and closes.

Panes are judged when the slowest partition has closed them, in merged order, so that any number of partitions and any
interleaving give the same episodes. Nothing here waits for a message on `models`: the rows name the member, whose
reference is fetched when they do; the announced pool only has to agree with that rule.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import msgspec

from runtime.announced import Announced
from runtime.errors import InvalidMessage, Transient, WrongSetup
from runtime.metrics import Metrics
from runtime.ports import LogReader, Outgoing, Place, Polled
from runtime.references import References
from runtime.stage import Decoded, decode
from schemas import cloudevents
from schemas.cloudevents import Form
from schemas.judged import JUDGED, Judged
from schemas.messages import Pool, Wish
from schemas.reference import Reference
from schemas.spec import Pipeline
from services.drift.domain.evidence import Transition
from services.drift.domain.judge import Judge as Families
from services.drift.domain.merging import EXAMPLES
from services.drift.domain.standing import Rules
from services.drift.domain.sums import SCORED
from services.drift.handler.checkpoint import Checkpoint, newest
from services.drift.handler.intake import Intake, members
from services.drift.handler.saying import Sayings

SEAT, COUNTS, MODELS = "operator", "drift-counts", "models"
KEPT_PANES = 64
"""Panes that are judged between two checkpoints where nothing else asks for one."""

log = logging.getLogger("headrace.drift")


class Judge:
    """Leads while it owns the operator topic's only partition, and hears there which episodes are released.

    Args:
        spec: The pipeline: length of a pane, rows to settle, false alarms that are allowed.
        references: Where the references of members are.
        metrics: Where episodes are counted.
        form: How its CloudEvents are laid into Kafka messages.
    """

    inputs: tuple[str, ...] = (SEAT,)
    follows: tuple[str, ...] = (COUNTS, MODELS)
    leads = True

    def __init__(
        self, spec: Pipeline, references: References, metrics: Metrics | None = None, form: Form = "structured"
    ) -> None:
        self._spec, self._metrics, self._form = spec, metrics or Metrics(), form
        self._references = references
        self._log: LogReader | None = None
        self._begin(Checkpoint(), 0)

    def _begin(self, checkpoint: Checkpoint, partitions: int) -> None:
        drift = self._spec.drift
        self._checkpoint = checkpoint
        self._told: int | None = None
        self._families = Families(Rules(drift.pane, drift.settle, drift.false_alarms), self._reference)
        if checkpoint.families:
            self._families.resume(checkpoint.families)
        self._intake = Intake(partitions, drift.pane, self._families, self._reference, checkpoint.positions)
        self._sayings = Sayings(self._spec, self._form)
        self._announced = Announced(self._references.keys, self._metrics)

    def restore(self, place: Place, log: LogReader) -> list[Outgoing]:  # noqa: ARG002 - there is one place
        """Take the lead: the newest checkpoint, from now on under an epoch above all that judges said."""
        self._log = log
        last = newest(log)
        sayings = Sayings(self._spec, self._form)
        epoch = max(last.epoch, sayings.remember(log)) + 1
        self._begin(Checkpoint(epoch, last.positions, last.families), log.partitions(COUNTS))
        self._sayings = sayings
        return [self._checkpoint.outgoing()]

    def follow(self, log: LogReader) -> dict[Place, int]:
        """Counts that the checkpoint's monitors have not seen; all that is announced of models."""
        positions = {Place(MODELS, 0): log.begin(Place(MODELS, 0))}
        for partition in range(log.partitions(COUNTS)):
            place = Place(COUNTS, partition)
            positions[place] = max(log.begin(place), self._intake.position(partition))
        return positions

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """Facts and decision of each transition, in one list each, then a checkpoint, which also comes now and then."""
        counts = [(run.partition, _counts(run)) for run in polled if run.topic == COUNTS]
        for version in sorted({each for _, run in counts for message in run for each in members(message)}):
            self._reference(version)  # the store may be away: before anything is taken in
        for run in (run for run in polled if run.topic == MODELS):
            self._hear(run)
        for partition, message in ((partition, message) for partition, run in counts for message in run):
            self._intake.add(partition, message)
        moved = [self._move(*each) for each in self._intake.judge()]
        for episode in (episode for run in polled if run.topic == SEAT for episode in _released(run)):
            moved += [self._move(each, {}) for each in self._families.release(episode)]
        yield from moved
        # Behind them: said again after a crash they are known, but a checkpoint without them would hide them for ever.
        if moved or self._intake.unkept >= KEPT_PANES:
            yield [self._keep()]
        if (through := self._intake.through) is not None and through != self._told:
            self._told = through
            told = Judged(self._checkpoint.epoch, through, self._sayings.newest)
            yield [Outgoing("state", 0, msgspec.json.encode(told), JUDGED)]

    def tick(self, now: int) -> list[Outgoing]:  # noqa: ARG002 - judged on watermarks, never on clocks
        """Nothing."""
        return []

    def forget(self, place: Place) -> None:  # noqa: ARG002 - there is one place
        """Lose the lead."""
        self._begin(Checkpoint(), 0)

    def _move(self, transition: Transition, positions: dict[str, int]) -> list[Outgoing]:
        for state, episode in (("opened", transition.opened), ("closed", transition.closed)):
            if episode is not None:
                self._metrics.episodes.labels(state).inc()
                told = {"episode": episode.id, "state": state, "kind": episode.kind, "reason": transition.reason}
                log.info("episode_moved", extra=told)
        return self._sayings.say(transition, positions, self._checkpoint.epoch)

    def _keep(self) -> Outgoing:
        """The checkpoint of now."""
        positions, families = self._intake.positions(), self._families.checkpoint()
        self._checkpoint = Checkpoint(self._checkpoint.epoch, positions, families)
        return self._checkpoint.outgoing()

    def _reference(self, version: int) -> Reference | None:
        if self._log is None:
            raise Transient("this judge does not lead yet")
        return self._references.get(version, self._log)

    def _hear(self, run: Polled) -> None:
        """What is announced, but for what a controller says that was replaced."""
        for message in run.messages:
            before, said = self._announced.pool, self._announced.take(message)
            if isinstance(said, Pool) and before is not None and said.anchor < before.anchor:
                raise WrongSetup(
                    f"pool {said.version} of {said.model!r} names member {said.anchor} as anchor, and member "
                    f"{before.anchor} was watched already: rows of an older anchor are not judged. Announce a pool "
                    "whose anchor is the same or newer."
                )


def _counts(run: Polled) -> list[Decoded]:
    messages = decode(run)
    for message in messages:
        if message.headers.panes is None or not {EXAMPLES, SCORED} & message.headers.coverage.keys():
            why = "the headers `panes` and `coverage` of drift-counts are missing"
            raise InvalidMessage(run.topic, run.partition, message.offset, "undecodable_batch", why)
    return messages


def _released(run: Polled) -> Iterator[str]:
    """Episodes that operators release; what is no wish, training refuses."""
    for message in run.messages:
        try:
            wish = cloudevents.decode(message.value or b"", message.headers).read(Wish)
        except cloudevents.EnvelopeError:
            log.warning("foreign_message_ignored", extra={"topic": run.topic, "offset": message.offset})
        else:
            if wish.kind == "release":
                yield wish.subject
