"""When to fit: what waits for rows, what rests after a fit, and what the budget refuses. All in event time."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from schemas.artefact import Quarantine
from schemas.messages import Cause
from services.training.domain.rows import BEGINNING
from services.training.domain.selection import Selection


class Retry(msgspec.Struct, frozen=True):
    """A trigger that could not be used waits for more rows.

    Attributes:
        after: Orders above this one count.
        rows: How many it waits for.
    """

    after: int
    rows: int


class Before(msgspec.Struct, frozen=True):
    """A composition that the pool had.

    Attributes:
        pool: Version of the pool.
        members: Its members.
        leader: Who led.
    """

    pool: int
    members: tuple[int, ...]
    leader: int


class Growth(msgspec.Struct, frozen=True):
    """How far the labelled rows have grown since the last fit on all of them.

    Attributes:
        counted: Order up to which rows are counted in `rows`; the window has forgotten some of them.
        rows: Labelled rows up to there.
        base: Labelled rows at the last fit on all, 0 before the first.
        ready: Order at which they had grown enough, None before that.
        newest: Event time at which the fit on the newest rows follows the one on all, None while none is to follow.
    """

    counted: int = BEGINNING
    rows: int = 0
    base: int = 0
    ready: int | None = None
    newest: int | None = None


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
        growth: How far the labelled rows have grown.
        left: Members that have no seat in the pool: why.
        pools: Earlier compositions, newest last.
        frozen: Who froze the pool and why, empty while it is not frozen.
        member: Version of the newest member, 0 before the first.
        pool: Version of the newest pool, likewise.
        lost: Version of the newest pool that nobody believes any more, 0 for none.
        lost_at: Event time that the judge had passed when the term began.
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
    growth: Growth = Growth()
    left: dict[int, str] = {}
    pools: list[Before] = []
    frozen: str = ""
    member: int = 0
    pool: int = 0
    lost: int = 0
    lost_at: int = BEGINNING


@dataclass(frozen=True, slots=True)
class Trigger:
    """Something that wants a fit.

    Attributes:
        cause: What it is.
        ready: Event time at which it had its rows.
        since: Least label time of the rows that it wants.
        urgent: It does not rest after other fits.
        story: What is told when its fit begins; empty for nothing.
        rows: Which rows it wants; None for `training.window`.
        beside: It is made at the time of another fit.
        recall: Member that is to come back, so that no fit is needed; None for a fit.
        asks: No fit is needed where a member knows the rows since `since`.
    """

    cause: Cause
    ready: int
    since: int = BEGINNING
    urgent: bool = False
    story: str = ""
    rows: Selection | None = None
    beside: bool = False
    recall: int | None = None
    asks: bool = False

    @property
    def rests(self) -> bool:
        """Whether it rests after the fit before."""
        return not (self.urgent or self.beside) and self.recall is None


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
        return max(trigger.ready, self.rested(fits)) if trigger.rests else trigger.ready

    def rested(self, fits: list[int]) -> int:
        """Event time from which nothing rests any more, below every time without a fit."""
        return fits[-1] + self.cooldown if fits else BEGINNING

    def spent(self, at: int, fits: list[int]) -> bool:
        """Whether no fit is left at a time."""
        return sum(at - self.stretch < each <= at for each in fits) >= self.count

    def recent(self, at: int, fits: list[int]) -> list[int]:
        """The fits that still count at a time."""
        return [each for each in fits if each > at - max(self.stretch, self.cooldown)]
