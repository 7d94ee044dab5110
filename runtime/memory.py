"""The carrier of one process: partitions, groups, offsets, rebalances and crashes on demand, in virtual time.

Deterministic: the same calls give the same log. It is what tests, the simulator and the replay of a log run on, and it
passes the same contract suite as the carriers on Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from runtime.errors import DeliveryFailed, WrongSetup
from runtime.ports import Header, Message, Outgoing, Place, Poll, Polled, Stored


class VirtualClock:
    """Time that moves when told.

    Args:
        now: Milliseconds since the epoch at the start.
    """

    def __init__(self, now: int = 0) -> None:
        self._start = self._now = float(now)

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._now)

    def monotonic(self) -> float:
        """Seconds since the start."""
        return (self._now - self._start) / 1000

    def sleep(self, seconds: float) -> None:
        """Advance."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds * 1000


class Group:
    """A consumer group: members, who owns what, and the committed positions."""

    def __init__(self) -> None:
        self.members: dict[MemoryCarrier, tuple[str, ...]] = {}
        self.committed: dict[Place, int] = {}


class MemoryBroker:
    """Topics in memory.

    Args:
        partitions: Number of partitions per topic, by logical name.
        clock: Whose time stamps the messages.
        name: What tells its topics from those of another broker, where something of them outlives both.
    """

    def __init__(self, partitions: Mapping[str, int], clock: VirtualClock | None = None, name: str = "") -> None:
        self.clock, self.name = clock or VirtualClock(), name
        self._partitions = dict(partitions)
        self._log: dict[Place, list[Message | None]] = {
            Place(topic, p): [] for topic, count in partitions.items() for p in range(count)
        }
        self.groups: dict[str, Group] = {}

    def append(
        self, place: Place, value: bytes | None, key: bytes | None = None, headers: Sequence[Header] = ()
    ) -> int:
        """Write a message; returns its offset."""
        log = self.log(place)
        log.append(Stored(len(log), self.clock.now(), key, value, tuple(headers)))
        return len(log) - 1

    def skip(self, place: Place) -> int:
        """Use up an offset without a message, as a transaction marker does."""
        log = self.log(place)
        log.append(None)
        return len(log) - 1

    def forget(self) -> None:
        """Let go of every message; offsets stay, as where all were compacted away."""
        for log in self._log.values():
            log[:] = [None] * len(log)

    def log(self, place: Place) -> list[Message | None]:
        """The log of a partition by offset; None where there is no message."""
        try:
            return self._log[place]
        except KeyError:
            raise WrongSetup(f"no partition {place.partition} of topic {place.topic!r} in memory") from None

    def partitions(self, topic: str) -> int:
        """Number of partitions of a topic."""
        if topic not in self._partitions:
            raise WrongSetup(f"no topic {topic!r} in memory")
        return self._partitions[topic]

    def join(self, name: str, member: MemoryCarrier, topics: tuple[str, ...]) -> None:
        """Add a member to a group and share the partitions out again."""
        group = self.groups.setdefault(name, Group())
        group.members[member] = topics
        self.rebalance(group)

    def leave(self, name: str, member: MemoryCarrier) -> None:
        """Remove a member, dead or alive; what it did not commit is handled again by the others."""
        group = self.groups.get(name, Group())
        if group.members.pop(member, None) is not None:
            member.assign(frozenset())
            self.rebalance(group)

    def rebalance(self, group: Group) -> None:
        """Range assignment: the owner of partition p of one topic owns partition p of all."""
        targets: dict[MemoryCarrier, set[Place]] = {member: set() for member in group.members}
        members = list(group.members)
        for topic in sorted({topic for topics in group.members.values() for topic in topics}):
            count = self.partitions(topic)
            for partition in range(count):
                targets[members[partition * len(members) // count]].add(Place(topic, partition))
        for member, places in targets.items():
            member.assign(frozenset(places))


class MemoryLog:
    """The `LogReader` of a broker in memory, for one group."""

    def __init__(self, broker: MemoryBroker, group: str) -> None:
        self._broker, self._group = broker, group

    def partitions(self, topic: str) -> int:
        """Number of partitions of a topic."""
        return self._broker.partitions(topic)

    def topic_id(self, topic: str) -> str:
        """Topics in memory are never made again, so their name and the broker's will do."""
        return f"{topic}-{self._broker.name}" if self._broker.name else topic

    def begin(self, place: Place) -> int:
        """Memory keeps everything."""
        self._broker.log(place)
        return 0

    def end(self, place: Place) -> int:
        """Offset behind the last message."""
        return len(self._broker.log(place))

    def committed(self, place: Place) -> int | None:
        """The group's position."""
        return self._broker.groups.get(self._group, Group()).committed.get(place)

    def read(self, place: Place, start: int, stop: int) -> Iterator[Message]:
        """Messages with start <= offset < stop."""
        for message in self._broker.log(place)[max(0, start) : stop]:
            if message is not None:
                yield message


class MemoryCarrier:
    """A member of a group on a `MemoryBroker`.

    Args:
        broker: The broker.
        group: Name of the consumer group.
        max_messages: Most messages of one partition that a poll returns.
        on_publish: Called with each message before it is written; raising there is a crash in the middle of a batch.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        group: str,
        *,
        max_messages: int = 500,
        on_publish: Callable[[Outgoing], None] | None = None,
    ) -> None:
        self._broker, self._group, self._max = broker, group, max_messages
        self._on_publish = on_publish or (lambda _: None)
        self.target: frozenset[Place] = frozenset()
        self._owned: frozenset[Place] = frozenset()
        self._taken: frozenset[Place] = frozenset()
        self._positions: dict[Place, int] = {}
        self._followed: dict[Place, int] = {}
        self._closed = False
        self.log = MemoryLog(broker, group)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group."""
        self._broker.join(self._group, self, tuple(topics))

    def assign(self, places: frozenset[Place]) -> None:
        """Own these from the next poll on; what is taken away meanwhile is lost even if it comes back before."""
        self._taken |= self._owned - places
        self.target = places

    def follow(self, positions: Mapping[Place, int]) -> None:
        """Replace what is followed."""
        self._followed = dict(positions)

    def following(self) -> Mapping[Place, int]:
        """Positions of what is followed."""
        return self._followed

    def poll(self, timeout: float) -> Poll:  # noqa: ARG002 - memory has nothing to wait for
        """What is there; never waits."""
        lost, gained = self._taken, self.target - (self._owned - self._taken)
        self._owned, self._taken = self.target, frozenset()
        for place in lost:
            del self._positions[place]
        for place in gained:
            self._positions[place] = self.log.committed(place) or 0
        followed = [*self._fetch(self._followed)]
        return Poll(lost, gained, [*followed, *self._fetch(self._positions)])

    def _fetch(self, positions: dict[Place, int]) -> Iterator[Polled]:
        for place in sorted(positions):
            log, start = self._broker.log(place), positions[place]
            stop = min(start + self._max, len(log))
            messages = [message for message in log[start:stop] if message is not None]
            positions[place] = stop
            if messages:
                yield Polled(place.topic, place.partition, messages)

    def positions(self) -> Mapping[Place, int]:
        """How far each partition of the group's share has been read."""
        return dict(self._positions)

    def ends(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Ends of these partitions."""
        return {place: self.log.end(place) for place in places}

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Write at once."""
        if self._closed:
            raise DeliveryFailed("the carrier is closed")
        for each in outgoing:
            self._on_publish(each)
            self._broker.append(Place(each.topic, each.partition), each.value, each.key, each.headers)

    def confirm(self) -> None:
        """Nothing is ever under way."""

    def commit(self, positions: Mapping[Place, int], *, wait: bool = False) -> None:  # noqa: ARG002 - always at once
        """Move the group's positions of what is still owned."""
        group = self._broker.groups.setdefault(self._group, Group())
        group.committed.update({place: offset for place, offset in positions.items() if place in self.target})

    def close(self) -> None:
        """Leave the group."""
        self._closed = True
        self._broker.leave(self._group, self)
