"""Tells the story what its pipeline's topics say."""

from __future__ import annotations

from headrace.demo.story import Story
from headrace.following import Follower
from runtime.ports import LogReader
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import DriftEpisode, Member
from schemas.task import THRESHOLD


class Reading:
    """Reads what is new on the topics and tells it.

    Args:
        log: The pipeline's log.
        story: Who is told.
        prefix: What stands before the row's number in an event's id.
    """

    def __init__(self, log: LogReader, story: Story, prefix: str) -> None:
        self._follower, self._story, self._prefix = Follower(log), story, prefix

    def look(self) -> None:
        """Tell what is new, causes before effects."""
        for message in self._follower.new("drift"):
            told = cloudevents.decode(message.value or b"", message.headers).read(DriftEpisode)
            if told.state == "opened":
                self._story.alarm(message.timestamp)
        for message in self._follower.new("models"):
            if cloudevents.decode(message.value or b"", message.headers).type == cloudevents.type_of(Member):
                self._story.announced(message.timestamp)
        for message in self._follower.new("scored"):
            self._story.scored(message.timestamp, b.decode_headers(message.headers).pool)
        for message in self._follower.new("examples"):
            self._judge(message.timestamp, message.value)

    def _judge(self, time: int, value: bytes | None) -> None:
        columns = b.decode(value).select([b.EVENT_ID, "_prediction", "_label", "_pool"]).to_pylist()
        for row in columns:
            if row["_prediction"] is not None:
                number = int(row[b.EVENT_ID].removeprefix(self._prefix))
                right = (row["_prediction"] >= THRESHOLD) == bool(row["_label"])
                self._story.judged(time, number, row["_pool"], right=right)
