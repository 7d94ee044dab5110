"""The controller: one instance leads, reads everything whole, decides when to fit, and announces what may serve.

Safe under a kill at any point: the same log makes the same trigger, the same rows, the same version and the same model
digest again; an artefact is written once; a trigger whose member is on `models` is done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa

from runtime.announced import Announced
from runtime.errors import Transient, WrongSetup
from runtime.fold import passed
from runtime.metrics import Metrics
from runtime.ports import LogReader, Message, Outgoing, Place, Polled
from runtime.stage import Decoded, decode
from runtime.store import Store
from schemas.cloudevents import Form
from schemas.messages import Member, Pool, Scalar, Wish, moment
from schemas.pipeline import Pipeline
from schemas.task import Target
from services.training import quarantining
from services.training.domain.announcements import Candidate, pool_of
from services.training.domain.estimators import Refused
from services.training.domain.fitting import Fit, scarce
from services.training.domain.rows import KEPT
from services.training.domain.triggers import Budget, Retry, State, Trigger
from services.training.domain.turns import Turns, wished
from services.training.domain.window import Window
from services.training.fitter import Fitter
from services.training.reading import Episodes, Judgement, checkpoint, passed_before, wishes
from services.training.saying import Saying

log = logging.getLogger("headrace.training")

SEAT, MODELS = Place("operator", 0), Place("models", 0)
LEAST_ROWS = 50
"""Rows that an operator's fit needs, so that its check means anything."""

Steps = list[list[Outgoing]]


