"""Carries triggers out: dataset, fit, check, announcement, and what is told of each step."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from runtime.metrics import Metrics
from runtime.ports import Outgoing
from runtime.store import Store
from schemas.messages import Member, Pool, Scalar
from schemas.pipeline import Pipeline
from services.training import quarantining
from services.training.domain.announcements import Candidate, pool_of
from services.training.domain.estimators import Refused
from services.training.domain.fitting import Fit, scarce
from services.training.domain.taking import Taken
from services.training.domain.triggers import Budget, Retry, Trigger
from services.training.fitter import Fitter
from services.training.knowledge import Knowledge
from services.training.saying import Saying

LEAST_ROWS = 50
"""Rows that an operator's fit needs, so that its check means anything."""

Steps = list[list[Outgoing]]


class Carrying:
    """Does what triggers want, once each.

    Args:
        spec: The pipeline.
        store: Where artefacts go.
        budget: How often fits may happen.
        saying: Makes the messages.
        metrics: Where fits are counted.

    Raises:
        WrongSetup: The estimator does not take the parameters.
    """

    def __init__(self, spec: Pipeline, store: Store, budget: Budget, saying: Saying, metrics: Metrics) -> None:
        self._spec, self._budget, self._saying, self._metrics = spec, budget, saying, metrics
        self._fitter = Fitter(spec, store)

    def carry_out(self, trigger: Trigger, known: Knowledge) -> Steps:
        """Everything that a trigger leads to; the checkpoint comes last."""
        at = self._budget.due(trigger, known.state.fits)
        steps = [] if self._answered(trigger, at, known) else self._decide(trigger, at, known)
        return [*steps, [self.checkpoint(known)]]

    def checkpoint(self, known: Knowledge) -> Outgoing:
        """What must not be forgotten, as of now."""
        known.state.begins, known.state.archived = known.window.begins(), dict(known.archive.next)
        return self._saying.checkpoint(known.state)

    def repair(self, known: Knowledge) -> list[Outgoing]:
        """A crash between member and pool left a member alone: it takes its place now."""
        newest, pool = known.announced.newest, known.announced.pool
        if newest is None or (pool is not None and newest.version in pool.members):
            return []
        at = max(known.window.frontier, 0)
        known.announced.pool = self._compose(newest, at, known)
        return [self._saying.announcement(known.announced.pool, at)]

    def finish(self, trigger: Trigger, outcome: str, known: Knowledge, fitted_at: int | None = None) -> None:
        """A trigger is done with, for ever."""
        state = known.state
        state.done[trigger.cause.id] = outcome
        state.retries.pop(trigger.cause.id, None)
        state.told -= {trigger.cause.id, quarantining.mark(trigger)}
        state.wishes.pop(trigger.cause.id, None)
        if fitted_at is not None:
            self._fitted(fitted_at, known)

    def _answered(self, trigger: Trigger, at: int, known: Knowledge) -> bool:
        """Whether a crash came between the announcement and the checkpoint that says so."""
        if trigger.cause.id in {member.cause.id for member in known.announced.members.values()}:
            self.finish(trigger, "announced", known, at)
        elif trigger.cause.kind == "first" and known.announced.members:
            self.finish(trigger, "not needed", known)
        return trigger.cause.id in known.state.done

    def _decide(self, trigger: Trigger, at: int, known: Knowledge) -> Steps:
        if self._budget.spent(at, known.state.fits):
            self.finish(trigger, "suppressed", known)
            reason = f"{self._budget.count} fits within {self._budget.stretch} ms of event time are all that is allowed"
            return [[self._saying.decision(trigger, "suppressed", "no fit", reason, at)]]
        taken = known.datasets.take(known.datasets.window, at, trigger.since)
        if taken is None or (why := _unusable(taken.rows, LEAST_ROWS if trigger.urgent else 1)):
            return [[self._wait(trigger, "no labelled rows yet" if taken is None else why, at, known)]]
        begun = [] if not trigger.story else [self._begin(trigger, taken.rows, at)]
        return [*begun, *self._fit(trigger, taken, at, known)]

    def _begin(self, trigger: Trigger, rows: pa.RecordBatch, at: int) -> list[Outgoing]:
        outcome = f"an early fit on {rows.num_rows} rows, the window as labelled so far"
        return [self._saying.decision(trigger, "triggered", outcome, trigger.story, at)]

    def _fit(self, trigger: Trigger, taken: Taken, at: int, known: Knowledge) -> Steps:
        version = max(known.announced.members, default=0) + 1
        try:
            made = self._fitter.fit(trigger.cause.id, taken.rows, at, version, known.announced)
        except Refused as error:
            return [[self._reject(trigger, str(error), {}, at, known)]]
        if not made.verdict.accepted:
            return [[self._reject(trigger, made.verdict.reason, made.verdict.metrics, at, known)]]
        member = self._fitter.store(Candidate(version, trigger.cause, at, taken, made), known.state.epoch)
        pool = self._compose(member, at, known)
        self.finish(trigger, "announced", known, at)
        known.announced.members[version], known.announced.pool = member, pool
        self._metrics.fits.labels("accepted").inc()
        return self._announce(trigger, made, taken, member, pool, at, known)

    def _compose(self, member: Member, at: int, known: Knowledge) -> Pool:
        version = (0 if known.announced.pool is None else known.announced.pool.version) + 1
        return pool_of(member, version, at, self._spec.drift.pane, known.state.epoch)

    def _announce(
        self, trigger: Trigger, made: Fit, taken: Taken, member: Member, pool: Pool, at: int, known: Knowledge
    ) -> Steps:
        evidence: dict[str, Scalar] = {**made.verdict.metrics, "rows": member.rows, "version": member.version}
        if taken.sampling is not None:
            evidence["sampled_from"] = taken.sampling.of
        if left_out := known.window.left_out(at, trigger.since):
            evidence |= {"left_out": left_out, quarantining.EPISODE: quarantining.culprit(known.state, known.window)}
        fitted = self._saying.decision(trigger, "fitted", f"member {member.version}", made.verdict.reason, at, evidence)
        reason = f"member {member.version} was stored at {member.uri} and answers from pool {pool.version} on"
        evidence = {"digest": member.digest, "version": member.version, "pool": pool.version}
        told = self._saying.decision(trigger, "announced", f"pool {pool.version}", reason, at, evidence)
        return [[fitted], [self._saying.announcement(said, at) for said in (member, pool)], [told]]

    def _reject(
        self, trigger: Trigger, reason: str, metrics: Mapping[str, float], at: int, known: Knowledge
    ) -> Outgoing:
        self._metrics.fits.labels("rejected").inc()
        outcome = "the pool stays as it is"
        if trigger.cause.kind == "first":  # nothing serves yet, so the next rows get their chance
            self._again(trigger, known)
            self._fitted(at, known)
            outcome = "no model yet"
        else:
            self.finish(trigger, "rejected", known, at)
        return self._saying.decision(trigger, "rejected", outcome, reason, at, metrics)

    def _wait(self, trigger: Trigger, why: str, at: int, known: Knowledge) -> Outgoing:
        if trigger.urgent:
            self.finish(trigger, "suppressed", known)
            return self._saying.decision(trigger, "suppressed", "no fit", f"{why}; wish again later", at)
        outcome = f"again after {self._again(trigger, known)} more labelled rows"
        return self._saying.decision(trigger, "suppressed", outcome, why, at)

    def _again(self, trigger: Trigger, known: Knowledge) -> int:
        """Let a trigger wait for more rows: half the minimum of a first fit. How many that is."""
        rows = max(1, self._spec.training.min_rows // 2)
        known.state.retries[trigger.cause.id] = Retry(trigger.ready, rows)
        return rows

    def _fitted(self, at: int, known: Knowledge) -> None:
        known.state.fits = sorted([*self._budget.recent(at, known.state.fits), at])


def _unusable(rows: pa.RecordBatch, least: int) -> str:
    if rows.num_rows < least:
        return f"only {rows.num_rows} labelled rows; {least} are needed"
    return scarce(rows)
