"""Counts, judges and fits again what a log holds: what would be said of it today."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

import pyarrow.compute as pc

from headrace.following import whole
from headrace.loop import TURN, Loop, memory_broker
from runtime.memory import MemoryBroker, MemoryLog, VirtualClock
from runtime.ports import LogReader, Message, Place
from runtime.references import References
from runtime.signing import Keys
from runtime.store import Store
from runtime.weighed import WEIGHTS, read
from schemas import batch as b
from schemas.cloudevents import decode as decode_event
from schemas.messages import Pool
from schemas.pipeline import Pipeline
from services.drift.handler.counting import Counter
from services.drift.handler.judging import Judge
from services.training.handler import Training


def repeat(broker: MemoryBroker, place: Place, message: Message) -> None:
    """Write a message at its offset."""
    while len(broker.log(place)) < message.offset:
        broker.skip(place)
    broker.append(place, message.value, message.key, message.headers)


def rule(spec: Pipeline, log: LogReader, store: Store, trusted: Sequence[str] = ()) -> MemoryLog:
    """Count, judge and fit again what is recorded of examples and scores; a log of what is said then.

    Messages come in the order in which they were written, for a controller remembers the newest rows alone; and scores,
    with labels or without, when their members are announced this time: they are counted with what the anchor knows. Who
    has a seat in the pool may be another one this time, for the weights depend on how partitions interleaved: what was
    recorded of pools and weights rules where rows are scored again. Fits and episodes do not depend on it.
    """
    broker = memory_broker(VirtualClock(), log.partitions("examples"))
    loop = Loop(
        [
            ("drift", lambda metrics: Counter(spec, References(store, metrics), metrics)),
            ("drift-judge", lambda metrics: Judge(spec, References(store, metrics), metrics)),
            ("training", lambda metrics: Training(spec, store, metrics, trusted=trusted)),
        ],
        spec,
        broker,
    )
    waiting: dict[Place, deque[Message]] = defaultdict(deque)
    for number, (place, message) in enumerate(_written(log, ("examples", "scored")), 1):
        waiting[place].append(message)
        if number % TURN == 0:
            _release(broker, loop, waiting)
    while _release(broker, loop, waiting):
        pass
    return loop.log


def _written(log: LogReader, topics: Sequence[str]) -> list[tuple[Place, Message]]:
    """Messages in the order of their times; those of a partition as they lie there, even if its clock stepped back."""
    found, latest = [], dict[Place, int]()
    for place, message in (each for topic in topics for each in whole(log, topic)):
        latest[place] = max(message.timestamp, latest.get(place, message.timestamp))
        found.append((latest[place], place, message))
    return [(place, message) for _, place, message in sorted(found, key=lambda each: each[0])]


def _release(broker: MemoryBroker, loop: Loop, waiting: dict[Place, deque[Message]]) -> int:
    """Let the services have what they may have by now; how many messages that were."""
    newest, released = _newest(loop.log), 0
    for place, messages in waiting.items():
        while messages and _answered(messages[0]) <= newest:
            repeat(broker, place, messages.popleft())
            released += 1
    loop.settle()
    return released


def _answered(message: Message) -> int:
    """The newest member that scored rows of a message, 0 for none."""
    return pc.max(b.decode(message.value).column(b.MEMBERS).flatten()).as_py() or 0


def _newest(log: LogReader) -> int:
    """The newest member that is announced, 0 for none."""
    keys = [(message.key or b"").rpartition(b"/member/") for _, message in whole(log, "models")]
    return max((int(version) for _, found, version in keys if found), default=0)


def pools(log: LogReader) -> dict[int, Message]:
    """The announcement of each pool by its version."""
    found: dict[int, Message] = {}
    for _, message in whole(log, "models"):
        if (message.key or b"").endswith(b"/pool"):
            pool = decode_event(message.value or b"", message.headers).read(Pool)
            found.setdefault(pool.version, message)
    return found


def weights(log: LogReader, keys: Keys) -> dict[int, Message]:
    """The checkpoint of each number, of the highest epoch."""
    found: dict[int, tuple[int, Message]] = {}
    for _, message in whole(log, WEIGHTS.topic):
        said = read(message, keys)
        if said.epoch >= found.get(said.number, (0,))[0]:
            found[said.number] = said.epoch, message
    return {number: message for number, (_, message) in found.items()}
