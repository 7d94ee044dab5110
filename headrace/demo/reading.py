"""Tells the story what its pipeline's topics say, and from which rows its models were kept."""

from __future__ import annotations

from headrace.demo.story import Story
from headrace.following import Follower
from runtime.artefact import fetch_manifest
from runtime.ports import LogReader, Message
from runtime.store import Store
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Decision, DriftEpisode, Member, Pool
from schemas.task import THRESHOLD


class Reading:
    """Reads what is new on the topics and tells it.

    Args:
        log: The pipeline's log.
        store: Where its models are.
        story: Who is told.
        prefix: What stands before the row's number in an event's id.
    """

    def __init__(self, log: LogReader, store: Store, story: Story, prefix: str) -> None:
        self._follower, self._store, self._story, self._prefix = Follower(log), store, story, prefix

    def look(self) -> None:
        """Tell what is new, causes before effects."""
        for message in self._follower.new("drift"):
            self._story.episode(message.timestamp, _envelope(message).read(DriftEpisode))
        for message in self._follower.new("models"):
            self._announced(message)
        for message in self._follower.new("decisions"):
            self._story.decided(message.timestamp, _envelope(message).read(Decision))
        for message in self._follower.new("scored"):
            self._story.scored(message.timestamp, b.decode_headers(message.headers).pool)
        for message in self._follower.new("examples"):
            self._judge(message.timestamp, message.value)

    def _announced(self, message: Message) -> None:
        envelope = _envelope(message)
        if envelope.type == cloudevents.type_of(Member):
            member = envelope.read(Member)
            dataset = fetch_manifest(self._store, member).dataset
            self._story.member(message.timestamp, member, dataset.quarantined)
        else:
            self._story.pool(envelope.read(Pool))

    def _judge(self, time: int, value: bytes | None) -> None:
        columns = b.decode(value).select([b.EVENT_ID, "_prediction", "_label", "_pool"]).to_pylist()
        for row in columns:
            if row["_prediction"] is not None:
                number = int(row[b.EVENT_ID].removeprefix(self._prefix))
                right = (row["_prediction"] >= THRESHOLD) == bool(row["_label"])
                self._story.judged(time, number, row["_pool"], right=right)


def _envelope(message: Message) -> cloudevents.Envelope:
    return cloudevents.decode(message.value or b"", message.headers)
