"""Carries triggers out: dataset, fit, check, announcement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from runtime.metrics import Metrics
from runtime.ports import Outgoing
from runtime.store import NotStored, Store
from schemas.messages import Member
from schemas.pipeline import Pipeline
from schemas.task import Target
from services.training import telling
from services.training.composing import RECALLED, Composing
from services.training.domain.announcements import Candidate
from services.training.domain.estimators import Refused
from services.training.domain.fitting import scarce
from services.training.domain.pool import Seat
from services.training.domain.rows import times
from services.training.domain.taking import Taken
from services.training.domain.triggers import Budget, Trigger
from services.training.ending import Ending
from services.training.fits import Failed, Fits, InCaller, Pending
from services.training.fitter import Fitter
from services.training.knowledge import Knowledge
from services.training.saying import Saying
from services.training.segments import SegmentDamaged

LEAST_ROWS = 50
"""Rows that an operator's fit needs, so that its check means anything."""

Steps = list[list[Outgoing]]
Unmade = Literal["rejected", "failed"]


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A fit that is being made.

    Attributes:
        trigger: What wants it.
        at: Event time at which it is made.
        taken: Its dataset.
        until: Time to which decisions had come.
    """

    trigger: Trigger
    at: int
    taken: Taken
    until: int | None


class Carrying:
    """Does what triggers want, once each.

    Args:
        spec: The pipeline.
        store: Where artefacts go.
        budget: How often fits may happen.
        saying: Makes the messages.
        metrics: Where fits are counted.
        trusted: Types that a model may hold besides those of the list.
        fits: Makes fits; None: at once, by whoever asks.

    Attributes:
        composing: Composes the pool.
        under_way: The fit that is being made: nothing is decided of later times before it is done.

    Raises:
        WrongSetup: The estimator is not there, or does not take the parameters.
    """

    def __init__(
        self,
        spec: Pipeline,
        store: Store,
        budget: Budget,
        saying: Saying,
        metrics: Metrics,
        trusted: Sequence[str] = (),
        fits: Fits | None = None,
    ) -> None:
        self._spec, self._budget, self._saying, self._metrics = spec, budget, saying, metrics
        self.composing, self._ending = Composing(spec, saying), Ending(spec, budget)
        self._fits = InCaller(metrics) if fits is None else fits
        self._fitter = Fitter(spec, store, self._fits, trusted)
        self.under_way: UnderWay | None = None

    def prepare(self) -> None:
        """Fits may come from now on."""
        self._fits.prepare()

    def drop(self) -> None:
        """Give up the fit that is under way."""
        self._fits.drop()
        self.under_way = None

    def carry_out(self, trigger: Trigger, known: Knowledge) -> Steps:
        """Everything that a trigger leads to; the checkpoint comes last."""
        at = self._budget.due(trigger, known.state.fits)
        steps = self._answered(trigger, at, known)
        if steps is None:
            steps = self._decide(trigger, at, known)
        return [*steps, [self.checkpoint(known)]]

    def go_on(self, known: Knowledge) -> Steps:
        """What follows from the fit that is under way, as soon as it is done; nothing before."""
        if (begun := self.under_way) is None:
            return []
        known.window.until, at = begun.until, begun.at
        if known.state.frozen:
            self.drop()
            steps = [[self._frozen(begun.trigger, at, known)]]
        else:
            steps = self._fit(begun.trigger, begun.taken, at, known)
        return steps if self.under_way is not None else [*steps, [self.checkpoint(known)]]

    def checkpoint(self, known: Knowledge) -> Outgoing:
        """What must not be forgotten, as of now."""
        known.state.begins, known.state.archived = known.window.begins(), dict(known.archive.next)
        return self._saying.checkpoint(known.state)

    def _answered(self, trigger: Trigger, at: int, known: Knowledge) -> Steps | None:
        """What is left to say where a crash came before the checkpoint that says so; None where nothing was done."""
        pool = known.announced.pool
        made = next((each for each in known.announced.members.values() if each.cause.id == trigger.cause.id), None)
        if made is not None:
            self._ending.finish(trigger, "announced", known, at)
            if pool is None or made.version not in pool.members:
                return self._seat_again(trigger, made, at, known)
            return [[telling.announced(trigger, made, Seat(taken=True), pool, at, self._saying)]]
        if pool is not None and pool.cause is not None and pool.cause.id == trigger.cause.id:
            self._ending.finish(trigger, RECALLED, known)
            return []
        if trigger.cause.kind == "first" and pool is not None:
            self._ending.finish(trigger, "not needed", known)
            return []
        return None

    def _seat_again(self, trigger: Trigger, made: Member, at: int, known: Knowledge) -> Steps:
        """A crash between member and pool left a member alone: it takes its place now."""
        taken = self._rows(trigger, at, known)
        start = trigger.since if isinstance(taken, str) else int(times(taken.rows)[0])
        seat, pool = self.composing.admit(made, start, at, known)
        told = telling.announced(trigger, made, seat, known.announced.pool, at, self._saying)
        return [*([pool] if pool else []), [told]]

    def _decide(self, trigger: Trigger, at: int, known: Knowledge) -> Steps:
        if known.state.frozen:
            return [[self._frozen(trigger, at, known)]]
        if trigger.recall is not None and (steps := self.composing.recall(trigger, at, known)) is not None:
            self._ending.finish(trigger, RECALLED, known)
            return steps
        if trigger.asks and (steps := self.composing.known_by(trigger, at, known)) is not None:
            self._ending.finish(trigger, RECALLED, known)
            return steps
        if self._budget.spent(at, known.state.fits):
            reason = f"{self._budget.count} fits within {self._budget.stretch} ms of event time are all that is allowed"
            return [[self._suppress(trigger, reason, at, known)]]
        taken = self._rows(trigger, at, known)
        if isinstance(taken, str):
            return [[self._wait(trigger, taken, at, known)]]
        begun = [[telling.begun(trigger, taken.rows.num_rows, at, self._saying)]] if trigger.story else []
        return [*begun, *self._fit(trigger, taken, at, known)]

    def _rows(self, trigger: Trigger, at: int, known: Knowledge) -> Taken | str:
        """The rows that a trigger takes, or why there are none that a fit could use."""
        selection = known.datasets.window if trigger.rows is None else trigger.rows
        try:
            taken = known.datasets.take(selection, at, trigger.since)
        except (SegmentDamaged, NotStored) as error:  # the archive, not this service, is to be mended
            return str(error)
        if taken is None:
            return "no labelled rows yet"
        return _unusable(taken.rows, LEAST_ROWS if trigger.urgent else 1, self._spec.target) or taken

    def _frozen(self, trigger: Trigger, at: int, known: Knowledge) -> Outgoing:
        return self._suppress(trigger, f"{known.state.frozen}; unfreeze the pool first", at, known)

    def _suppress(self, trigger: Trigger, reason: str, at: int, known: Knowledge) -> Outgoing:
        self._ending.finish(trigger, "suppressed", known)
        return self._saying.decision(trigger, "suppressed", "no fit", reason, at)

    def _fit(self, trigger: Trigger, taken: Taken, at: int, known: Knowledge) -> Steps:
        version = known.next_version
        try:
            made = self._fitter.fit(trigger.cause.id, taken.rows, at, version, known.announced)
        except Pending:
            return self._wait_for(trigger, taken, at, known)
        except (Refused, Failed) as error:
            return [[self._unmade(trigger, error, taken, at, known)]]
        if not made.verdict.accepted:
            figures = {**made.verdict.metrics, **made.spent}
            return [[self._reject(trigger, "rejected", made.verdict.reason, figures, at, known)]]
        member = self._fitter.store(Candidate(version, trigger.cause, at, taken, made), known.state.epoch)
        self.under_way = None
        before = self.composing.checkpoint(known)  # whoever goes on from it composes the same pool
        seat, pool = self.composing.admit(member, int(times(taken.rows)[0]), at, known)
        self._ending.finish(trigger, "announced", known, at)
        self._metrics.fits.labels("accepted").inc()
        fitted = telling.fitted(trigger, made, taken, member, at, known, self._saying)
        told = telling.announced(trigger, member, seat, known.announced.pool, at, self._saying)
        return [[fitted, *before], [self._saying.announcement(member, at), *pool], [told]]

    def _wait_for(self, trigger: Trigger, taken: Taken, at: int, known: Knowledge) -> Steps:
        """Say once that a fit is under way."""
        if self.under_way is not None:
            return []
        self.under_way = UnderWay(trigger, at, taken, known.window.until)
        rows, estimator = taken.rows.num_rows, self._spec.model.estimator
        return [[telling.under_way(trigger, estimator, rows, at, self._saying)]]

    def _unmade(self, trigger: Trigger, error: Refused | Failed, taken: Taken, at: int, known: Knowledge) -> Outgoing:
        if isinstance(error, Refused):
            return self._reject(trigger, "rejected", str(error), {}, at, known)
        figures = {**error.figures, "rows": taken.rows.num_rows}
        return self._reject(trigger, "failed", str(error), figures, at, known)

    def _reject(
        self, trigger: Trigger, step: Unmade, reason: str, figures: Mapping[str, float], at: int, known: Knowledge
    ) -> Outgoing:
        """Nothing comes of a trigger: its fit was no good, or there is none."""
        self.under_way = None
        self._metrics.fits.labels(step).inc()
        outcome = "the pool stays as it is"
        if trigger.cause.kind == "first":  # nothing serves yet, so the next rows get their chance
            self._ending.again(trigger, known, at)
            outcome = "no model yet"
        else:
            self._ending.finish(trigger, step, known, at)
        return self._saying.decision(trigger, step, outcome, reason, at, figures)

    def _wait(self, trigger: Trigger, why: str, at: int, known: Knowledge) -> Outgoing:
        if trigger.urgent:
            self._ending.finish(trigger, "suppressed", known)
            return self._saying.decision(trigger, "suppressed", "no fit", f"{why}; wish again later", at)
        outcome = f"again after {self._ending.again(trigger, known)} more labelled rows"
        return self._saying.decision(trigger, "suppressed", outcome, why, at)


def _unusable(rows: pa.RecordBatch, least: int, target: Target) -> str:
    if rows.num_rows < least:
        return f"only {rows.num_rows} labelled rows; {least} are needed"
    return scarce(rows, target)
