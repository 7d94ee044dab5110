"""The whole loop in one process: the handlers of all five services on the memory carrier, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

from runtime.memory import MemoryBroker, MemoryCarrier, MemoryLog, VirtualClock
from runtime.metrics import Metrics
from runtime.ports import Handler, Place
from runtime.worker import Worker
from schemas.pipeline import Pipeline
from schemas.topics import TOPICS

PARTITIONS = 4
SOURCES = 6
TURN = 400
"""Messages between two rounds of the services: how far they may lag behind the stream."""


def memory_broker(
    clock: VirtualClock, partitions: int = PARTITIONS, sources: int = SOURCES, name: str = ""
) -> MemoryBroker:
    """A broker with all topics of the map; brokers of other names are other logs."""
    counts = {"P": partitions, "any": sources, "one": 1}
    return MemoryBroker({topic.name: counts[topic.partitions] for topic in TOPICS}, clock, name)


class Loop:
    """All services on one broker.

    Args:
        handlers: Group and handler of each step, upstream first.
        spec: The pipeline.
        broker: Where the topics are.
        max_messages: Most messages of a partition per poll.
    """

    def __init__(
        self,
        handlers: list[tuple[str, Callable[[Metrics], Handler]]],
        spec: Pipeline,
        broker: MemoryBroker,
        max_messages: int = 500,
    ) -> None:
        self.broker, self.clock, self.metrics = broker, broker.clock, Metrics()
        self._workers = [
            Worker(
                make(self.metrics),
                MemoryCarrier(broker, group, max_messages=max_messages),
                pipeline=spec.digest,
                metrics=self.metrics,
                clock=self.clock,
            )
            for group, make in handlers
        ]
        for worker in self._workers:
            worker.start()
        self.settle()

    @property
    def log(self) -> MemoryLog:
        """Everything that was said."""
        return MemoryLog(self.broker, "reader")

    def say(self, topic: str, partition: int, value: bytes, key: bytes | None) -> None:
        """Produce a message as a user would."""
        self.broker.append(Place(topic, partition), value, key)

    def settle(self) -> None:
        """Step every worker until nobody has anything to do."""
        while sum(worker.step(0) for worker in self._workers):
            pass
