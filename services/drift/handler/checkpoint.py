"""The judge's checkpoint on `state`: what its families know, and where what they do not know yet lies."""

from __future__ import annotations

import logging

import msgspec

from runtime.ports import LogReader, Message, Outgoing, Place
from runtime.tail import windows
from services.drift.domain.density import Density
from services.drift.handler.intake import Positions

KEY = b"drift/judge"
STATE = Place("state", 0)
WINDOW = 64
logger = logging.getLogger("headrace.drift")


class Checkpoint(msgspec.Struct, frozen=True):
    """One leader's knowledge.

    Attributes:
        epoch: Counts the leaders; lower ones are void.
        positions: From where counts are read again.
        families: What each family knows; none at the very beginning.
        density: How many rows panes hold.
    """

    epoch: int = 0
    positions: Positions = Positions()
    families: dict[str, bytes] = {}
    density: Density = Density()

    def outgoing(self) -> Outgoing:
        """The message that keeps it."""
        return Outgoing(STATE.topic, STATE.partition, msgspec.msgpack.encode(self), KEY)


def newest(log: LogReader) -> Checkpoint:
    """The checkpoint of the highest epoch among the newest messages; the one of epoch 0 where there is none."""
    for window in windows(log, STATE, size=WINDOW):
        found = [_read(each, each.value) for each in window if each.key == KEY and each.value]
        if known := [each for each in reversed(found) if each is not None]:
            return max(known, key=lambda each: each.epoch)
    return Checkpoint()


def _read(message: Message, value: bytes) -> Checkpoint | None:
    try:
        return msgspec.msgpack.decode(value, type=Checkpoint)
    except msgspec.DecodeError as error:
        logger.warning("foreign_message_ignored", extra={"offset": message.offset, "error": str(error)})
        return None
