"""What the compacted topic `models` says, folded: the members and the newest pool, as far as they are signed.

Messages of a controller that was replaced carry a lower epoch than one seen before; they are void, and so is a pool
that is older than the newest. What is void or not signed by a trusted key is counted and ignored: the old pool stays.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import msgspec

from runtime.metrics import Metrics
from runtime.ports import Message
from runtime.signing import Keys, Seal, Untrusted, Why, verify_json
from schemas import cloudevents
from schemas.messages import Member, Pool

log = logging.getLogger("headrace.models")

KINDS: Mapping[str, type[Member | Pool]] = {cloudevents.type_of(each): each for each in (Member, Pool)}


class _Marks(msgspec.Struct, frozen=True):
    """Who signed a message; the rest of it is another's affair."""

    signed_by: str | None = None
    signature: str | None = None


class Announced:
    """The fold of `models`.

    Args:
        keys: Whose announcements are believed.
        metrics: Where those that are not are counted.

    Attributes:
        members: Announced members by version.
        pool: The newest pool, None before the first.
        epoch: Highest epoch seen.
    """

    def __init__(self, keys: Keys, metrics: Metrics | None = None) -> None:
        self._keys, self._metrics = keys, metrics or Metrics()
        self.members: dict[int, Member] = {}
        self.pool: Pool | None = None
        self.epoch = 0
        self._through, self._heard = -1, 0

    def take(self, message: Message) -> Member | Pool | None:
        """Fold a message; what it says, or None where it is void or says nothing that a reader knows."""
        again, self._through = message.offset <= self._through, max(message.offset, self._through)
        said = self._read(message)
        if said is None:
            return None
        if void := self._void(said):
            if not again:
                self._ignore(message, "void", void)
            return None
        self.epoch = said.epoch
        if isinstance(said, Member):
            self.members[said.version] = said
            return said
        self._heard = said.version
        if self.pool is not None and said.version < self.pool.version:
            return None  # who composes pools knows the next one before it hears of this one
        self.pool = said
        return said

    @property
    def newest(self) -> Member | None:
        """The member with the highest version."""
        return self.members[max(self.members)] if self.members else None

    def _void(self, said: Member | Pool) -> str:
        """Why a message came too late, empty where it did not."""
        if said.epoch < self.epoch:
            return f"epoch {said.epoch} came behind epoch {self.epoch}"
        if isinstance(said, Pool) and said.version < self._heard:
            return f"pool {said.version} came behind pool {self._heard}"
        return ""

    def _read(self, message: Message) -> Member | Pool | None:
        if message.value is None:
            return None
        try:
            event = cloudevents.decode(message.value, message.headers)
            if event.type not in KINDS:
                return None
            return verified(event, self._keys)
        except Untrusted as error:
            self._ignore(message, error.why, str(error))
        except (ValueError, RecursionError) as error:  # no event, no announcement, or nested without end
            self._ignore(message, "unreadable", str(error))
        return None

    def _ignore(self, message: Message, why: Why | Literal["void", "unreadable"], error: str) -> None:
        self._metrics.refused_models.labels(why).inc()
        told = {"offset": message.offset, "key": repr(message.key), "why": why, "error": error}
        log.warning("announcement_ignored", extra=told)


def verified(event: cloudevents.Envelope, keys: Keys) -> Member | Pool:
    """The announcement in an event: what was verified, not what came."""
    content = bytes(event.data)
    marks = msgspec.json.decode(content, type=_Marks)
    seal = None if marks.signature is None else Seal(marks.signed_by or "", marks.signature)
    verified = verify_json(keys, event.type, content, seal)
    return msgspec.structs.replace(event, data=msgspec.Raw(verified)).read(KINDS[event.type])
