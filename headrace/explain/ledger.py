"""What a story is made of: the entries of the ledger, and the facts beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headrace.drift.reading import DECIDER, Story
from schemas.messages import Decision, Member, Pool, Scalar, rfc3339
from schemas.pooling import Weights


@dataclass(frozen=True, slots=True)
class Entry:
    """Who said what, when, and on which evidence.

    Attributes:
        time: Event time; None where who said it knew none.
        near: Event time near which it was said, to put it in order; that of the entry before where it has none.
        service: Who said it.
        step: What was done.
        subject: What it is about.
        outcome: What followed, in a few words.
        reason: One sentence.
        evidence: Figures, by name.
        positions: Log positions that it rests on.
    """

    time: datetime | None
    near: datetime
    service: str
    step: str
    subject: str
    outcome: str
    reason: str
    evidence: Mapping[str, Scalar] = field(default_factory=dict)
    positions: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Plain values for `--json`."""
        return {
            "time": None if self.time is None else rfc3339(self.time),
            "service": self.service,
            "step": self.step,
            "subject": self.subject,
            "outcome": self.outcome,
            "reason": self.reason,
            "evidence": dict(self.evidence),
            "positions": dict(self.positions),
        }


def entry_of(said: Decision, before: datetime) -> Entry:
    """A decision as an entry, behind the one before."""
    return Entry(
        said.time,
        said.time or before,
        said.service,
        said.step,
        said.subject,
        said.outcome,
        said.reason,
        said.evidence,
        said.positions,
    )


@dataclass(frozen=True, slots=True)
class Telling:
    """A story.

    Attributes:
        subject: What it is about.
        kind: version, episode, prediction, range, decision or why-not.
        summary: The answer in a sentence or two.
        entries: What it is told from, in order of time.
    """

    subject: str
    kind: str
    summary: str
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, subject: str, kind: str, summary: str, entries: Iterable[Entry]) -> Telling:
        """The story with its entries in order; those of one time stay as they come."""
        return cls(subject, kind, summary, tuple(sorted(entries, key=lambda each: each.near)))

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        entries = [each.as_json() for each in self.entries]
        return {"subject": self.subject, "kind": self.kind, "summary": self.summary, "entries": entries}


@dataclass(frozen=True, slots=True)
class Weighing:
    """A checkpoint of the weights, and about when it was written.

    Attributes:
        time: Event time of the newest label in it, as far as it is still kept.
        said: The checkpoint.
    """

    time: datetime | None
    said: Weights


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything small that a log tells of its decisions.

    Attributes:
        entries: Every wish of an operator, and every decision once, in the order of their topics.
        episodes: The drift episodes that are kept, by id.
        members: The announced members by version.
        fitted: Event time at which each member was announced.
        pools: The announced pools that are kept, each with its event time, oldest first.
    """

    entries: tuple[Entry, ...] = ()
    episodes: Mapping[str, Story] = field(default_factory=dict)
    members: Mapping[int, Member] = field(default_factory=dict)
    fitted: Mapping[int, datetime] = field(default_factory=dict)
    pools: tuple[tuple[datetime, Pool], ...] = ()

    @property
    def pool(self) -> Pool | None:
        """The newest pool."""
        return self.pools[-1][1] if self.pools else None

    @property
    def subjects(self) -> list[str]:
        """Everything that a decision was made about, in order of appearance."""
        return list(dict.fromkeys(each.subject for each in self.entries))

    def about(self, *subjects: str) -> list[Entry]:
        """The entries about any of these."""
        return [each for each in self.entries if each.subject in subjects]

    def by(self, service: str = DECIDER, *steps: str) -> list[Entry]:
        """The entries of a service, of these steps where any are named."""
        return [each for each in self.entries if each.service == service and (not steps or each.step in steps)]
