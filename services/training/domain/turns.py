"""Whose turn it is: every trigger that waits, with the rows that it has to wait for.

| kind of an episode | fit |
|---|---|
| concept | on the rows since its probable start, when `drift.settle` are labelled; none where a member knows them |
| covariate, prediction, label | early: at once, on the window as labelled so far |
| recurring | none: the member that knew this world comes back; early where nobody did |
| bad_data, any other | none |

Each of these fits has one follow-up, on the rows since the probable start, when four times `drift.settle` of them are
labelled. Besides, where the pool has several seats, growth of the labelled rows makes fits: on all of them, and on the
newest `drift.settle`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schemas.messages import Cause, DriftEpisode
from services.training.domain.growth import wanted as grown_to
from services.training.domain.quarantine import epoch_ms
from services.training.domain.rows import BEGINNING
from services.training.domain.selection import ALL, Selection
from services.training.domain.triggers import Retry, State, Trigger
from services.training.domain.window import Window

EARLY = frozenset({"covariate", "prediction", "label", "recurring"})
FOLLOW_UP = 4
"""So many times the rows of a concept's fit make its follow-up."""
TRAINED = frozenset({"announced", "rejected", "failed"})
"""What became of a trigger that had its training."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a cause waits for.

    Attributes:
        cause: What it is.
        rows: Labelled rows that it needs.
        since: Least label time of the rows that it wants.
        known: Event time at which it was certain.
        story: What is told when its fit begins; empty for nothing.
        recall: Member that is to come back; None for a fit.
        asks: No fit is needed where a member knows the rows.
    """

    cause: Cause
    rows: int
    since: int = BEGINNING
    known: int = BEGINNING
    story: str = ""
    recall: int | None = None
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Turns:
    """The rules of one pipeline.

    Attributes:
        pipeline: Name of the pipeline.
        min_rows: Labelled rows of the first fit, and the least for an early one.
        settle: Labelled rows since the start of a concept change.
    """

    pipeline: str
    min_rows: int
    settle: int

    def triggers(self, state: State, window: Window, episodes: Iterable[DriftEpisode]) -> Iterator[Trigger]:
        """The triggers that have their rows; those of operators need none."""
        yield from (wished(name, at) for name, at in state.wishes.items())
        yield from self._growth(state)
        for need in self._needs(state, episodes):
            ready = _ready(need, state, window)
            if ready is not None:
                time = max(ready, need.known)
                yield Trigger(need.cause, time, need.since, story=need.story, recall=need.recall, asks=need.asks)

    def held_up(self, state: State, window: Window, episodes: Iterable[DriftEpisode]) -> Iterator[Trigger]:
        """The triggers that would have their rows, were it not for bad data."""
        for need in self._needs(state, episodes) if window.quarantined else ():
            ready = _ready(need, state, window, quarantined=True)
            if ready is not None and _ready(need, state, window) is None:
                yield Trigger(need.cause, max(ready, need.known), need.since)

    def _needs(self, state: State, episodes: Iterable[DriftEpisode]) -> Iterator[Need]:
        if (name := self._first(state)) not in state.done:
            yield Need(Cause(kind="first", id=name), self.min_rows, known=state.lost_at)
        for episode in episodes:
            if episode.id not in state.done:
                yield from self._of(episode)
            elif state.done[episode.id] in TRAINED and (name := follow_up(episode.id)) not in state.done:
                since, known = epoch_ms(episode.estimated_start), epoch_ms(episode.detected_at)
                yield Need(Cause(kind="drift", id=name), FOLLOW_UP * self.settle, since, known)

    def _first(self, state: State) -> str:
        """Id of the cause of the first fit, which is another one where a pool was lost."""
        return f"{self.pipeline}/first/{state.lost}" if state.lost else f"{self.pipeline}/first"

    def _growth(self, state: State) -> Iterator[Trigger]:
        """The fit on all rows, and behind it the one on the newest."""
        growth, name = state.growth, f"{self.pipeline}/growth"
        if growth.newest is not None:
            cause = Cause(kind="growth", id=f"{name}/{growth.base}/newest")
            yield Trigger(cause, growth.newest, rows=Selection(newest=self.settle), beside=True)
        elif growth.ready is not None:
            yield Trigger(Cause(kind="growth", id=f"{name}/{grown_to(growth)}/all"), growth.ready, rows=ALL)

    def _of(self, episode: DriftEpisode) -> Iterator[Need]:
        cause, known = Cause(kind="drift", id=episode.id), epoch_ms(episode.detected_at)
        if episode.kind == "concept":
            yield Need(cause, self.settle, epoch_ms(episode.estimated_start), known, asks=True)
        elif episode.kind in EARLY:
            recall = episode.recurs if episode.kind == "recurring" else None
            yield Need(cause, self.min_rows, known=known, story=_story(episode), recall=recall)


def follow_up(episode: str) -> str:
    """Id of the cause of an episode's follow-up."""
    return f"{episode}/follow-up"


def wished(name: str, at: int) -> Trigger:
    """The trigger of an operator's wish."""
    return Trigger(Cause(kind="operator", id=name), at, urgent=True)


def _ready(need: Need, state: State, window: Window, *, quarantined: bool = False) -> int | None:
    retry = state.retries.get(need.cause.id, Retry(BEGINNING, need.rows))
    return window.ready(retry.rows, need.since, retry.after, quarantined=quarantined)


def _story(episode: DriftEpisode) -> str:
    knew = "" if episode.recurs is None else f"; member {episode.recurs} knew this world"
    return f"{episode.reason}{knew}"
