"""The controller: one instance leads, reads everything whole, decides when to fit, and announces what may serve.

Safe under a kill at any point: the same log makes the same trigger, the same rows, the same version and the same model
digest again; an artefact is written once; a trigger whose member is on `models` is done.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from runtime.errors import Transient
from runtime.metrics import Metrics
from runtime.ports import LogReader, Outgoing, Place, Polled
from runtime.stage import decode
from runtime.store import Store
from schemas.cloudevents import Form
from schemas.messages import Wish
from schemas.pipeline import Pipeline
from services.training import quarantining
from services.training.carrying import Carrying
from services.training.datasets import MEMORY
from services.training.domain.pool import doubt
from services.training.domain.triggers import State
from services.training.domain.turns import wished
from services.training.due import Due, budget_of
from services.training.fits import Fits
from services.training.knowledge import Knowledge, announced
from services.training.reading import checkpoint, wishes
from services.training.refereeing import Refereeing
from services.training.saying import Saying
from services.training.segments import Segments
from services.training.wishing import Wishing

logger = logging.getLogger("headrace.training")

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
        fits: Makes fits; None: at once, in the loop that handles messages.

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
        fits: Fits | None = None,
    ) -> None:
        self._spec, self._store, self._metrics, self._memory = spec, store, metrics or Metrics(), memory
        budget, self._saying = budget_of(spec), Saying(spec.pipeline, form, store.keys)
        self._due = Due(spec, budget, self._saying)
        self._carrying = Carrying(spec, store, budget, self._saying, self._metrics, trusted, fits)
        composing = self._carrying.composing
        self._wishing, self._refereeing = Wishing(composing, self._saying), Refereeing(composing, self._saying)
        self._known = self._nothing()

    # --- taking and losing the lead -----------------------------------------------------------

    def restore(self, place: Place, log: LogReader) -> list[Outgoing]:
        """Take the lead: read the own checkpoint and write it with a higher epoch at once."""
        if place != SEAT:
            return []
        self._known = self._nothing(state := checkpoint(log))
        said = announced(log, self._store.keys)
        state.epoch = max(state.epoch, said.epoch) + 1
        if doubt(state, said.pool, said.members):
            logger.warning("pool_not_believed", extra={"pool": state.lost})
        return [self._saying.checkpoint(state)]

    def follow(self, log: LogReader) -> Mapping[Place, int]:
        """Read what was announced and which episodes there were; rows are read again from where the window began."""
        partitions = log.partitions(EXAMPLES)
        segments, keys = self._segments(log), self._store.keys
        self._known = Knowledge(self._spec, segments, self._known.state, partitions, self._memory, keys, self._metrics)
        positions = self._known.read(log)
        self._metrics.lost.inc(self._known.lost)
        self._carrying.prepare()
        return positions

    def forget(self, place: Place) -> None:
        """Let go of everything with the seat."""
        if place == SEAT:
            self._carrying.drop()
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

    def resume(self) -> Iterator[Sequence[Outgoing]]:
        """What follows from a fit that was done without a message; lists as those of `handle`."""
        if self._carrying.under_way is None:
            return
        self._known.hear_judge()
        try:
            yield from self._decisions((), set(self._known.state.wishes))
        except Transient as error:
            logger.warning("fit_waits", extra={"error": str(error)})

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
        yield from self._news(asked, open_before)
        yield from carrying.go_on(known)
        known.window.until = None
        yield from self._through_time()
        if carrying.under_way is not None:
            if known.weighing.due:
                yield carrying.composing.checkpoint(known)
            return
        known.decided = known.window.judged
        known.settle()
        if known.window.trim():
            yield [carrying.checkpoint(known)]
        if known.weighing.due:
            yield from self._referee()

    def _news(self, asked: Sequence[Wish], open_before: set[str]) -> Iterator[Sequence[Outgoing]]:
        """What is told whether or not a fit is under way; a wish that has to wait for it lies in a checkpoint."""
        known, under_way = self._known, self._carrying.under_way is not None
        news = [*self._learn(), *self._answers(asked)]
        outgoing = news if under_way else [*news, *self._due.waiting(known)]
        kept = news or set(known.state.wishes) - open_before
        if outgoing or (kept and under_way):
            yield [*outgoing, self._carrying.checkpoint(known)] if kept else outgoing

    def _through_time(self) -> Iterator[Sequence[Outgoing]]:
        """Carry out what is due, until a fit has to be waited for."""
        known, carrying = self._known, self._carrying
        for time in (*known.episodes.times(known.window.frontier), None):
            if carrying.under_way is None:
                known.window.until = time
            while carrying.under_way is None and (trigger := self._due.next(known)) is not None:
                yield from carrying.carry_out(trigger, known)
            if time is not None and carrying.under_way is None:
                known.episodes.come(time)
                if told := self._learn():
                    yield [*told, carrying.checkpoint(known)]

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
