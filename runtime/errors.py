"""What can go wrong, and what becomes of it.

HeadraceError
├── InvalidMessage      a message nobody can use: dead letter with the original bytes, go on
├── Transient           the world is away for a while: retry in place with back-off
└── Fatal               anything else: crash loudly, nothing was committed, the supervisor restarts
    ├── HoleFound       a row that was written is missing from the log that we read
    ├── DeliveryFailed  a message that we published is not on the log
    ├── Fenced          somebody else began the same job and shut this process out
    ├── LeaseLost       this process was frozen for most of its session: it may be a zombie
    └── WrongSetup      settings, topics or files that a person has to mend
"""

from __future__ import annotations

NEW_GENERATION = "A new log is a new generation: give the pipeline a new name, or delete all of its topics and groups."
"""The mend wherever a log is not the one that was read before."""


class HeadraceError(Exception):
    """Base of all errors that this project raises on purpose."""


class InvalidMessage(HeadraceError):
    """One input message is unusable, whoever reads it.

    Args:
        topic: Logical name of the topic.
        partition: Partition of the message.
        offset: Offset of the message.
        reason: A documented reason code.
        message: What is wrong, for a person.
        path: Where in the value, empty for the whole of it.
    """

    def __init__(self, topic: str, partition: int, offset: int, reason: str, message: str, path: str = "") -> None:
        super().__init__(f"{topic}/{partition}@{offset}: {reason}: {message}")
        self.topic, self.partition, self.offset = topic, partition, offset
        self.reason, self.message, self.path = reason, message, path


class Transient(HeadraceError):
    """Something outside is away for a while; the same call will succeed later."""


class Fatal(HeadraceError):
    """The process must end; its supervisor starts it again from what was committed."""


class HoleFound(Fatal):
    """A message says that rows before it exist, and they never came."""


class DeliveryFailed(Fatal):
    """The broker did not take a message. What was sent after it would be a hole, so the process ends."""


class Fenced(Fatal):
    """Somebody else goes by this writer's name now: what it had not committed never lands."""


class LeaseLost(Fatal):
    """The process stood still for most of its session time-out; another one may own its partitions."""


class WrongSetup(Fatal):
    """Settings, topics or files do not fit; the text says what, where and the mend."""
