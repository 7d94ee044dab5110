"""The members of a pipeline, from the public topic `models`, and whether their announcements are to be believed."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.following import whole
from runtime.announced import Announced, verified
from runtime.ports import LogReader, Message
from runtime.signing import Keys, Untrusted
from schemas import cloudevents
from schemas.messages import Member, Pool


@dataclass(frozen=True, slots=True)
class Models:
    """What was announced.

    Attributes:
        members: Members by version.
        pool: The newest pool, None before the first.
        refused: Announcements that no reader believes: which one, and why.
    """

    members: dict[int, Member] = field(default_factory=dict)
    pool: Pool | None = None
    refused: tuple[str, ...] = ()

    def role(self, version: int) -> str:
        """What a member does in the newest pool, empty where it is in none."""
        if self.pool is None or version not in self.pool.members:
            return ""
        roles = {"anchor": self.pool.anchor, "leader": self.pool.leader}
        return ", ".join(["member", *(name for name, of in roles.items() if of == version)])


def models(log: LogReader, keys: Keys) -> Models:
    """What a log says, to somebody who trusts these keys."""
    announced, refused = Announced(keys), []
    for _, message in whole(log, "models"):
        if announced.take(message) is None and (why := _refusal(message, keys)):
            refused.append(
                f"offset {message.offset} of models, key {(message.key or b'').decode(errors='replace')}: {why}"
            )
    return Models(dict(sorted(announced.members.items())), announced.pool, tuple(refused))


def _refusal(message: Message, keys: Keys) -> str:
    """Why nobody believes a message; empty for one that says nothing, or is void."""
    try:
        event = cloudevents.decode(message.value or b"", message.headers)
        if event.type in cloudevents.types_of(Member) | cloudevents.types_of(Pool):
            verified(event, keys)
    except (Untrusted, ValueError, RecursionError) as error:
        return str(error) if message.value else ""
    return ""
