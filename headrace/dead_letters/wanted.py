"""Which dead letters a person means: the filters of `list` and `replay`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from headrace.dead_letters.identity import Identity
from headrace.errors import WrongUse
from schemas.events import Reason
from schemas.quantities import milliseconds
from schemas.topics import BY_NAME


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that is set has to fit.

    Attributes:
        reasons: Reason codes, any of them; empty for all.
        topics: Logical names of the refused messages' topics, any of them; empty for all.
        since: First append time of the dead letter, epoch milliseconds.
        until: First append time that is too late.
        identity: The only one.
    """

    reasons: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    since: int | None = None
    until: int | None = None
    identity: Identity | None = None

    @classmethod
    def of(
        cls,
        reasons: Sequence[str] = (),
        topics: Sequence[str] = (),
        since: str | None = None,
        until: str | None = None,
        identity: str | None = None,
        *,
        now: int,
    ) -> Wanted:
        """The filters as a person writes them, at a time in milliseconds; WrongUse names the one that does not fit."""
        return cls(
            reasons=_known("--reason", reasons, [str(each) for each in Reason]),
            topics=_known("--topic", topics, list(BY_NAME)),
            since=moment("--since", since, now),
            until=moment("--until", until, now),
            identity=None if identity is None else identified(identity),
        )

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Wanted()

    def takes(self, identity: Identity, reason: str, time: int) -> bool:
        """Whether a dead letter of that append time is meant."""
        return (
            (not self.reasons or reason in self.reasons)
            and (not self.topics or identity.topic in self.topics)
            and (self.since is None or time >= self.since)
            and (self.until is None or time < self.until)
            and (self.identity is None or identity == self.identity)
        )


def identified(text: str) -> Identity:
    """The identity that a person wrote; WrongUse where it is none."""
    try:
        return Identity.parse(text)
    except ValueError as error:
        raise WrongUse(f"{error}: write one such as events/0/17/0; `headrace dead-letters list` shows them") from None


def _known(option: str, given: Sequence[str], known: Sequence[str]) -> frozenset[str]:
    for each in given:
        if each not in known:
            raise WrongUse(f"{option} {each}: there is none of that name; there are {', '.join(known)}")
    return frozenset(given)


def moment(option: str, text: str | None, now: int) -> int | None:
    """A duration counts back from now."""
    if text is None:
        return None
    try:
        return now - milliseconds(text)
    except ValueError:
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUse(
            f"{option} {text}: write a time such as 2026-01-01T00:00:00Z, or how long ago, such as 2h or 3d"
        ) from None
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
