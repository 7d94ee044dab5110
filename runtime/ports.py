"""The ports: what a handler promises to its worker, and what a carrier promises to both.

A *handler* is one step of the pipeline: messages in, messages out. It knows no broker, clock or file. A *worker*
drives it: poll, handle, publish, confirm, commit. A *carrier* moves the messages: kafka-python, Faust or memory.

Positions. Per input partition there are three: the *polled* position is behind the last message that `poll` returned;
a message is *handled* when everything that `handle` made of it is confirmed to be on the log; the *committed* position
is what a restart begins at. Always committed <= handled <= polled: a crash repeats messages, it never skips one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

Header = tuple[str, bytes]


class Message(Protocol):
    """One message as it lies on the log."""

    @property
    def offset(self) -> int:
        """Position in its partition."""

    @property
    def timestamp(self) -> int:
        """The broker's append time, milliseconds since the epoch."""

    @property
    def key(self) -> bytes | None:
        """What compaction and users group by."""

    @property
    def value(self) -> bytes | None:
        """The payload; None is a tombstone."""

    @property
    def headers(self) -> Sequence[Header]:
        """Names and bytes, in order; a name may come twice."""


class Stored(NamedTuple):
    """The plain `Message`, for carriers whose client has no fitting type of its own."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()


class Place(NamedTuple):
    """A partition of a topic, by its logical name (``records``, not ``electricity.records.v1``)."""

    topic: str
    partition: int


class Polled(NamedTuple):
    """Consecutive messages of one partition, in the order of the log; never empty."""

    topic: str
    partition: int
    messages: Sequence[Message]


class Outgoing(NamedTuple):
    """A message to publish. The partition is always explicit: partitioning is the pipeline's, not the client's."""

    topic: str
    partition: int
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[Header] = ()


class Poll(NamedTuple):
    """What happened since the last poll.

    `lost` and `gained` come first: none of `polled` is from a lost partition, and messages of a gained one begin at its
    committed position (at the beginning of the log where there is none). A partition that was taken away and came back
    is in both. `joined` says that the group has given this member its share, which may be empty.
    """

    lost: frozenset[Place]
    gained: frozenset[Place]
    polled: Sequence[Polled]
    joined: bool = False


class Clock(Protocol):
    """Time, so that tests and simulations can have their own."""

    def now(self) -> int:
        """Milliseconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds since some moment; never steps back."""

    def sleep(self, seconds: float) -> None:
        """Return when the seconds are over."""


class LogReader(Protocol):
    """Reads any partition of the pipeline's log, independent of groups and commits.

    Every method blocks until the broker answers and retries while it is away; it never guesses. Methods raise
    `Transient` when the broker is away for longer than a minute.
    """

    def partitions(self, topic: str) -> int:
        """Number of partitions of a topic."""

    def topic_id(self, topic: str) -> str:
        """The broker's id of the topic: another one after it was deleted and made again."""

    def begin(self, place: Place) -> int:
        """Offset of the first message still kept."""

    def end(self, place: Place) -> int:
        """Offset behind the last message that may be read (the last stable offset)."""

    def committed(self, place: Place) -> int | None:
        """Offset that this process's group would restart at, None where nothing was committed."""

    def read(self, place: Place, start: int, stop: int) -> Iterator[Message]:
        """Messages with start <= offset < stop, in order.

        Ends when the *position* reaches `stop`, not when a message came: the last offsets may be transaction markers,
        aborted or compacted. A `start` that retention has deleted begins at the first message kept.
        """


class Handler(Protocol):
    """One step of the pipeline: pure but for the log that it may read in `restore` and `follow`.

    Attributes:
        inputs: Topics read as a member of a group. Several ones are co-partitioned: the owner of partition p of one
            owns partition p of all.
        follows: Topics read whole, without a group, from the positions that `follow` names.
        leads: True: follow only while owning partition 0 of the first input; that makes one instance the leader.
    """

    @property
    def inputs(self) -> tuple[str, ...]:
        """See the class."""

    @property
    def follows(self) -> tuple[str, ...]:
        """See the class."""

    @property
    def leads(self) -> bool:
        """See the class."""

    def restore(self, place: Place, log: LogReader) -> Iterable[Outgoing]:
        """Rebuild the state of a gained partition from the log; return what a crash left unsaid.

        Called in the worker's loop after every own write has landed, before any message of the place is handled.

        Raises:
            HoleFound: The committed position is beyond what the own output covers.
        """

    def follow(self, log: LogReader) -> Mapping[Place, int]:
        """Where following starts. Called when it starts; what lies on the log by then is handled before any input."""

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """Fold the messages into the state and yield what follows from them.

        Each yielded list is on the log before the next one is handed over, and the last one before the next poll; the
        handler makes a list while the one before is on its way. Messages of one list to one partition land in order.
        `InvalidMessage` and `Transient` may be raised before the first yield only, with the state untouched: the
        worker calls again, without the invalid message or a little later.
        """

    def tick(self, now: int) -> Sequence[Outgoing]:
        """What the mere passing of time makes happen, `now` in milliseconds; called about once a second.

        Every commit comes right behind it: what `handle` kept back of the messages so far has to be said here.
        """

    def forget(self, place: Place) -> None:
        """Drop the state of a lost partition; unknown places are fine."""


class Carrier(Protocol):
    """Moves messages for one worker. Used from the worker's thread only, except `wake`."""

    @property
    def log(self) -> LogReader:
        """The log, read outside the group."""

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group. Called once, before the first poll."""

    def follow(self, positions: Mapping[Place, int]) -> None:
        """Replace what is followed; an empty mapping ends following."""

    def following(self) -> Mapping[Place, int]:
        """Positions (offset of the next message) of what is followed."""

    def poll(self, timeout: float) -> Poll:
        """Wait up to `timeout` seconds for messages or a rebalance. Raises `Fatal` when the client is beyond repair."""

    def positions(self) -> Mapping[Place, int]:
        """How far each partition of the group's share has been read, -1 while that is unknown; never waits."""

    def ends(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Ends of these partitions as the broker last told them; asks it anew, but never waits for its answer."""

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Hand messages over, in order per partition; they may still be on their way."""

    def confirm(self) -> None:
        """Return when everything published is on the log and replicated.

        Raises:
            DeliveryFailed: A message was refused. There is no retry: one that follows may have been taken.
        """

    def commit(self, positions: Mapping[Place, int], *, wait: bool = False) -> None:
        """Move the committed positions (offset of the next message); lost partitions are left out.

        Without `wait` a failure shows at a later commit, with it the call returns when the broker has answered or
        after five seconds. A failed commit repeats messages after a restart and is never an error.
        """

    def close(self) -> None:
        """Leave the group at once and let go of every connection. Publishing afterwards is an error."""
