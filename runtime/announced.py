"""What the compacted topic `models` says, folded: the members and the newest pool.

Messages of a controller that was replaced carry a lower epoch than one seen before; they are void.
"""

from __future__ import annotations

import logging

from runtime.ports import Message
from schemas import cloudevents
from schemas.messages import Member, Pool

log = logging.getLogger("headrace.models")


class Announced:
    """The fold of `models`.

    Attributes:
        members: Announced members by version.
        pool: The newest pool, None before the first.
        epoch: Highest epoch seen.
    """

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.pool: Pool | None = None
        self.epoch = 0

    def take(self, message: Message) -> Member | Pool | None:
        """Fold a message; what it says, or None where it is void or says nothing that a reader knows."""
        said = _read(message)
        if said is None or said.epoch < self.epoch:
            return None
        self.epoch = said.epoch
        if isinstance(said, Member):
            self.members[said.version] = said
            return said
        if self.pool is not None and said.version < self.pool.version:
            return None
        self.pool = said
        return said

    @property
    def newest(self) -> Member | None:
        """The member with the highest version."""
        return self.members[max(self.members)] if self.members else None


def _read(message: Message) -> Member | Pool | None:
    if message.value is None:
        return None
    try:
        said = cloudevents.decode(message.value, message.headers).message()
    except cloudevents.EnvelopeError as error:
        log.warning("announcement_ignored", extra={"offset": message.offset, "error": str(error)})
        return None
    return said if isinstance(said, (Member, Pool)) else None
