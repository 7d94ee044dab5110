"""A message that nobody can use, kept: original key, value and headers untouched, ours say where from and why.

Two exceptions: a header without a value (Kafka's null) comes out as an empty one, and of a message that is larger than
any topic takes (it came compressed) only the beginning is kept, which a header says.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runtime.errors import InvalidMessage
from runtime.ports import Message, Outgoing, Place, Polled, Stored
from schemas.messages import DeadLetter
from schemas.reasons import FieldError
from schemas.topics import MAX_MESSAGE_BYTES

TOPIC = "dead-letters"
KEPT_BYTES = 64 << 10
"""Of the key and the value of a message that is too large."""


def dead_letter(
    place: Place,
    message: Message,
    reason: str,
    text: str,
    *,
    pipeline: str,
    partitions: int,
    path: str = "",
    row: int = 0,
    errors: Sequence[FieldError] = (),
) -> Outgoing:
    """The dead letter of a message.

    Args:
        place: Where the message lies.
        message: The message.
        reason: A documented reason code.
        text: What is wrong, for a person.
        pipeline: Digest of the pipeline.
        partitions: Number of partitions of the dead-letters topic.
        path: Where in the value.
        row: Row within a batch message.
        errors: All that is wrong.
    """
    kept, cut = _kept(message)
    story = DeadLetter(
        topic=place.topic,
        partition=place.partition,
        offset=message.offset,
        row=row,
        reason=reason,
        path=path,
        message=text,
        pipeline=pipeline,
        errors=msgspec.json.encode(errors).decode() if len(errors) > 1 else "",
        cut=cut,
    )
    return Outgoing(TOPIC, place.partition % partitions, kept.value, kept.key, [*kept.headers, *story.headers()])


def refused(
    polled: Sequence[Polled], error: InvalidMessage, *, pipeline: str, partitions: int
) -> tuple[Outgoing, list[Polled]]:
    """The dead letter of a message that a handler refused, and what was polled without it.

    Args:
        polled: What the handler was given.
        error: What it said of the message.
        pipeline: Digest of the pipeline.
        partitions: Number of partitions of the dead-letters topic.

    Raises:
        InvalidMessage: The same; the message is none of them.
    """
    place, rest, found = Place(error.topic, error.partition), list[Polled](), None
    for run in polled:
        messages = run.messages
        if Place(run.topic, run.partition) == place:
            found = next((each for each in messages if each.offset == error.offset), found)
            messages = [each for each in messages if each.offset != error.offset]
        rest += [run._replace(messages=messages)] if messages else []
    if found is None:
        raise error
    letter = dead_letter(
        place, found, error.reason, error.message, pipeline=pipeline, partitions=partitions, path=error.path
    )
    return letter, rest


def _kept(message: Message) -> tuple[Stored, int]:
    """What is kept of a message, and its bytes where they are too many for all of it."""
    # Kafka allows a header without a value, kafka-python does not send one.
    headers = [(name, value or b"") for name, value in message.headers]
    size = len(message.key or b"") + len(message.value or b"") + sum(len(name) + len(value) for name, value in headers)
    if size <= MAX_MESSAGE_BYTES:
        return Stored(message.offset, message.timestamp, message.key, message.value, headers), 0
    return Stored(message.offset, message.timestamp, _beginning(message.key), _beginning(message.value)), size


def _beginning(given: bytes | None) -> bytes | None:
    return None if given is None else given[:KEPT_BYTES]
