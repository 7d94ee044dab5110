"""The controller: one instance leads, reads everything whole, decides when to fit, and announces what may serve.

Safe under a kill at any point: the same log makes the same trigger, the same rows, the same version and the same model
digest again; an artefact is written once; a trigger whose member is on `models` is done.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from runtime.announced import Announced
from runtime.errors import Transient, WrongSetup
from runtime.metrics import Metrics
from runtime.ports import LogReader, Outgoing, Place, Polled
from runtime.signing import Keys
from runtime.stage import decode
from runtime.store import Store
from schemas.cloudevents import Form
from schemas.messages import Wish, moment
from schemas.pipeline import Pipeline
from services.training import quarantining
from services.training.carrying import Carrying
from services.training.datasets import MEMORY
from services.training.domain.triggers import Budget, State, Trigger
from services.training.domain.turns import Turns, wished
from services.training.knowledge import MODELS, Knowledge
from services.training.reading import checkpoint, wishes
from services.training.refereeing import Refereeing
from services.training.saying import Saying
from services.training.segments import Segments
from services.training.wishing import Wishing

log = logging.getLogger("headrace.training")

SEAT, EXAMPLES = Place("operator", 0), "examples"


class Training:
    """Decides on fits, fits, checks, stores and announces.

    Args:
        spec: The pipeline.
        store: Where artefacts go.
        metrics: Where counts go.
        form: How its CloudEvents are laid into Kafka messages.
        memory: Bytes of the largest dataset.
        trusted: Types that a model may hold besides those of the list.

    Raises:
        WrongSetup: The estimator is not there or does not take the parameters, or the budget is of a kind that is not
            supported yet.
    """

    inputs = (SEAT.topic,)
    follows = ("examples", "drift", "models", "state")
    leads = True

    def __init__(
        self,
        spec: Pipeline,
        store: Store,
        metrics: Metrics | None = None,
        form: Form = "structured",
        memory: int = MEMORY,
        trusted: Sequence[str] = (),
    ) -> None:
        self._spec, self._store, self._metrics, self._memory = spec, store, metrics or Metrics(), memory
        self._budget, self._saying = _budget(spec), Saying(spec.pipeline, form, store.keys)
        self._carrying = Carrying(spec, store, self._budget, self._saying, self._metrics, trusted)
        composing = self._carrying.composing
        self._wishing, self._refereeing = Wishing(composing, self._saying), Refereeing(composing, self._saying)
        self._turns = Turns(spec.pipeline, spec.training.min_rows, spec.drift.settle)
        self._known = self._nothing()

    # --- taking and losing the lead -----------------------------------------------------------

    def restore(self, place: Place, log: LogReader) -> list[Outgoing]:
        """Take the lead: read the own checkpoint and write it with a higher epoch at once."""
        if place != SEAT:
            return []
        self._known = self._nothing(state := checkpoint(log))
        state.epoch = max(state.epoch, _announced(log, self._store.keys).epoch) + 1
        return [self._saying.checkpoint(state)]

    def follow(self, log: LogReader) -> Mapping[Place, int]:
        """Read what was announced and which episodes there were; rows are read again from where the window began."""
        partitions = log.partitions(EXAMPLES)
        segments, keys = self._segments(log), self._store.keys
        self._known = Knowledge(self._spec, segments, self._known.state, partitions, self._memory, keys, self._metrics)
        positions = self._known.read(log)
        self._metrics.lost.inc(self._known.lost)
        return positions

    def forget(self, place: Place) -> None:
        """Let go of everything with the seat."""
        if place == SEAT:
            self._known = self._nothing()

    def tick(self, now: int) -> Sequence[Outgoing]:
        """Archive what is due by the broker's time; everything else runs on event time."""
        archive = self._known.archive
        self._metrics.unarchived.set(archive.keep_up(now) / 1000)
        return [self._carrying.checkpoint(self._known)] if archive.next != self._known.state.archived else ()

    def _nothing(self, state: State | None = None) -> Knowledge:
        """What is known before anything was read."""
        return Knowledge(self._spec, self._segments(None), state, keys=self._store.keys, metrics=self._metrics)

    def _segments(self, log: LogReader | None) -> Segments:
        """Where this log's examples are archived; nowhere yet without a log."""
        return Segments(self._store, self._spec.pipeline, "" if log is None else log.topic_id(EXAMPLES))

    # --- messages -----------------------------------------------------------------------------

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """Fold what came, then do what is due.

        The store being away is transient before the first word. Later, what is due waits for the next messages, and
        an open wish lies in a checkpoint: its message will be committed.
        """
        open_before = set(self._known.state.wishes)
        asked = self._fold(polled)
        if self._known.archive.full:
            self._known.archive.write()
        if self._known.decided == self._known.window.judged and {run.topic for run in polled} == {"state"}:
            return  # checkpoints, the own ones among them
        said = False
        try:
            for outgoing in self._decisions(asked, open_before):
                said = True
                yield outgoing
        except Transient:
            if not said:
                raise

    def _fold(self, polled: Sequence[Polled]) -> list[Wish]:
        """Take what came; the wishes in it. The same messages twice change nothing: a transient error repeats them."""
        known = self._known
        asked = [wish for run in polled if run.topic == SEAT.topic for wish in wishes(run)]
        batches = [(run, decode(run)) for run in polled if run.topic == EXAMPLES]
        for place, fold in known.folds.items():
            for message in (message for run in polled if run.topic == place.topic for message in run.messages):
                fold(message)
        known.hear_judge()
        known.hear_pool()
        waiting = sum(each.batch.num_rows for _, decoded in batches for each in decoded)
        for run, decoded in batches:
            for each, message in zip(decoded, run.messages, strict=True):
                rows = known.take_rows(run.partition, each, message.timestamp, waiting)
                waiting -= each.batch.num_rows
                self._metrics.rows.labels(EXAMPLES).inc(rows)
        return asked

    def _decisions(self, asked: Sequence[Wish], open_before: set[str]) -> Iterator[Sequence[Outgoing]]:
        """Event by event: what is due before an episode is decided without it, however early that was read."""
        known, carrying = self._known, self._carrying
        news = [*self._learn(), *self._answers(asked)]
        if outgoing := [*news, *self._resting(), *self._held_up()]:
            kept = news or set(known.state.wishes) - open_before
            yield [*outgoing, carrying.checkpoint(known)] if kept else outgoing
        for time in (*known.episodes.times(known.window.frontier), None):
            known.window.until = time
            while (trigger := self._due()) is not None:
                yield from carrying.carry_out(trigger, known)
            if time is not None:
                known.episodes.come(time)
                if told := self._learn():
                    yield [*told, carrying.checkpoint(known)]
        known.decided = known.window.judged
        known.settle()
        if known.window.trim():
            yield [carrying.checkpoint(known)]
        if known.weighing.due:
            yield from self._referee()

    def _referee(self) -> Iterator[Sequence[Outgoing]]:
        """What the labels decide, at the pace of the checkpoints."""
        known, composing = self._known, self._carrying.composing
        at, before = max(known.window.frontier, 0), known.announced.pool
        yield composing.checkpoint(known)
        steps = [*self._refereeing.verdicts(known), composing.seat_waiting(known, at)]
        if known.announced.pool is not before:
            yield from steps
            yield [self._carrying.checkpoint(known)]

    def _learn(self) -> list[Outgoing]:
        """Which rows are bad data by now, and what is told of it."""
        state = self._known.state
        told = quarantining.learn(state, self._known.episodes, self._saying)
        self._known.window.quarantined = tuple(state.quarantines.values())
        return told

    # --- wishes -------------------------------------------------------------------------------

    def _answers(self, asked: Sequence[Wish]) -> list[Outgoing]:
        return [said for wish in asked if wish.id not in self._known.state.done for said in self._wish(wish)]

    def _wish(self, wish: Wish) -> Iterator[Outgoing]:
        """Keep a wish to retrain; carry out all others."""
        known, trigger = self._known, wished(wish.id, self._known.window.frontier)
        if wish.kind == "retrain":
            known.state.wishes.setdefault(wish.id, trigger.ready)
        elif wish.kind == "release":
            yield quarantining.release(wish, trigger.ready, known.state, known.episodes, self._saying)
        else:
            yield from self._wishing.fulfil(wish, known)

    # --- what is due --------------------------------------------------------------------------

    def _due(self) -> Trigger | None:
        """The earliest trigger whose turn has come, behind the frontier: never one that a slow partition could beat."""
        fits, frontier = self._known.state.fits, self._known.window.frontier
        self._known.grow()
        turns = [(self._budget.due(each, fits), each.cause.id, each) for each in self._triggers()]
        due = [turn for turn in turns if turn[0] <= frontier]
        return min(due, key=lambda turn: turn[:2])[2] if due else None

    def _triggers(self) -> Iterator[Trigger]:
        return self._turns.triggers(self._known.state, self._known.window, self._known.episodes.opened.values())

    def _resting(self) -> list[Outgoing]:
        """Say once of each trigger that it is ready and rests after the fit before."""
        said: list[Outgoing] = []
        state, frontier = self._known.state, self._known.window.frontier
        for trigger in self._triggers():
            due = self._budget.due(trigger, state.fits)
            if trigger.ready <= frontier < due and trigger.cause.id not in state.told:
                state.told.add(trigger.cause.id)
                reason = f"the cool-down after the last fit ends at {moment(due).isoformat()}"
                said.append(self._saying.decision(trigger, "suppressed", "postponed", reason, trigger.ready))
        return said

    def _held_up(self) -> list[Outgoing]:
        """Say once of each trigger that bad data alone keeps it from its fit."""
        state, window = self._known.state, self._known.window
        waiting = self._turns.held_up(state, window, self._known.episodes.opened.values())
        return [said for each in waiting for said in quarantining.held_up(each, state, window, self._saying)]


def _announced(log: LogReader, keys: Keys) -> Announced:
    announced = Announced(keys)
    for message in log.read(MODELS, log.begin(MODELS), log.end(MODELS)):
        announced.take(message)
    return announced


def _budget(spec: Pipeline) -> Budget:
    fits = spec.training.fits
    if fits.per_ms is None:
        raise WrongSetup("training.fits of pipeline.yaml: a budget per rows is not supported yet; write `24 per 1d`")
    return Budget(spec.training.cooldown, fits.count, fits.per_ms)
