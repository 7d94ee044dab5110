"""A message that nobody can use, kept: original key, value and headers untouched, ours say where from and why.

Only a header without a value (Kafka's null) comes out as an empty one.
"""

from __future__ import annotations

from runtime.ports import Message, Outgoing, Place
from schemas.messages import DeadLetter

TOPIC = "dead-letters"


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
    """
    story = DeadLetter(
        topic=place.topic,
        partition=place.partition,
        offset=message.offset,
        row=row,
        reason=reason,
        path=path,
        message=text,
        pipeline=pipeline,
    )
    # Kafka allows a header without a value, kafka-python does not send one.
    headers = [*((name, value or b"") for name, value in message.headers), *story.headers()]
    return Outgoing(TOPIC, place.partition % partitions, message.value, message.key, headers)
