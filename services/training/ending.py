"""What a trigger leaves behind in the controller's state when it is done with, or has to wait for more rows."""

from __future__ import annotations

import msgspec

from schemas.pipeline import Pipeline
from services.training import quarantining
from services.training.domain import growth
from services.training.domain.fitting import HELD_OUT
from services.training.domain.selection import ALL
from services.training.domain.triggers import Budget, Retry, Trigger
from services.training.knowledge import Knowledge


class Ending:
    """Keeps account of triggers and fits.

    Args:
        spec: The pipeline.
        budget: How often fits may happen.
    """

    def __init__(self, spec: Pipeline, budget: Budget) -> None:
        self._spec, self._budget = spec, budget

    def finish(self, trigger: Trigger, outcome: str, known: Knowledge, fitted_at: int | None = None) -> None:
        """A trigger is done with, for ever; `fitted_at` is the event time of its fit, if there was one."""
        state = known.state
        state.done[trigger.cause.id] = outcome
        state.retries.pop(trigger.cause.id, None)
        state.told -= {trigger.cause.id, quarantining.mark(trigger)}
        state.wishes.pop(trigger.cause.id, None)
        if fitted_at is not None:
            self._fitted(fitted_at, known)
        self._grow(trigger, known, trigger.ready if fitted_at is None else fitted_at)

    def again(self, trigger: Trigger, known: Knowledge, fitted_at: int | None = None) -> int:
        """Let a trigger wait for as many rows as a first fit is checked on: the next check has others. How many."""
        rows = max(1, round(HELD_OUT * self._spec.training.min_rows))
        known.state.retries[trigger.cause.id] = Retry(trigger.ready, rows)
        if fitted_at is not None:
            self._fitted(fitted_at, known)
        return rows

    def _fitted(self, at: int, known: Knowledge) -> None:
        known.state.fits = sorted([*self._budget.recent(at, known.state.fits), at])

    def _grow(self, trigger: Trigger, known: Knowledge, at: int) -> None:
        """A fit on all rows, whatever came of it, is what they grow from; the one on the newest follows it."""
        state, kind = known.state, trigger.cause.kind
        if kind == "first" and self._spec.strategy.members > 1:
            state.growth = growth.begun(state.growth, at, known.window)
        elif kind == "growth" and trigger.rows == ALL:
            larger = growth.wanted(state.growth) > self._spec.drift.settle
            state.growth = growth.fitted(state.growth, at if larger else None)
        elif kind == "growth":
            state.growth = msgspec.structs.replace(state.growth, newest=None)
