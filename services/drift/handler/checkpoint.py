"""The judge's checkpoint on `state`: what it knows when its monitor is empty, and where the rows since then lie."""

from __future__ import annotations

import logging

import msgspec

from runtime.ports import LogReader, Message, Outgoing, Place
from runtime.tail import windows
from services.drift.domain.episodes import Standing

KEY = b"drift/judge"
STATE = Place("state", 0)
WINDOW = 64
logger = logging.getLogger("headrace.drift")


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
    for window in windows(log, STATE, size=WINDOW):
        found = [_read(each, each.value) for each in window if each.key == KEY and each.value]
        if known := [each for each in reversed(found) if each is not None]:
            return max(known, key=lambda each: each.epoch)
    return Checkpoint()


def _read(message: Message, value: bytes) -> Checkpoint | None:
    try:
        return msgspec.json.decode(value, type=Checkpoint)
    except msgspec.DecodeError as error:
        logger.warning("foreign_message_ignored", extra={"offset": message.offset, "error": str(error)})
        return None
