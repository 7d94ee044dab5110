"""The judge's checkpoint on `state`: what it knows when its monitor is empty, and where the rows since then lie."""

from __future__ import annotations

import msgspec

from runtime.ports import LogReader, Outgoing, Place
from services.drift.domain.episodes import Standing

KEY = b"drift/judge"
STATE = Place("state", 0)
WINDOW = 64


class Checkpoint(msgspec.Struct, frozen=True):
    """One leader's knowledge.

    Attributes:
        epoch: Counts the leaders; lower ones are void.
        positions: Partition of drift-counts: offset to go on from; absent ones from the beginning.
        standing: What the monitor's fold goes on with.
    """

    epoch: int = 0
    positions: dict[int, int] = {}
    standing: Standing = msgspec.field(default_factory=Standing)

    def outgoing(self) -> Outgoing:
        """The message that keeps it."""
        return Outgoing(STATE.topic, STATE.partition, msgspec.json.encode(self), KEY)


def newest(log: LogReader) -> Checkpoint:
    """The checkpoint of the highest epoch among the newest messages; the one of epoch 0 where there is none."""
    low, high, step = log.begin(STATE), log.end(STATE), WINDOW
    while high > low:
        messages = log.read(STATE, max(low, high - step), high)
        found = [
            msgspec.json.decode(each.value, type=Checkpoint) for each in messages if each.key == KEY and each.value
        ]
        if found:
            return max(reversed(found), key=lambda each: each.epoch)
        high, step = max(low, high - step), step * 8
    return Checkpoint()
