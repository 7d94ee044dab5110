"""Why there was no training: what was refused, what stood in the way, or that nobody asked for one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from headrace.drift.reading import EPISODE, Story
from headrace.explain.ledger import Entry, Ledger, Telling
from headrace.explain.story import FOLLOW_UP, TRAINING, within
from headrace.explain.words import listed, sentence, stamp
from schemas.messages import Scalar
from schemas.pipeline import Pipeline

ANSWERS = ("suppressed", "quarantined", "rejected", "refused", "recalled", "frozen")
"""What training says where it does not fit, or where a fit changes nothing."""
EARLY = frozenset({"covariate", "prediction", "label", "recurring"})


def of_stretch(told: Ledger, spec: Pipeline, start: datetime, stop: datetime) -> Telling:
    """Why nothing was trained in [start, stop)."""
    said = [each for each in told.by(TRAINING, *ANSWERS) if within(each, start, stop)]
    fits = [each for each in told.by(TRAINING, "fitted") if within(each, start, stop)]
    standing = list(_standing(told, spec, start, stop))
    subject = f"{stamp(start)} to {stamp(stop)}"
    if fits:
        made = f"there was training: {listed(each.outcome for each in fits)}"
        return Telling.of(subject, "why-not", made, [*fits, *said, *standing])
    return Telling.of(subject, "why-not", _answer([*said, *standing]), [*said, *standing])


def _answer(entries: Sequence[Entry]) -> str:
    if entries:
        return sentence(entries[-1])
    return "no retraining: nothing asked for it; no episode was open, no operator wished one, and rows grew too little"


def _standing(told: Ledger, spec: Pipeline, start: datetime, stop: datetime) -> Iterator[Entry]:
    """What was said before the stretch and still held in it."""
    for name in _quarantines(told, start):
        yield next(each for each in told.by(TRAINING, "quarantined") if each.subject == name)
    holds = [each for each in told.by(TRAINING, "frozen", "unfrozen") if each.near < start]
    if holds and holds[-1].step == "frozen":
        yield holds[-1]
    yield from _resting(told, spec, start)
    for name, story in told.episodes.items():
        if _open(story, start, stop) and not _answered(told, name, stop):
            yield waiting(story, spec, start)


def _quarantines(told: Ledger, start: datetime) -> list[str]:
    """Episodes of bad data that held rows back before the stretch and were not released by then."""
    released = {
        str(each.evidence.get(EPISODE) or each.subject) for each in told.by(TRAINING, "released") if each.near < start
    }
    before = dict.fromkeys(each.subject for each in told.by(TRAINING, "quarantined") if each.near < start)
    return [each for each in before if each not in released]


def _resting(told: Ledger, spec: Pipeline, at: datetime) -> Iterator[Entry]:
    """The cool-down after the fit before, and the budget."""
    fits = [each for each in told.by(TRAINING, "fitted", "rejected") if each.near <= at and _is_fit(each)]
    rest = timedelta(milliseconds=spec.training.cooldown)
    if fits and at < fits[-1].near + rest:
        reason = f"the cool-down after the fit at {stamp(fits[-1].near)} ends at {stamp(fits[-1].near + rest)}"
        yield _stood(at, fits[-1].subject, "cool-down", reason, {"fitted": stamp(fits[-1].near)})
    per = spec.training.fits.per_ms
    if per is None:
        return
    recent = [each for each in fits if each.near > at - timedelta(milliseconds=per)]
    if len(recent) >= spec.training.fits.count:
        reason = f"the budget of {spec.training.fits} is spent: {len(recent)} fits before {stamp(at)}"
        yield _stood(at, spec.pipeline, "budget", reason, {"fits": len(recent)})


def _is_fit(entry: Entry) -> bool:
    """Whether a rejection is one of a fit, not one by the gate."""
    return entry.step == "fitted" or "challenger" not in entry.evidence


def _stood(at: datetime, subject: str, outcome: str, reason: str, evidence: dict[str, Scalar]) -> Entry:
    return Entry(at, at, TRAINING, "suppressed", subject, outcome, reason, evidence)


def _open(story: Story, start: datetime, stop: datetime) -> bool:
    """Whether an episode that asks for a fit had been seen by the end of the stretch."""
    return story.episode.kind != "bad_data" and story.episode.detected_at < stop and start <= stop


def _answered(told: Ledger, name: str, stop: datetime) -> bool:
    """Whether training had said anything of an episode by then."""
    return any(each.service == TRAINING and each.near < stop for each in told.about(name))


def waiting(story: Story, spec: Pipeline, at: datetime, labelled: int | None = None) -> Entry:
    """An episode whose rows have not come."""
    episode = story.episode
    needed = spec.training.min_rows if episode.kind in EARLY else spec.drift.settle
    behind = "" if episode.kind in EARLY else f" behind {stamp(episode.estimated_start)}"
    have = "" if labelled is None else f"; {labelled:,} are there"
    reason = f"{story.kind}, {episode.reason}, waits for {needed:,} labelled rows{behind}{have}"
    evidence: dict[str, Scalar] = {EPISODE: episode.id, "needed": needed, "labelled": labelled}
    return _stood(max(at, episode.detected_at), episode.id, "waits for rows", reason, evidence)


def of_episode(told: Ledger, spec: Pipeline, name: str, labelled: int) -> Telling:
    """Why an episode led to no training.

    Args:
        told: What was decided.
        spec: The pipeline.
        name: The episode.
        labelled: Rows labelled behind its start by now.
    """
    own = [each for each in told.entries if each.service == TRAINING and _concerns(each, name)]
    fits = [each for each in own if each.step == "fitted"]
    said = [each for each in own if each.step in ANSWERS or each in fits]
    story = told.episodes.get(name)
    if not own and story is not None:
        said = [waiting(story, spec, story.episode.detected_at, labelled)]
    if fits:
        summary = f"there was training: {listed(each.outcome for each in fits)} was fitted for {name}"
    else:
        summary = sentence(said[-1]) if said else "no retraining: training has said nothing of it"
    return Telling.of(name, "why-not", summary, said)


def _concerns(entry: Entry, name: str) -> bool:
    return entry.subject in (name, f"{name}{FOLLOW_UP}") or entry.evidence.get(EPISODE) == name
