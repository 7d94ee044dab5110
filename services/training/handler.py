"""The controller: one instance leads, reads everything whole, decides when to fit, and announces what may serve.

Safe under a kill at any point: the same log makes the same trigger, the same rows, the same version and the same model
digest again; an artefact is written once; a trigger whose member is on `models` is done.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from runtime.announced import Announced
from runtime.errors import Transient, WrongSetup
from runtime.fold import passed
from runtime.metrics import Metrics
from runtime.ports import LogReader, Outgoing, Place, Polled
from runtime.stage import Decoded, decode
from runtime.store import Store
from schemas.cloudevents import Form
from schemas.messages import Cause, Member, Pool, Scalar, moment
from schemas.pipeline import Pipeline
from services.training.domain.announcements import Candidate, pool_of
from services.training.domain.estimators import Refused
from services.training.domain.fitting import Fit, scarce
from services.training.domain.rows import BEGINNING, KEPT
from services.training.domain.triggers import Budget, Retry, State, Trigger
from services.training.domain.window import Window
from services.training.fitter import Fitter
from services.training.reading import Episodes, checkpoint, passed_before, wishes
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

    Raises:
        WrongSetup: The estimator does not take the parameters, or the budget is of a kind that is not supported yet.
    """

    inputs = (SEAT.topic,)
    follows = ("examples", "drift", "models")
    leads = True

    def __init__(self, spec: Pipeline, store: Store, metrics: Metrics | None = None, form: Form = "structured") -> None:
        self._spec, self._metrics = spec, metrics or Metrics()
        self._fitter, self._budget, self._saying = Fitter(spec, store), _budget(spec), Saying(spec.pipeline, form)
        self._state = State()
        self._clear(0)

    def _clear(self, partitions: int) -> None:
        training, drift = self._spec.training, self._spec.drift
        self._window = Window(tuple(self._spec.features), partitions, training.window, drift.lateness)
        self._announced, self._episodes = Announced(), Episodes()

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
        for place, fold in ((MODELS, self._announced.take), (Place("drift", 0), self._episodes.take)):
            positions[place] = log.end(place)
            for message in log.read(place, log.begin(place), positions[place]):
                fold(message)
        for partition in self._window.next:
            place = Place("examples", partition)
            start = max(self._state.begins.get(partition, 0), log.begin(place))
            self._window.begin(partition, start, passed_before(log, place, start))
            positions[place] = start
        return positions

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
        refused = self._fold(polled)
        said = False
        if outgoing := [*self._repair(), *refused, *self._resting()]:
            said = True
            yield [*outgoing, self._checkpoint()] if set(self._state.wishes) - open_before else outgoing
        while (trigger := self._due()) is not None:
            try:
                steps = self._carry_out(trigger)
            except Transient:
                if not said:
                    raise
                return
            said = True
            yield from steps
        if self._window.trim():
            yield [self._checkpoint()]

    def _fold(self, polled: Sequence[Polled]) -> list[Outgoing]:
        """Taking the same messages twice changes nothing: a transient error repeats them."""
        wished = [wish for run in polled if run.topic == SEAT.topic for wish in wishes(run)]
        batches = [(run.partition, decode(run)) for run in polled if run.topic == "examples"]
        for topic, fold in (("models", self._announced.take), ("drift", self._episodes.take)):
            for message in (message for run in polled if run.topic == topic for message in run.messages):
                fold(message)
        for partition, decoded in batches:
            for each in decoded:
                self._take_rows(partition, each)
        return [said for wish in wished if wish.id not in self._state.done for said in self._wish(wish.id, wish.kind)]

    def _take_rows(self, partition: int, message: Decoded) -> None:
        needed = {*KEPT, *self._spec.features}
        if missing := sorted(needed - set(message.batch.schema.names)):  # another definition of the pipeline wrote it
            log.warning("examples_ignored", extra={"offset": message.offset, "missing": missing})
            return
        rows = self._window.add(partition, message.offset, message.batch, passed(message.headers.through))
        self._metrics.rows.labels("examples").inc(rows)

    def _wish(self, name: str, kind: str) -> Iterator[Outgoing]:
        """Keep a wish to retrain; everything else that an operator may wish one day is refused."""
        trigger = _wished(name, self._window.frontier)
        if kind == "retrain":
            self._state.wishes.setdefault(name, trigger.ready)
            return
        reason = f"{kind} is not supported yet; wish retrain, or wait for a later version"
        yield self._saying.decision(trigger, "refused", "nothing changes", reason, trigger.ready)
        self._finish(trigger, "refused")

    # --- what is due --------------------------------------------------------------------------

    def _due(self) -> Trigger | None:
        """The earliest trigger whose turn has come, behind the frontier: never one that a slow partition could beat."""
        turns = [(self._budget.due(each, self._state.fits), each.cause.id, each) for each in self._triggers()]
        due = [turn for turn in turns if turn[0] <= self._window.frontier]
        return min(due, key=lambda turn: turn[:2])[2] if due else None

    def _triggers(self) -> Iterator[Trigger]:
        yield from (_wished(name, at) for name, at in self._state.wishes.items())
        cause = Cause(kind="first", id=f"{self._spec.pipeline}/first")
        if cause.id not in self._state.done:
            yield from self._waiting(cause, self._spec.training.min_rows, BEGINNING, BEGINNING)
        for episode in self._episodes.opened.values():
            if episode.id not in self._state.done:
                start, known = (
                    round(time.timestamp() * 1000) for time in (episode.estimated_start, episode.detected_at)
                )
                yield from self._waiting(Cause(kind="drift", id=episode.id), self._spec.drift.settle, start, known)

    def _waiting(self, cause: Cause, rows: int, since: int, known: int) -> Iterator[Trigger]:
        """The trigger, if it has its rows."""
        retry = self._state.retries.get(cause.id, Retry(BEGINNING, rows))
        ready = self._window.ready(retry.rows, since, retry.after)
        if ready is not None:
            yield Trigger(cause, max(ready, known), since)

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
        if rows is None or (why := _unusable(rows, LEAST_ROWS if trigger.urgent else 1)):
            return [[self._wait(trigger, "no labelled rows yet" if rows is None else why, at)]]
        return self._fit(trigger, rows, at)

    def _fit(self, trigger: Trigger, rows: pa.RecordBatch, at: int) -> Steps:
        version = max(self._announced.members, default=0) + 1
        try:
            made = self._fitter.fit(trigger.cause.id, rows, at, version, self._announced)
        except Refused as error:
            return [[self._reject(trigger, str(error), {}, at)]]
        if not made.verdict.accepted:
            return [[self._reject(trigger, made.verdict.reason, made.verdict.metrics, at)]]
        positions = self._window.positions(rows, at)
        member = self._fitter.store(Candidate(version, trigger.cause, at, rows, positions, made), self._state.epoch)
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
        self._state.told.discard(trigger.cause.id)
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


def _wished(name: str, at: int) -> Trigger:
    return Trigger(Cause(kind="operator", id=name), at, urgent=True)


def _budget(spec: Pipeline) -> Budget:
    fits = spec.training.fits
    if fits.per_ms is None:
        raise WrongSetup("training.fits of pipeline.yaml: a budget per rows is not supported yet; write `24 per 1d`")
    return Budget(spec.training.cooldown, fits.count, fits.per_ms)


def _unusable(rows: pa.RecordBatch, least: int) -> str:
    if rows.num_rows < least:
        return f"only {rows.num_rows} labelled rows; {least} are needed"
    return scarce(rows)