class Training:
    """Decides on fits, fits, checks, stores and announces.

    Args:
        spec: The pipeline.
        store: Where artefacts go.
        metrics: Where counts go.
        form: How its CloudEvents are laid into Kafka messages.
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
        trusted: Sequence[str] = (),
    ) -> None:
        self._spec, self._metrics = spec, metrics or Metrics()
        self._fitter, self._budget, self._saying = (
            Fitter(spec, store, trusted),
            _budget(spec),
            Saying(spec.pipeline, form),
        )
        self._turns = Turns(f"{spec.pipeline}/first", spec.training.min_rows, spec.drift.settle)
        self._state = State()
        self._clear(0)

    def _clear(self, partitions: int) -> None:
        training, drift = self._spec.training, self._spec.drift
        self._window = Window(tuple(self._spec.features), partitions, training.window, drift.lateness)
        self._announced, self._episodes, self._judgement = Announced(), Episodes(), Judgement()
        self._decided: int | None = None

    # --- taking and losing the lead -----------------------------------------------------------

    def restore(self, place: Place, log: LogReader) -> list[Outgoing]:
        """Take the lead: read the own checkpoint and write it with a higher epoch at once."""
        if place != SEAT:
            return []
        self._state = checkpoint(log)
        self._state.epoch = max(self._state.epoch, _announced(log).epoch) + 1
        return [self._saying.checkpoint(self._state)]

    def follow(self, log: LogReader) -> Mapping[Place, int]:
        """Read what was announced and which episodes there were; rows are read again from where the window began."""
        self._clear(log.partitions("examples"))
        positions = {}
        for place, fold in self._folds().items():
            positions[place] = log.end(place)
            for message in log.read(place, log.begin(place), positions[place]):
                fold(message)
        self._hear_judge()
        for partition in self._window.next:
            place = Place("examples", partition)
            start = max(self._state.begins.get(partition, 0), log.begin(place))
            self._window.begin(partition, start, passed_before(log, place, start))
            positions[place] = start
        return positions

    def _folds(self) -> dict[Place, Callable[[Message], object]]:
        """What is read whole, and what becomes of it."""
        return {
            MODELS: self._announced.take,
            Place("drift", 0): self._episodes.take,
            Place("state", 0): self._judgement.take,
        }

    def forget(self, place: Place) -> None:
        """Let go of everything with the seat."""
        if place == SEAT:
            self._state = State()
            self._clear(0)

    def tick(self, now: int) -> Sequence[Outgoing]:  # noqa: ARG002 - everything here runs on event time
        """Nothing happens by the mere passing of time."""
        return ()

    # --- messages -----------------------------------------------------------------------------

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """Fold what came, then do what is due.

        The store being away is transient before the first word. Later, what is due waits for the next messages, and
        an open wish lies in a checkpoint: its message will be committed.
        """
        open_before = set(self._state.wishes)
        asked = self._fold(polled)
        if self._decided == self._window.judged and {run.topic for run in polled} == {"state"}:
            return  # checkpoints, the own ones among them
        said = False
        try:
            for outgoing in self._decisions(asked, open_before):
                said = True
                yield outgoing
        except Transient:
            if not said:
                raise

    def _decisions(self, asked: Sequence[Wish], open_before: set[str]) -> Iterator[Sequence[Outgoing]]:
        """Event by event: what is due before an episode is decided without it, however early that was read."""
        news = [*self._learn(), *self._answers(asked)]
        if outgoing := [*self._repair(), *news, *self._resting(), *self._held_up()]:
            yield [*outgoing, self._checkpoint()] if news or set(self._state.wishes) - open_before else outgoing
        for time in (*self._episodes.times(self._window.frontier), None):
            self._window.until = time
            while (trigger := self._due()) is not None:
                yield from self._carry_out(trigger)
            if time is not None:
                self._episodes.come(time)
                if told := self._learn():
                    yield [*told, self._checkpoint()]
        self._decided = self._window.judged
        if self._window.trim():
            yield [self._checkpoint()]

    def _learn(self) -> list[Outgoing]:
        """Which rows are bad data by now, and what is told of it."""
        told = quarantining.learn(self._state, self._episodes, self._saying)
        self._window.quarantined = tuple(self._state.quarantines.values())
        return told

    def _fold(self, polled: Sequence[Polled]) -> list[Wish]:
        """Take what came; the wishes in it. The same messages twice change nothing: a transient error repeats them."""
        asked = [wish for run in polled if run.topic == SEAT.topic for wish in wishes(run)]
        batches = [(run.partition, decode(run)) for run in polled if run.topic == "examples"]
        for place, fold in self._folds().items():
            for message in (message for run in polled if run.topic == place.topic for message in run.messages):
                fold(message)
        self._hear_judge()
        for partition, decoded in batches:
            for each in decoded:
                self._take_rows(partition, each)
        return asked

    def _hear_judge(self) -> None:
        """Before a judge has spoken nobody knows how far it is: what it says counts at once."""
        self._window.judged, self._window.until = self._judgement.settle(self._episodes), None
        if self._window.judged is None:
            self._episodes.come(None)

    def _take_rows(self, partition: int, message: Decoded) -> None:
        needed = {*KEPT, *self._spec.features}
        if missing := sorted(needed - set(message.batch.schema.names)):  # another definition of the pipeline wrote it
            log.warning("examples_ignored", extra={"offset": message.offset, "missing": missing})
            return
        rows = self._window.add(partition, message.offset, message.batch, passed(message.headers.through))
        self._metrics.rows.labels("examples").inc(rows)

    def _answers(self, asked: Sequence[Wish]) -> list[Outgoing]:
        return [said for wish in asked if wish.id not in self._state.done for said in self._wish(wish)]

    def _wish(self, wish: Wish) -> Iterator[Outgoing]:
        """Keep a wish to retrain, carry out a release; everything else that one may wish one day is refused."""
        trigger = wished(wish.id, self._window.frontier)
        if wish.kind == "retrain":
            self._state.wishes.setdefault(wish.id, trigger.ready)
        elif wish.kind == "release":
            yield quarantining.release(wish, trigger.ready, self._state, self._episodes, self._saying)
        else:
            reason = f"{wish.kind} is not supported yet; wish retrain or release, or wait for a later version"
            yield self._saying.decision(trigger, "refused", "nothing changes", reason, trigger.ready)
            self._finish(trigger, "refused")

    # --- what is due --------------------------------------------------------------------------

    def _due(self) -> Trigger | None:
        """The earliest trigger whose turn has come, behind the frontier: never one that a slow partition could beat."""
        turns = [(self._budget.due(each, self._state.fits), each.cause.id, each) for each in self._triggers()]
        due = [turn for turn in turns if turn[0] <= self._window.frontier]
        return min(due, key=lambda turn: turn[:2])[2] if due else None

    def _triggers(self) -> Iterator[Trigger]:
        return self._turns.triggers(self._state, self._window, self._episodes.opened.values())

    def _resting(self) -> list[Outgoing]:
        """Say once of each trigger that it is ready and rests after the fit before."""
        said: list[Outgoing] = []
        for trigger in self._triggers():
            due = self._budget.due(trigger, self._state.fits)
            if trigger.ready <= self._window.frontier < due and trigger.cause.id not in self._state.told:
                self._state.told.add(trigger.cause.id)
                reason = f"the cool-down after the last fit ends at {moment(due).isoformat()}"
                said.append(self._saying.decision(trigger, "suppressed", "postponed", reason, trigger.ready))
        return said

    def _held_up(self) -> list[Outgoing]:
        """Say once of each trigger that bad data alone keeps it from its fit."""
        waiting = self._turns.held_up(self._state, self._window, self._episodes.opened.values())
        return [
            said for each in waiting for said in quarantining.held_up(each, self._state, self._window, self._saying)
        ]

    # --- carrying out -------------------------------------------------------------------------

    def _carry_out(self, trigger: Trigger) -> Steps:
        """Everything that a trigger leads to; the checkpoint comes last."""
        at = self._budget.due(trigger, self._state.fits)
        steps = [] if self._answered(trigger, at) else self._decide(trigger, at)
        return [*steps, [self._checkpoint()]]

    def _answered(self, trigger: Trigger, at: int) -> bool:
        """Whether a crash came between the announcement and the checkpoint that says so."""
        if trigger.cause.id in {member.cause.id for member in self._announced.members.values()}:
            self._finish(trigger, "announced", at)
        elif trigger.cause.kind == "first" and self._announced.members:
            self._finish(trigger, "not needed")
        return trigger.cause.id in self._state.done

    def _decide(self, trigger: Trigger, at: int) -> Steps:
        if self._budget.spent(at, self._state.fits):
            self._finish(trigger, "suppressed")
            reason = f"{self._budget.count} fits within {self._budget.stretch} ms of event time are all that is allowed"
            return [[self._saying.decision(trigger, "suppressed", "no fit", reason, at)]]
        rows = self._window.dataset(at, trigger.since)
        if rows is None or (why := _unusable(rows, LEAST_ROWS if trigger.urgent else 1, self._spec.target)):
            return [[self._wait(trigger, "no labelled rows yet" if rows is None else why, at)]]
        begun = [] if not trigger.story else [self._begin(trigger, rows, at)]
        return [*begun, *self._fit(trigger, rows, at)]

    def _begin(self, trigger: Trigger, rows: pa.RecordBatch, at: int) -> list[Outgoing]:
        outcome = f"an early fit on {rows.num_rows} rows, the window as labelled so far"
        return [self._saying.decision(trigger, "triggered", outcome, trigger.story, at)]

    def _fit(self, trigger: Trigger, rows: pa.RecordBatch, at: int) -> Steps:
        version = max(self._announced.members, default=0) + 1
        try:
            made = self._fitter.fit(trigger.cause.id, rows, at, version, self._announced)
        except Refused as error:
            return [[self._reject(trigger, str(error), {}, at)]]
        if not made.verdict.accepted:
            return [[self._reject(trigger, made.verdict.reason, made.verdict.metrics, at)]]
        # All of them: rows that the window has forgotten because they were bad lie between the positions, too.
        positions, bad = (
            self._window.positions(rows, at),
            tuple(sorted(self._window.quarantined, key=lambda q: q.start)),
        )
        candidate = Candidate(version, trigger.cause, at, rows, positions, made, bad)
        member = self._fitter.store(candidate, self._state.epoch)
        pool = self._compose(member, at)
        self._finish(trigger, "announced", at)
        self._announced.members[version], self._announced.pool = member, pool
        self._metrics.fits.labels("accepted").inc()
        return self._announce(trigger, made, member, pool, at)

    def _compose(self, member: Member, at: int) -> Pool:
        version = (0 if self._announced.pool is None else self._announced.pool.version) + 1
        return pool_of(member, version, at, self._spec.drift.pane, self._state.epoch)

    def _announce(self, trigger: Trigger, made: Fit, member: Member, pool: Pool, at: int) -> Steps:
        evidence: dict[str, Scalar] = {**made.verdict.metrics, "rows": member.rows, "version": member.version}
        if left_out := self._window.left_out(at, trigger.since):
            evidence |= {"left_out": left_out, quarantining.EPISODE: quarantining.culprit(self._state, self._window)}
        fitted = self._saying.decision(trigger, "fitted", f"member {member.version}", made.verdict.reason, at, evidence)
        reason = f"member {member.version} was stored at {member.uri} and answers from pool {pool.version} on"
        evidence = {"digest": member.digest, "version": member.version, "pool": pool.version}
        told = self._saying.decision(trigger, "announced", f"pool {pool.version}", reason, at, evidence)
        return [[fitted], [self._saying.announcement(said, at) for said in (member, pool)], [told]]

    def _repair(self) -> list[Outgoing]:
        """A crash between member and pool left a member alone: it takes its place now."""
        newest, pool = self._announced.newest, self._announced.pool
        if newest is None or (pool is not None and newest.version in pool.members):
            return []
        at = max(self._window.frontier, 0)
        self._announced.pool = self._compose(newest, at)
        return [self._saying.announcement(self._announced.pool, at)]

    # --- what becomes of a trigger ------------------------------------------------------------

    def _reject(self, trigger: Trigger, reason: str, metrics: Mapping[str, float], at: int) -> Outgoing:
        self._metrics.fits.labels("rejected").inc()
        outcome = "the pool stays as it is"
        if trigger.cause.kind == "first":  # nothing serves yet, so the next rows get their chance
            self._again(trigger)
            self._fitted(at)
            outcome = "no model yet"
        else:
            self._finish(trigger, "rejected", at)
        return self._saying.decision(trigger, "rejected", outcome, reason, at, metrics)

    def _wait(self, trigger: Trigger, why: str, at: int) -> Outgoing:
        if trigger.urgent:
            self._finish(trigger, "suppressed")
            return self._saying.decision(trigger, "suppressed", "no fit", f"{why}; wish again later", at)
        outcome = f"again after {self._again(trigger)} more labelled rows"
        return self._saying.decision(trigger, "suppressed", outcome, why, at)

    def _again(self, trigger: Trigger) -> int:
        """Let a trigger wait for more rows: half the minimum of a first fit. How many that is."""
        rows = max(1, self._spec.training.min_rows // 2)
        self._state.retries[trigger.cause.id] = Retry(trigger.ready, rows)
        return rows

    def _finish(self, trigger: Trigger, outcome: str, fitted_at: int | None = None) -> None:
        self._state.done[trigger.cause.id] = outcome
        self._state.retries.pop(trigger.cause.id, None)
        self._state.told -= {trigger.cause.id, quarantining.mark(trigger)}
        self._state.wishes.pop(trigger.cause.id, None)
        if fitted_at is not None:
            self._fitted(fitted_at)

    def _fitted(self, at: int) -> None:
        self._state.fits = sorted([*self._budget.recent(at, self._state.fits), at])

    def _checkpoint(self) -> Outgoing:
        self._state.begins = self._window.begins()
        return self._saying.checkpoint(self._state)


def _announced(log: LogReader) -> Announced:
    announced = Announced()
    for message in log.read(MODELS, log.begin(MODELS), log.end(MODELS)):
        announced.take(message)
    return announced


def _budget(spec: Pipeline) -> Budget:
    fits = spec.training.fits
    if fits.per_ms is None:
        raise WrongSetup("training.fits of pipeline.yaml: a budget per rows is not supported yet; write `24 per 1d`")
    return Budget(spec.training.cooldown, fits.count, fits.per_ms)


def _unusable(rows: pa.RecordBatch, least: int, target: Target) -> str:
    if rows.num_rows < least:
        return f"only {rows.num_rows} labelled rows; {least} are needed"
    return scarce(rows, target)
