"""The stories: of a model version, an episode, a stretch of time, or anything else that was decided on. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from headrace.drift.reading import EPISODE, Story
from headrace.explain.ledger import Entry, Ledger, Telling, Weighing
from headrace.explain.words import clock, listed, number, share, stamp
from schemas.artefact import Manifest
from schemas.messages import Member, Pool, Scalar, moment

FOLLOW_UP = "/follow-up"
TRAINING = "training"


# --- a model version --------------------------------------------------------------------------


def of_version(told: Ledger, version: int, manifest: Manifest | None, weighings: Sequence[Weighing]) -> Telling:
    """Why a version was fitted, on what, how it compared, and what became of it."""
    member = told.members[version]
    entries = [*_cause(told, member), *_concerning(told, member)]
    near = told.fitted[version]
    if manifest is not None:
        entries.append(_dataset(manifest, near))
    entries += _weights(version, weighings, near)
    return Telling.of(f"v{version}", "version", _fate(told, member, weighings), entries)


def _cause(told: Ledger, member: Member) -> list[Entry]:
    """What led to the fit: the episode behind it, the wish, and the waiting."""
    name = member.cause.id.removesuffix(FOLLOW_UP)
    found = told.about(name, member.cause.id)
    return [each for each in found if each.service == "drift" or each.subject == member.cause.id]


def _concerning(told: Ledger, member: Member) -> list[Entry]:
    """What later decisions say of a version, and when serving took it over."""
    found, version = [], member.version
    first = next((pool.version for _, pool in told.pools if version in pool.members), _seated(told, version))
    for each in told.entries:
        named = version in (each.evidence.get("version"), each.evidence.get("left"))
        wished = str(each.evidence.get("of", "")).rpartition("/")[2] == str(version) and "wish" in each.evidence
        took = each.service == "serving" and first is not None and each.evidence.get("pool") == first
        if each.subject != member.cause.id and (named or wished or took):
            found.append(each)
    return found


def _seated(told: Ledger, version: int) -> int | None:
    """The pool in which a version took its seat, as decisions tell it: old pools are compacted away."""
    said = next((each for each in told.by(TRAINING, "announced") if each.evidence.get("version") == version), None)
    pool = None if said is None else said.evidence.get("pool")
    return int(pool) if isinstance(pool, int) else None


def _dataset(manifest: Manifest, near: datetime) -> Entry:
    data = manifest.dataset
    held = f", the newest {number(data.held_out)} of them held out for the check" if data.held_out else ""
    out = f"; left out as bad data: {listed(_quarantine(*each) for each in data.quarantined)}" * bool(data.quarantined)
    evidence: dict[str, Scalar] = {
        "rows": data.rows,
        "held_out": data.held_out,
        "label_cutoff": stamp(moment(data.label_cutoff)),
        "since": None if data.since is None else stamp(moment(data.since)),
        "selection": data.selection or None,
        "digest": data.digest,
        "quarantined": len(data.quarantined),
    }
    positions = {f"examples/{partition}": stop - 1 for partition, (_, stop) in data.positions.items()}
    outcome = f"{number(data.rows)} rows, labelled until {stamp(moment(data.label_cutoff))}{held}"
    where = ", ".join(f"examples/{each} [{start}, {stop})" for each, (start, stop) in sorted(data.positions.items()))
    return Entry(near, near, TRAINING, "dataset", f"v{manifest.version}", outcome, f"{where}{out}", evidence, positions)


def _quarantine(start: int, stop: int | None, source: int | None) -> str:
    where = "rows" if source is None else f"rows of events/{source}"
    return f"{where} from {stamp(moment(start))} {'on' if stop is None else f'to {stamp(moment(stop))}'}"


def _weights(version: int, weighings: Sequence[Weighing], near: datetime) -> Iterator[Entry]:
    """How the labels moved its weight."""
    for each in (each for each in weighings if version in each.said.members):
        index = each.said.members.index(version)
        weight, labels = math.exp(each.said.log_weights[index]), each.said.labels[index]
        evidence: dict[str, Scalar] = {"weight": weight, "labels": labels, "pool": each.said.pool}
        outcome = f"{share(weight)} of the weight after {number(labels)} labels"
        reason = f"checkpoint {each.said.number} of pool {each.said.pool}"
        near = each.time or near
        covers = {f"examples/{partition}": offset for partition, offset in each.said.covers.items()}
        yield Entry(each.time, near, TRAINING, "weighed", f"v{version}", outcome, reason, evidence, covers)


def _fate(told: Ledger, member: Member, weighings: Sequence[Weighing]) -> str:
    cause, fitted = member.cause, stamp(told.fitted[member.version])
    begun = f"version {member.version} was fitted at {fitted} on {member.rows:,} rows, for {because(told, cause.id)}"
    return f"{begun}; {standing(told.pool, member.version, weighings)}"


def because(told: Ledger, cause: str) -> str:
    """A cause in a few words."""
    name = cause.removesuffix(FOLLOW_UP)
    follow = "the follow-up of " if name != cause else ""
    if name in told.episodes:
        story = told.episodes[name]
        return f"{follow}{story.kind} drift ({story.episode.reason}), episode {name}"
    kind = next((each.cause.kind for each in told.members.values() if each.cause.id == cause), "")
    words = {"first": "the first model", "growth": "growth of the rows", "operator": "a wish of an operator"}
    return f"{follow}{words.get(kind, 'drift')}, {cause}"


def standing(pool: Pool | None, version: int, weighings: Sequence[Weighing]) -> str:
    """What a version is worth by now."""
    if pool is None or version not in pool.members:
        return "it is not in the pool now"
    newest = weighings[-1].said if weighings else None
    if newest is None or version not in newest.members:
        return f"it is in pool {pool.version} with {share(pool.weights[version])} of the weight"
    index = newest.members.index(version)
    weight, labels = math.exp(newest.log_weights[index]), newest.labels[index]
    roles = {"leader": pool.leader, "anchor": pool.anchor, "pinned": pool.pinned}
    held = [name for name, who in roles.items() if who == version]
    role = f" as {listed(held)}" if held else ""
    alone = ""
    if pool.alone is not None:
        alone = "; it alone answers" if pool.alone == version else f"; member {pool.alone} alone answers"
    return f"it is in pool {pool.version}{role}, {number(labels)} labels gave it {share(weight)} of the weight{alone}"


# --- an episode -------------------------------------------------------------------------------


def of_episode(told: Ledger, name: str, weighings: Sequence[Weighing]) -> Telling:
    """What drift saw, what training decided, and what the labels made of it."""
    made = [each for each in told.members.values() if each.cause.id in (name, f"{name}{FOLLOW_UP}")]
    entries = [each for each in told.entries if _about(each, name)]
    for member in made:
        entries += _weights(member.version, weighings, told.fitted[member.version])
    if name in told.episodes:
        entries = [_enriched(each, told.episodes[name]) for each in entries]
    return Telling.of(name, "episode", _episode(told, name, entries, made, weighings), entries)


def _about(entry: Entry, name: str) -> bool:
    named = entry.subject in (name, f"{name}{FOLLOW_UP}") or entry.evidence.get(EPISODE) == name
    return named or (entry.evidence.get("of") == name and "wish" in entry.evidence)


def _enriched(entry: Entry, story: Story) -> Entry:
    """The judge's own entry with what its episode says besides: since when, and which streams."""
    if entry.service != "drift" or entry.step != "opened":
        return entry
    episode = story.episode
    evidence: dict[str, Scalar] = {"since": stamp(episode.estimated_start), "rows": episode.rows}
    for each in episode.streams:
        where = "" if each.source is None else f" in {each.source} alone"
        evidence[each.name.strip("_")] = f"moved by {each.effect:.2g}{where}, {each.share:.0%} of the evidence"
    return replace(entry, evidence={**entry.evidence, **evidence})


