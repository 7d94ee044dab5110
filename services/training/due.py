"""Whose turn it is to be carried out, and what is told of the triggers that have to wait."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.errors import WrongSetup
from runtime.ports import Outgoing
from schemas.messages import moment
from schemas.pipeline import Pipeline
from services.training import quarantining
from services.training.domain.triggers import Budget, Trigger
from services.training.domain.turns import Turns
from services.training.knowledge import Knowledge
from services.training.saying import Saying


class Due:
    """Knows the triggers of one pipeline and their order.

    Args:
        spec: The pipeline.
        budget: How often fits may happen.
        saying: Makes the messages.
    """

    def __init__(self, spec: Pipeline, budget: Budget, saying: Saying) -> None:
        self._budget, self._saying = budget, saying
        self._turns = Turns(spec.pipeline, spec.training.min_rows, spec.drift.settle)

    def next(self, known: Knowledge) -> Trigger | None:
        """The earliest trigger whose turn has come, behind the frontier: never one that a slow partition could beat."""
        fits, frontier = known.state.fits, known.window.frontier
        known.grow()
        turns = [(self._budget.due(each, fits), each.cause.id, each) for each in self._triggers(known)]
        due = [turn for turn in turns if turn[0] <= frontier]
        return min(due, key=lambda turn: turn[:2])[2] if due else None

    def waiting(self, known: Knowledge) -> list[Outgoing]:
        """Say once of each trigger why it waits."""
        return [*self._resting(known), *self._held_up(known)]

    def _resting(self, known: Knowledge) -> Iterator[Outgoing]:
        """After the fit before."""
        state, frontier = known.state, known.window.frontier
        if frontier >= self._budget.rested(state.fits):
            return
        for trigger in self._triggers(known):
            due = self._budget.due(trigger, state.fits)
            if trigger.ready <= frontier < due and trigger.cause.id not in state.told:
                state.told.add(trigger.cause.id)
                reason = f"the cool-down after the last fit ends at {moment(due).isoformat()}"
                yield self._saying.decision(trigger, "suppressed", "postponed", reason, trigger.ready)

    def _held_up(self, known: Knowledge) -> Iterator[Outgoing]:
        """Because of bad data alone."""
        state, window = known.state, known.window
        for trigger in self._turns.held_up(state, window, known.episodes.opened.values()):
            yield from quarantining.held_up(trigger, state, window, self._saying)

    def _triggers(self, known: Knowledge) -> Iterator[Trigger]:
        return self._turns.triggers(known.state, known.window, known.episodes.opened.values())


def budget_of(spec: Pipeline) -> Budget:
    """How often a pipeline may fit.

    Raises:
        WrongSetup: Its budget is of a kind that is not supported yet.
    """
    fits = spec.training.fits
    if fits.per_ms is None:
        raise WrongSetup("training.fits of pipeline.yaml: a budget per rows is not supported yet; write `24 per 1d`")
    return Budget(spec.training.cooldown, fits.count, fits.per_ms)
