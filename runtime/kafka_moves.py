"""What kafka-python says about partitions, in the words of the ports: names, and moves between members."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.protocol.consumer import OffsetSpec

from runtime.ports import Place
from schemas.topics import physical


class Names:
    """Places by their logical and their physical name, each computed once.

    Args:
        pipeline: Name of the pipeline, the prefix of its topics.
    """

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._physical: dict[Place, TopicPartition] = {}
        self._logical: dict[TopicPartition, Place] = {}

    def physical(self, place: Place) -> TopicPartition:
        """What the client calls it."""
        if place not in self._physical:
            self._physical[place] = TopicPartition(physical(self._pipeline, place.topic), place.partition)
        return self._physical[place]

    def logical(self, partition: TopicPartition) -> Place:
        """What the pipeline calls it."""
        if partition not in self._logical:
            topic = partition.topic.removeprefix(f"{self._pipeline}.").rpartition(".")[0]
            self._logical[partition] = Place(topic, partition.partition)
        return self._logical[partition]


class Moves(ConsumerRebalanceListener):  # type: ignore[misc]
    """What was lost and gained since the last poll.

    The client calls it on its network thread, where blocking would stop the heartbeat: it takes notes, no more.

    Args:
        names: What the client calls a place.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._lock = threading.Lock()
        self._owned: frozenset[Place] = frozenset()
        self._lost: set[Place] = set()
        self._gained: set[Place] = set()
        self.joined = False
        """Whether the group has ever given this member its share, were it an empty one."""

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Take note."""
        places = {self._names.logical(each) for each in revoked}
        with self._lock:
            self._lost |= places
            self._gained -= places

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """Take note: for us it makes no difference."""
        self.on_partitions_revoked(lost)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Take note."""
        with self._lock:
            self.joined = True
            self._gained |= {self._names.logical(each) for each in assigned}

    def any(self) -> bool:
        """Whether `take` would return something."""
        with self._lock:
            return bool(self._lost or self._gained)

    def take(self) -> tuple[frozenset[Place], frozenset[Place]]:
        """What was lost and gained since the last call."""
        with self._lock:
            lost, gained = frozenset(self._lost) & self._owned, frozenset(self._gained)
            self._owned = (self._owned - lost) | gained
            self._lost, self._gained = set(), set()
        return lost, gained


class Ends:
    """Where partitions end, asked without waiting: the consumer's own call would hold up its user for seconds.

    Args:
        names: What the client calls a place.
        timeout_ms: How long an answer may take.
    """

    def __init__(self, names: Names, timeout_ms: int) -> None:
        self._names, self._timeout_ms = names, timeout_ms
        self._asked: Any = None
        self._told: Mapping[Place, int] = {}

    def ask(self, consumer: KafkaConsumer, places: Sequence[Place]) -> Mapping[Place, int]:
        """What was told by now. One question at a time; a failed one leaves what was told before."""
        if places and (self._asked is None or self._asked.is_done):
            fetcher = consumer._fetcher  # noqa: SLF001
            wanted = {self._names.physical(each): OffsetSpec.LATEST for each in places}
            ask = fetcher._fetch_offsets_by_times_async  # noqa: SLF001
            self._asked = fetcher._net.call_soon_with_future(ask, wanted, self._timeout_ms)  # noqa: SLF001
            self._asked.add_callback(self._answered)
        return self._told

    def _answered(self, found: Mapping[TopicPartition, Any]) -> None:
        self._told = {**self._told, **{self._names.logical(each): end.offset for each, end in found.items()}}
