"""When to fit: what waits for rows, what rests after a fit, and what the budget refuses. All in event time."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from schemas.artefact import Quarantine
from schemas.messages import Cause
from services.training.domain.rows import BEGINNING


class Retry(msgspec.Struct, frozen=True):
    """A trigger that could not be used waits for more rows.

    Attributes:
        after: Orders above this one count.
        rows: How many it waits for.
    """

    after: int
    rows: int


class State(msgspec.Struct):
    """What a controller must not forget: a checkpoint on `state`.

    Attributes:
        epoch: Raised by each leader.
        begins: Partition of `examples`: offset from which its remembered rows are read again.
        log: Id of the topic `examples` that the offsets are of.
        archived: Partition of `examples`: offset from which nothing is archived.
        fits: Event times of the fits, newest last.
        done: Trigger: what became of it.
        retries: Triggers that wait for more rows.
        told: Triggers whose rest was told.
        wishes: Open wishes to retrain: event time at which each was taken.
        quarantines: Episode of bad data: the rows that it holds back, for ever.
    """

    epoch: int = 0
    begins: dict[int, int] = {}
    log: str = ""
    archived: dict[int, int] = {}
    fits: list[int] = []
    done: dict[str, str] = {}
    retries: dict[str, Retry] = {}
    told: set[str] = set()
    wishes: dict[str, int] = {}
    quarantines: dict[str, Quarantine] = {}


@dataclass(frozen=True, slots=True)
class Trigger:
    """Something that wants a fit.

    Attributes:
        cause: What it is.
        ready: Event time at which it had its rows.
        since: Least label time of the rows that it wants.
        urgent: It does not rest after other fits.
        story: What is told when its fit begins; empty for nothing.
    """

    cause: Cause
    ready: int
    since: int = BEGINNING
    urgent: bool = False
    story: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """How often fits may happen.

    Attributes:
        cooldown: Milliseconds between two fits.
        count: Most fits within a stretch.
        stretch: Its length in milliseconds.
    """

    cooldown: int
    count: int
    stretch: int

    def due(self, trigger: Trigger, fits: list[int]) -> int:
        """Event time at which the trigger's turn comes: it rests after the fit before."""
        if trigger.urgent or not fits:
            return trigger.ready
        return max(trigger.ready, fits[-1] + self.cooldown)

    def spent(self, at: int, fits: list[int]) -> bool:
        """Whether no fit is left at a time."""
        return sum(at - self.stretch < each <= at for each in fits) >= self.count

    def recent(self, at: int, fits: list[int]) -> list[int]:
        """The fits that still count at a time."""
        return [each for each in fits if each > at - max(self.stretch, self.cooldown)]
