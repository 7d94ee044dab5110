"""The controller: one instance leads, reads everything whole, decides when to fit, and announces what may serve.

Safe under a kill at any point: the same log makes the same trigger, the same rows, the same version and the same model
digest again; an artefact is written once; a trigger whose member is on `models` is done.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import pyarrow as pa

from runtime.announced import Announced
from runtime.errors import InvalidMessage, Transient, WrongSetup
from runtime.fold import watermark
from runtime.metrics import Metrics
from runtime.model import Model, ModelRefused, fetch, libraries, save
from runtime.ports import LogReader, Message, Outgoing, Place, Polled
from runtime.stage import decode
from runtime.store import Store
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Cause, Decision, DriftEpisode, Member, Pool, Scalar, Step, Wish, moment
from schemas.pipeline import Pipeline
from services.training.domain.announcements import Candidate, directory, manifest_of, member_of, pool_of
from services.training.domain.estimators import Recipe, Refused
from services.training.domain.fitting import Fit, fit, scarce, seed_of
from services.training.domain.rows import KEPT
from services.training.domain.triggers import Budget, Retry, State, Trigger
from services.training.domain.window import Window

log = logging.getLogger("headrace.training")

SERVICE = "training"
KEY = b"training/controller"
SEAT = Place("operator", 0)
LEAST_ROWS = 50
"""Rows that an operator's fit needs, so that its check means anything."""


