"""What the topic `weights` says, folded: for each pool the newest checkpoint of what the labels taught about it.

Checkpoints of a controller that was replaced carry a lower epoch than one seen before; they are void.
"""

from __future__ import annotations

import logging

import msgspec

from runtime.ports import LogReader, Message, Outgoing, Place
from schemas.pooling import Weights

log = logging.getLogger("headrace.models")

WEIGHTS = Place("weights", 0)
TAIL = 64
"""Offsets at the end of the topic among which the newest checkpoint lies, unless a writer that was replaced went on."""
POOLS = 16
"""Of so many pools the checkpoints are kept: a newer pool may be announced long before it is loaded."""


def outgoing(weights: Weights) -> Outgoing:
    """The message of a checkpoint."""
    return Outgoing(*WEIGHTS, msgspec.json.encode(weights), f"{weights.model}/weights".encode())


def tail(reader: LogReader) -> int:
    """The offset from which reading `weights` finds the newest checkpoint."""
    begin, end, span = reader.begin(WEIGHTS), reader.end(WEIGHTS), TAIL
    while (start := max(begin, end - span)) > begin:
        if any(read(message) is not None for message in reader.read(WEIGHTS, start, end)):
            break
        span *= 2
    return start


def read(message: Message) -> Weights | None:
    """What a message says, None where it is no checkpoint."""
    try:
        return msgspec.json.decode(message.value or b"", type=Weights)
    except msgspec.DecodeError as error:
        log.warning("weights_ignored", extra={"offset": message.offset, "error": str(error)})
        return None


class Weighed:
    """The fold of `weights`.

    Attributes:
        newest: The newest checkpoint of the highest epoch, None before the first.
    """

    def __init__(self) -> None:
        self.newest: Weights | None = None
        self._by_pool: dict[int, Weights] = {}

    def take(self, message: Message) -> Weights | None:
        """Fold a message; what it says, or None where it is void."""
        said = read(message)
        if said is None or (self.newest is not None and _place(said) <= _place(self.newest)):
            return None
        self.newest = self._by_pool[said.pool] = said
        if len(self._by_pool) > POOLS:
            del self._by_pool[min(self._by_pool)]
        return said

    def of(self, pool: int) -> Weights | None:
        """The newest checkpoint that speaks of a pool, else the newest of one before it; None where there is none."""
        known = [each for each in self._by_pool if each <= pool]
        return self._by_pool[max(known)] if known else None


def _place(weights: Weights) -> tuple[int, int]:
    return weights.epoch, weights.number
