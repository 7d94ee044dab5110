"""Bad data: which rows no dataset may hold, from when to when, and what is told of it.

The judge names the episode and its end, an operator may end it before. What was held back once stays out for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runtime.ports import Outgoing
from schemas.artefact import Quarantine
from schemas.messages import Cause, DriftEpisode, Scalar, Wish, moment, rfc3339
from services.training.domain.quarantine import epoch_ms, held, quarantine_of, shortened
from services.training.domain.triggers import State, Trigger
from services.training.domain.window import Window
from services.training.reading import BAD_DATA, End, Episodes
from services.training.saying import Saying

EPISODE = "episode"
"""Name of the evidence that says on which episode a decision about something else rests."""
QUARANTINED, RELEASED = "quarantined", "released"


def learn(state: State, episodes: Episodes, saying: Saying) -> list[Outgoing]:
    """Take over what the judge said; the decisions that nobody was told of yet."""
    said: list[Outgoing] = []
    for episode in (each for each in episodes.opened.values() if each.kind == BAD_DATA):
        known, end = state.quarantines.get(episode.id, quarantine_of(episode)), episodes.ended.get(episode.id)
        state.quarantines[episode.id] = known if end is None else shortened(known, end.time)
        said += _told(episode, end, state, saying)
    return said


def _told(episode: DriftEpisode, end: End | None, state: State, saying: Saying) -> Iterator[Outgoing]:
    quarantine = state.quarantines[episode.id]
    trigger = Trigger(Cause(kind="drift", id=episode.id), epoch_ms(episode.detected_at))
    if episode.id not in state.done:
        state.done[episode.id] = QUARANTINED
        outcome = f"no fit, and no dataset holds {_rows(quarantine._replace(stop=None))}"
        evidence = _evidence(quarantine._replace(stop=None))
        yield saying.decision(trigger, "quarantined", outcome, episode.reason, trigger.ready, evidence)
    if end is not None and state.done[episode.id] == QUARANTINED:
        state.done[episode.id] = RELEASED
        yield _released(trigger, quarantine, end.reason, saying)


def release(wish: Wish, frontier: int, state: State, episodes: Episodes, saying: Saying) -> Outgoing:
    """End the quarantine of an episode on an operator's wish, or refuse to."""
    trigger = Trigger(Cause(kind="operator", id=wish.id), frontier, urgent=True)
    episode, quarantine = episodes.opened.get(wish.subject), state.quarantines.get(wish.subject)
    if episode is None or quarantine is None:
        reason = f"{wish.subject} is no episode of bad data that is known here; `headrace drift list` shows all"
        state.done[wish.id] = "refused"
        return saying.decision(trigger, "refused", "nothing changes", reason, frontier)
    reason = f"{wish.who} released it: {wish.reason}"
    state.done[wish.id] = RELEASED
    if quarantine.stop is not None:  # the judge reads wishes, too, and was faster
        return _released(trigger, quarantine, reason, saying, {EPISODE: wish.subject})
    stop = max(frontier, epoch_ms(episode.detected_at))
    quarantine = state.quarantines[wish.subject] = shortened(quarantine, stop)
    state.done[wish.subject] = RELEASED
    cause = Trigger(Cause(kind="operator", id=wish.subject), stop)
    return _released(cause, quarantine, reason, saying, {"wish": wish.id})


def held_up(trigger: Trigger, state: State, window: Window, saying: Saying) -> Iterator[Outgoing]:
    """Say once of a trigger that it waits because rows are bad."""
    if trigger.ready > window.frontier or mark(trigger) in state.told:
        return
    state.told.add(mark(trigger))
    reason = f"{window.left_out(trigger.ready, trigger.since)} labelled rows that it would take are bad"
    evidence: dict[str, Scalar] = {EPISODE: culprit(state, window)}
    yield saying.decision(trigger, "suppressed", "waits for rows that are right", reason, trigger.ready, evidence)


def culprit(state: State, window: Window) -> str | None:
    """The newest episode that holds rows of the window back."""
    rows = window.rows
    found = [name for name, each in state.quarantines.items() if rows is not None and held(rows, [each]).any()]
    return found[-1] if found else None


def mark(trigger: Trigger) -> str:
    """Under which name it is remembered that a trigger was told to wait."""
    return f"{trigger.cause.id}/bad data"


def _released(
    trigger: Trigger, quarantine: Quarantine, reason: str, saying: Saying, more: Mapping[str, Scalar] | None = None
) -> Outgoing:
    outcome = f"later rows count again; {_rows(quarantine)} stay out"
    evidence = {**_evidence(quarantine), **(more or {})}
    return saying.decision(trigger, "released", outcome, reason, quarantine.stop or trigger.ready, evidence)


def _rows(quarantine: Quarantine) -> str:
    where = "rows" if quarantine.source is None else f"rows of events/{quarantine.source}"
    until = "on" if quarantine.stop is None else f"to {rfc3339(moment(quarantine.stop))}"
    return f"{where} from {rfc3339(moment(quarantine.start))} {until}"


def _evidence(quarantine: Quarantine) -> dict[str, Scalar]:
    source = None if quarantine.source is None else f"events/{quarantine.source}"
    stop = None if quarantine.stop is None else rfc3339(moment(quarantine.stop))
    return {"from": rfc3339(moment(quarantine.start)), "to": stop, "source": source}