def _episode(
    told: Ledger, name: str, entries: Sequence[Entry], made: Sequence[Member], weighings: Sequence[Weighing]
) -> str:
    story = told.episodes.get(name)
    opened = next((each for each in entries if each.service == "drift"), None)
    what = f"episode {name}"
    if story is not None:
        episode = story.episode
        seen = f"since {stamp(episode.estimated_start)}, seen at {stamp(episode.detected_at)}"
        what = f"{story.kind}: {episode.reason}, {seen}, {'still open' if story.closed is None else 'over'}"
    elif opened is not None:
        what = f"{opened.outcome}: {opened.reason}"
    if made:
        fates = [f"version {each.version}: {standing(told.pool, each.version, weighings)}" for each in made]
        return f"{what}. Training fitted {listed(f'version {each.version}' for each in made)}. {'; '.join(fates)}"
    last = [each for each in entries if each.service == TRAINING]
    return f"{what}. Training: {last[-1].outcome}, {last[-1].reason}" if last else f"{what}. No decision on it yet"


# --- a stretch of time, and everything else ---------------------------------------------------


def between(told: Ledger, start: datetime | None, stop: datetime | None) -> Telling:
    """Everything that was decided in [start, stop)."""
    found = [each for each in told.entries if within(each, start, stop)]
    counts = {step: sum(each.step == step for each in found) for step in dict.fromkeys(each.step for each in found)}
    summary = ", ".join(f"{count} {step.replace('_', ' ')}" for step, count in counts.items())
    subject = f"{'the beginning' if start is None else stamp(start)} to {'now' if stop is None else stamp(stop)}"
    return Telling.of(subject, "range", summary or "nothing was decided in this stretch of event time", found)


def within(entry: Entry, start: datetime | None, stop: datetime | None) -> bool:
    """Whether an entry lies in [start, stop)."""
    return (start is None or entry.near >= start) and (stop is None or entry.near < stop)


def of_subject(told: Ledger, subject: str) -> Telling:
    """Everything about something that was decided on, and about what it names."""
    found: Iterable[Entry] = told.about(subject)
    versions = {each.evidence.get("version") for each in found} - {None}
    summary = "; ".join(f"{clock(each.near)} {each.outcome}" for each in found)
    more = [each for each in told.entries if each.evidence.get("left") in versions and each.subject != subject]
    return Telling.of(subject, "decision", summary, [*found, *more])
