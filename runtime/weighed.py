"""What the topic `weights` says, folded: for each pool the newest checkpoint of what the labels taught about it.

Checkpoints of a controller that was replaced carry a lower epoch than one seen before; they are void. What no trusted
key signed is counted and ignored: the checkpoint before rules on.
"""

from __future__ import annotations

import logging
from typing import Literal

import msgspec

from runtime.metrics import Metrics
from runtime.ports import LogReader, Message, Outgoing, Place
from runtime.signing import Keys, Seal, Untrusted, Why, seal_json, verify_json
from schemas.pooling import Weights

log = logging.getLogger("headrace.models")

WEIGHTS = Place("weights", 0)
KIND = "headrace.weights.v1"
"""What a signature says that it is over."""
TAIL = 64
"""Offsets at the end of the topic among which the newest checkpoint lies, unless a writer that was replaced went on."""
POOLS = 16
"""Of so many pools the checkpoints are kept: a newer pool may be announced long before it is loaded."""


class _Marks(msgspec.Struct, frozen=True):
    """Who signed a message; the rest of it is another's affair."""

    key: str = ""
    signature: str = ""


def outgoing(weights: Weights, keys: Keys) -> Outgoing:
    """The message of a checkpoint, signed."""
    seal = seal_json(keys, KIND, msgspec.json.encode(weights))
    if seal is not None:
        weights = msgspec.structs.replace(weights, key=seal.key, signature=seal.signature)
    return Outgoing(*WEIGHTS, msgspec.json.encode(weights), f"{weights.model}/weights".encode())


def tail(reader: LogReader, keys: Keys) -> int:
    """The offset from which reading `weights` finds the newest checkpoint that is believed."""
    begin, end, span = reader.begin(WEIGHTS), reader.end(WEIGHTS), TAIL
    while (start := max(begin, end - span)) > begin:
        if any(_believed(message, keys) for message in reader.read(WEIGHTS, start, end)):
            break
        span *= 2
    return start


def read(message: Message, keys: Keys) -> Weights:
    """What a message says, once its signature was verified.

    Raises:
        Untrusted: No trusted key signed it.
        ValueError: It is no checkpoint.
    """
    value = message.value or b""
    marks = msgspec.json.decode(value, type=_Marks)
    verified = verify_json(keys, KIND, value, Seal(marks.key, marks.signature) if marks.signature else None)
    return msgspec.json.decode(verified, type=Weights)


def _believed(message: Message, keys: Keys) -> bool:
    try:
        read(message, keys)
    except (Untrusted, ValueError, RecursionError):
        return False
    return True


class Weighed:
    """The fold of `weights`.

    Args:
        keys: Whose checkpoints are believed.
        metrics: Where those that are not are counted.

    Attributes:
        newest: The newest checkpoint of the highest epoch, None before the first.
    """

    def __init__(self, keys: Keys, metrics: Metrics | None = None) -> None:
        self._keys, self._metrics = keys, metrics or Metrics()
        self._through = -1
        self.newest: Weights | None = None
        self._by_pool: dict[int, Weights] = {}

    def take(self, message: Message) -> Weights | None:
        """Fold a message; what it says, or None where it is void."""
        again, self._through = message.offset <= self._through, max(message.offset, self._through)
        said = self._read(message)
        if said is None:
            return None
        if self.newest is not None and _place(said) <= _place(self.newest):
            if not again and _place(said) < _place(self.newest):
                self._ignore(message, "void", f"{_place(said)} came behind {_place(self.newest)}")
            return None
        self.newest = self._by_pool[said.pool] = said
        if len(self._by_pool) > POOLS:
            del self._by_pool[min(self._by_pool)]
        return said

    def _read(self, message: Message) -> Weights | None:
        try:
            return read(message, self._keys)
        except Untrusted as error:
            self._ignore(message, error.why, str(error))
        except (ValueError, RecursionError) as error:
            self._ignore(message, "unreadable", str(error))
        return None

    def _ignore(self, message: Message, why: Why | Literal["void", "unreadable"], error: str) -> None:
        self._metrics.refused_models.labels(why).inc()
        log.warning("weights_ignored", extra={"offset": message.offset, "why": why, "error": error})

    def of(self, pool: int) -> Weights | None:
        """The newest checkpoint that speaks of a pool, else the newest of one before it; None where there is none."""
        known = [each for each in self._by_pool if each <= pool]
        return self._by_pool[max(known)] if known else None


def _place(weights: Weights) -> tuple[int, int]:
    return weights.epoch, weights.number