class Training:
    """Decides on fits, fits, checks, stores and announces.

    Args:
        spec: The pipeline.
        store: Where artefacts go.
        metrics: Where counts go.

    Raises:
        WrongSetup: The estimator does not take the parameters, or the budget is of a kind that is not supported yet.
    """

    inputs = (SEAT.topic,)
    follows = ("examples", "drift", "models")
    leads = True

    def __init__(self, spec: Pipeline, store: Store, metrics: Metrics | None = None) -> None:
        self._spec, self._store, self._metrics = spec, store, metrics or Metrics()
        self._recipe, self._budget = _recipe(spec), _budget(spec)
        self._source = cloudevents.source_of(spec.pipeline, SERVICE)
        self._state = State()
        self._window = self._new_window(0)
        self._announced = Announced()
        self._episodes: dict[str, DriftEpisode] = {}
        self._wishes: dict[str, Wish] = {}
        self._drift_epoch = 0
        self._fitted: tuple[tuple[str, int], Fit] | None = None
        self._ruling: Model | None = None

    # --- taking and losing the lead -----------------------------------------------------------

    def restore(self, place: Place, log: LogReader) -> list[Outgoing]:
        """Take the lead: read the own checkpoint and write it with a higher epoch at once."""
        if place != SEAT:
            return []
        self._state = _checkpoint(log)
        self._state.epoch += 1
        return [self._save_state()]

    def follow(self, log: LogReader) -> Mapping[Place, int]:
        """Read what was announced and which episodes there were; rows are read again from where the window began."""
        self._announced, self._episodes, self._wishes = Announced(), {}, {}
        self._drift_epoch, self._fitted, self._ruling = 0, None, None
        self._window = self._new_window(log.partitions("examples"))
        positions = {}
        for place, fold in ((Place("models", 0), self._announced.take), (Place("drift", 0), self._take_episode)):
            positions[place] = log.end(place)
            for message in log.read(place, log.begin(place), positions[place]):
                fold(message)
        for partition in self._window.next:
            place = Place("examples", partition)
            start = max(self._state.begins.get(partition, 0), log.begin(place))
            self._window.begin(partition, start, _watermark_before(log, place, start))
            positions[place] = start
        return positions

    def forget(self, place: Place) -> None:
        """Let go of everything with the seat."""
        if place == SEAT:
            self._state, self._window = State(), self._new_window(0)
            self._announced, self._episodes, self._wishes = Announced(), {}, {}

    def tick(self, now: int) -> Sequence[Outgoing]:  # noqa: ARG002 - everything here runs on event time
        """Nothing happens by the mere passing of time."""
        return ()

    # --- messages -----------------------------------------------------------------------------

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """Fold what came, then do what is due; the store being away before the first decision is transient."""
        self._fold(polled)
        yield from self._repair()
        if refused := self._refused_wishes():
            yield refused
        said = False
        while (trigger := self._due()) is not None:
            try:
                outgoing = self._carry_out(trigger)
            except Transient:
                if not said:
                    raise
                return  # still due: the next messages bring it up again
            said = True
            yield from outgoing
        if resting := self._resting():
            yield resting
        if self._window.trim():
            yield [self._save_state()]

    def _fold(self, polled: Sequence[Polled]) -> None:
        """Taking the same messages twice changes nothing: a transient error repeats them."""
        wished = [wish for run in polled if run.topic == SEAT.topic for wish in _wishes(run)]
        batches = [(run.partition, decode(run)) for run in polled if run.topic == "examples"]
        for run in polled:
            fold = {"models": self._announced.take, "drift": self._take_episode}.get(run.topic)
            for message in run.messages if fold is not None else ():
                fold(message)  # type: ignore[misc]  # not None: the line above
        for partition, messages in batches:
            for message in messages:
                self._take_rows(partition, message.offset, message.batch, message.headers)
        self._wishes.update({wish.id: wish for wish in wished if wish.id not in self._state.done})

    def _take_rows(self, partition: int, offset: int, batch: pa.RecordBatch, headers: b.Headers) -> None:
        needed = {*KEPT, *self._spec.features}
        if not needed <= set(batch.schema.names):  # another definition of the pipeline wrote it
            missing = sorted(needed - set(batch.schema.names))
            log.warning("examples_ignored", extra={"partition": partition, "offset": offset, "missing": missing})
            return
        rows = self._window.add(partition, offset, batch, _watermark(headers))
        self._metrics.rows.labels("examples").inc(rows)

    def _take_episode(self, message: Message) -> None:
        try:
            episode = cloudevents.decode(message.value or b"", message.headers).read(DriftEpisode)
        except cloudevents.EnvelopeError as error:
            log.warning("episode_ignored", extra={"offset": message.offset, "error": str(error)})
            return
        if episode.epoch < self._drift_epoch:
            return
        self._drift_epoch = episode.epoch
        if episode.kind == "concept" and episode.state == "opened":
            self._episodes.setdefault(episode.id, episode)

    def _refused_wishes(self) -> list[Outgoing]:
        """What an operator may wish one day."""
        said = []
        for wish in [wish for wish in self._wishes.values() if wish.kind != "retrain"]:
            trigger = Trigger(Cause(kind="operator", id=wish.id), max(self._window.frontier, 0), urgent=True)
            reason = f"{wish.kind} is not supported yet; wish retrain, or wait for a later version"
            said.append(self._decision(trigger, "refused", "nothing changes", reason, trigger.ready))
            self._finish(trigger, "refused")
        return said

    # --- what is due --------------------------------------------------------------------------

    def _due(self) -> Trigger | None:
        """The earliest trigger whose turn has come, behind the frontier: never one that a slow partition could beat."""
        turns = [(self._budget.due(each, self._state.fits), each.cause.id, each) for each in self._triggers()]
        due = [turn for turn in turns if turn[0] <= self._window.frontier]
        return min(due, key=lambda turn: turn[:2])[2] if due else None

    def _triggers(self) -> Iterator[Trigger]:
        for wish in self._wishes.values():
            yield Trigger(Cause(kind="operator", id=wish.id), self._window.frontier, urgent=True)
        cause = Cause(kind="first", id=f"{self._spec.pipeline}/first")
        if cause.id not in self._state.done:
            yield from self._waiting(cause, self._spec.training.min_rows)
        for episode in self._episodes.values():
            if episode.id not in self._state.done:
                start, known = (_milliseconds(time) for time in (episode.estimated_start, episode.detected_at))
                cause = Cause(kind="drift", id=episode.id)
                yield from self._waiting(cause, self._spec.drift.settle, start, known)

    def _waiting(self, cause: Cause, rows: int, since: int | None = None, known: int | None = None) -> Iterator[Trigger]:
        retry = self._state.retries.get(cause.id)
        begin = {} if since is None else {"since": since}
        after = {} if retry is None else {"after": retry.after}
        ready = self._window.ready(rows if retry is None else retry.rows, **begin, **after)
        if ready is not None:
            yield Trigger(cause, ready if known is None else max(ready, known), **begin)

    def _resting(self) -> list[Outgoing]:
        """Say once of each trigger that it is ready and rests after the fit before."""
        said: list[Outgoing] = []
        for trigger in self._triggers():
            due = self._budget.due(trigger, self._state.fits)
            if trigger.ready <= self._window.frontier < due and trigger.cause.id not in self._state.told:
                self._state.told.add(trigger.cause.id)
                until = f"the cool-down after the last fit ends at {moment(due).isoformat()}"
                said.append(self._decision(trigger, "suppressed", "postponed", until, trigger.ready))
        return said

    # --- carrying out -------------------------------------------------------------------------

    def _carry_out(self, trigger: Trigger) -> list[list[Outgoing]]:
        """Everything that a trigger leads to; the checkpoint comes last."""
        at = self._budget.due(trigger, self._state.fits)
        if (answered := self._answered(trigger)) is not None:
            self._finish(trigger, answered, at if answered == "announced" else None)
            return [[self._save_state()]]
        if self._budget.spent(at, self._state.fits):
            self._finish(trigger, "suppressed")
            reason = f"{self._budget.count} fits within {self._budget.stretch} ms of event time are all that is allowed"
            return [[self._decision(trigger, "suppressed", "no fit", reason, at)], [self._save_state()]]
        rows = self._window.dataset(at, trigger.since)
        if why := _unusable(rows, LEAST_ROWS if trigger.urgent else 1):
            return [[self._wait(trigger, why, at)], [self._save_state()]]
        assert rows is not None  # noqa: S101 - unusable otherwise
        return [*self._fit(trigger, rows, at), [self._save_state()]]

    def _answered(self, trigger: Trigger) -> str | None:
        """What became of a trigger according to `models`: a crash came before the checkpoint that says so."""
        if trigger.cause.id in {member.cause.id for member in self._announced.members.values()}:
            return "announced"
        return "not needed" if trigger.cause.kind == "first" and self._announced.members else None

    def _fit(self, trigger: Trigger, rows: pa.RecordBatch, at: int) -> list[list[Outgoing]]:
        version = max(self._announced.members, default=0) + 1
        try:
            made = self._made(trigger, rows, at, version)
        except Refused as error:
            return [[self._reject(trigger, str(error), {}, at)]]
        if not made.verdict.accepted:
            return [[self._reject(trigger, made.verdict.reason, made.verdict.metrics, at)]]
        positions = self._window.positions(rows, at)
        candidate = Candidate(version, trigger.cause, at, rows, positions, made)
        member = self._store_artefact(candidate)
        pool = self._compose(member, at)
        self._finish(trigger, "announced", at)
        self._announced.members[version], self._announced.pool = member, pool
        return self._announcements(trigger, made, member, pool, at)

    def _made(self, trigger: Trigger, rows: pa.RecordBatch, at: int, version: int) -> Fit:
        """The fit; kept, so that a store that is away does not make it again at every attempt."""
        key = (trigger.cause.id, at)
        if self._fitted is None or self._fitted[0] != key:
            ruling = self._in_service()
            answer = None if ruling is None else ruling.score
            seed = seed_of(self._spec.pipeline, version)
            made = fit(self._recipe, rows, self._spec.feature_types, seed, self._spec.model.metric, answer)
            self._fitted = key, made
        return self._fitted[1]

    def _in_service(self) -> Model | None:
        """The model that leads; None where there is none or its artefact is unusable (serving has said so then)."""
        pool = self._announced.pool
        member = None if pool is None else self._announced.members.get(pool.leader)
        if member is None:
            return None
        if self._ruling is None or self._ruling.version != member.version:
            try:
                self._ruling = fetch(self._store, member, self._spec.feature_types)
            except ModelRefused as error:
                log.warning("ruling_model_unusable", extra={"error": str(error)})
                return None
        return self._ruling

    def _store_artefact(self, candidate: Candidate) -> Member:
        """Store, then read back as serving will: what is announced is known to load and to answer the same."""
        manifest = manifest_of(self._spec, candidate, libraries())
        stored = save(
            self._store, directory(manifest), candidate.fit.classifier, candidate.fit.warm_up, manifest
        )
        member = member_of(stored, self._state.epoch)
        fetch(self._store, member, self._spec.feature_types)
        return member

    def _compose(self, member: Member, at: int) -> Pool:
        version = (0 if self._announced.pool is None else self._announced.pool.version) + 1
        return pool_of(member, version, at, self._spec.drift.pane, self._state.epoch)

    def _repair(self) -> Iterator[list[Outgoing]]:
        """A crash between member and pool left a member alone: it takes its place now."""
        newest, pool = self._announced.newest, self._announced.pool
        if newest is None or (pool is not None and newest.version in pool.members):
            return
        at = max(self._window.frontier, 0)
        self._announced.pool = self._compose(newest, at)
        yield [self._event(self._announced.pool, "models", self._announced.pool.key, at)]

    # --- saying -------------------------------------------------------------------------------

    def _announcements(
        self, trigger: Trigger, made: Fit, member: Member, pool: Pool, at: int
    ) -> list[list[Outgoing]]:
        evidence: dict[str, Scalar] = {**made.verdict.metrics, "rows": member.rows, "version": member.version}
        fitted = self._decision(trigger, "fitted", f"member {member.version}", made.verdict.reason, at, evidence)
        told = self._decision(
            trigger,
            "announced",
            f"pool {pool.version}",
            f"member {member.version} was stored at {member.uri} and answers from pool {pool.version} on",
            at,
            {"digest": member.digest, "version": member.version, "pool": pool.version},
        )
        models = [self._event(said, "models", said.key, at) for said in (member, pool)]
        self._metrics.fits.labels("accepted").inc()
        return [[fitted], models, [told]]

    def _reject(self, trigger: Trigger, reason: str, metrics: Mapping[str, float], at: int) -> Outgoing:
        self._metrics.fits.labels("rejected").inc()
        if trigger.cause.kind == "first":  # nothing serves yet, so the next rows get their chance
            self._state.retries[trigger.cause.id] = self._more(trigger)
            self._state.fits = [*self._budget.recent(at, self._state.fits), at]
        else:
            self._finish(trigger, "rejected", at)
        return self._decision(trigger, "rejected", "the pool stays as it is", reason, at, dict(metrics))

    def _wait(self, trigger: Trigger, why: str, at: int) -> Outgoing:
        """Nothing can be learnt from these rows: try again with more, half the minimum of a first fit."""
        if trigger.urgent:
            self._finish(trigger, "suppressed")
            return self._decision(trigger, "suppressed", "no fit", f"{why}; wish again later", at)
        retry = self._state.retries[trigger.cause.id] = self._more(trigger)
        outcome = f"again after {retry.rows} more labelled rows"
        return self._decision(trigger, "suppressed", outcome, why, at)

    def _more(self, trigger: Trigger) -> Retry:
        return Retry(trigger.ready, max(1, self._spec.training.min_rows // 2))

    def _finish(self, trigger: Trigger, outcome: str, fitted_at: int | None = None) -> None:
        self._state.done[trigger.cause.id] = outcome
        self._state.retries.pop(trigger.cause.id, None)
        self._state.told.discard(trigger.cause.id)
        self._wishes.pop(trigger.cause.id, None)
        if fitted_at is not None:
            self._state.fits = sorted([*self._budget.recent(fitted_at, self._state.fits), fitted_at])

    def _decision(
        self,
        trigger: Trigger,
        step: Step,
        outcome: str,
        reason: str,
        at: int,
        evidence: dict[str, Scalar] | None = None,
    ) -> Outgoing:
        log.info("decided", extra={"subject": trigger.cause.id, "step": step, "outcome": outcome, "reason": reason})
        decision = Decision(
            subject=trigger.cause.id,
            step=step,
            service=SERVICE,
            outcome=outcome,
            reason=reason,
            evidence={**(evidence or {}), "cause": trigger.cause.kind},
            time=moment(max(at, 0)),
        )
        return self._event(decision, "decisions", f"{decision.id}@{at}", at, key=decision.subject)

    def _event(
        self, said: Member | Pool | Decision, topic: str, name: str, at: int, *, key: str | None = None
    ) -> Outgoing:
        name = f"{name}/{said.version}" if isinstance(said, Pool) else name
        value, headers = cloudevents.encode(said, id=name, source=self._source, subject=key, time=moment(max(at, 0)))
        own = said.key if isinstance(said, (Member, Pool)) else key or name
        return Outgoing(topic, 0, value, own.encode(), headers)

    def _save_state(self) -> Outgoing:
        if self._window.next:
            self._state.begins = self._window.begins()
        return Outgoing("state", 0, msgspec.json.encode(self._state), KEY)

    def _new_window(self, partitions: int) -> Window:
        training, drift = self._spec.training, self._spec.drift
        return Window(tuple(self._spec.features), partitions, training.window, drift.lateness)


def _recipe(spec: Pipeline) -> Recipe:
    recipe = Recipe(spec.model.estimator, spec.model.params)
    try:
        recipe.check()
    except Refused as error:
        raise WrongSetup(f"model.params of pipeline.yaml: {error}; mend or remove the parameter") from error
    return recipe


def _budget(spec: Pipeline) -> Budget:
    fits = spec.training.fits
    if fits.per_ms is None:
        raise WrongSetup("training.fits of pipeline.yaml: a budget per rows is not supported yet; write `24 per 1d`")
    return Budget(spec.training.cooldown, fits.count, fits.per_ms)


def _checkpoint(log: LogReader) -> State:
    place, state = Place("state", 0), State()
    for message in log.read(place, log.begin(place), log.end(place)):
        if message.key == KEY and message.value:
            said = msgspec.json.decode(message.value, type=State)
            state = said if said.epoch >= state.epoch else state
    return state


def _watermark(headers: b.Headers) -> int | None:
    """Event time that events and labels of a partition have passed, None before both have spoken."""
    marks = {} if headers.through is None else headers.through.watermarks
    both = [watermark(marks.get(stream, {})) for stream in (b.EVENTS, b.LABELS)]
    known = [each for each in both if each is not None]
    return min(known) if len(known) == len(both) else None


def _watermark_before(log: LogReader, place: Place, offset: int) -> int | None:
    """The watermark of the last message before an offset; a few offsets may hold none."""
    found = None
    for message in log.read(place, max(log.begin(place), offset - 16), offset):
        found = _watermark(b.decode_headers(message.headers))
    return found


def _unusable(rows: pa.RecordBatch | None, least: int) -> str:
    count = 0 if rows is None else rows.num_rows
    if rows is None or count < least:
        return f"only {count} labelled rows; {least} are needed"
    return scarce(rows)


def _wishes(run: Polled) -> Iterator[Wish]:
    for message in run.messages:
        try:
            yield cloudevents.decode(message.value or b"", message.headers).read(Wish)
        except cloudevents.EnvelopeError as error:
            raise InvalidMessage(run.topic, run.partition, message.offset, "not_a_wish", str(error)) from error


def _milliseconds(time: object) -> int:
    return round(time.timestamp() * 1000)  # type: ignore[attr-defined]  # an aware datetime
