"""Reads what stories are made of. Small topics are read whole; of `weights` single checkpoints are looked up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pyarrow.compute as pc

from headrace.drift.reading import stories
from headrace.explain.ledger import Entry, Ledger, Weighing, entry_of
from headrace.following import whole
from runtime.ports import LogReader, Message, Place
from runtime.weighed import WEIGHTS
from runtime.weighed import read as weights_of
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Decision, Member, Pool, Wish, moment
from schemas.pooling import Weights

EXAMPLES = "examples"
SHOWN = 8
"""Checkpoints of the weights by which a story tells how they moved."""


def ledger(log: LogReader) -> Ledger:
    """What the topics decisions, drift, models and operator say."""
    read = _Reading(log)
    entries, pools, members = tuple(read.decisions()), [], dict[int, tuple[datetime, Member]]()
    for time, said in read.announced():
        if isinstance(said, Pool):
            pools.append((time, said))
        else:
            members[said.version] = time, said
    return Ledger(
        entries,
        stories(log),
        {version: said for version, (_, said) in members.items()},
        {version: time for version, (time, _) in members.items()},
        tuple(pools),
        {each.id: each for each in read.wishes()},
        read.unreadable,
    )


class _Reading:
    """One pass over the small topics."""

    def __init__(self, log: LogReader) -> None:
        self._log, self.unreadable = log, 0

    def decisions(self) -> Iterator[Entry]:
        """Every decision once; services may repeat them after a crash."""
        seen, before = set[str](), moment(0)
        for envelope, said in self._events("decisions"):
            if isinstance(said, Decision) and envelope.id not in seen:
                seen.add(envelope.id)
                entry = entry_of(said, before)
                before = entry.near
                yield entry

    def announced(self) -> Iterator[tuple[datetime, Member | Pool]]:
        """Members and pools, but for those of a controller that was replaced."""
        epoch = 0
        for envelope, said in self._events("models"):
            if isinstance(said, (Member, Pool)) and said.epoch >= epoch:
                epoch = said.epoch
                yield _time(envelope), said

    def wishes(self) -> Iterator[Wish]:
        """What operators wished."""
        return (said for _, said in self._events("operator") if isinstance(said, Wish))

    def _events(self, topic: str) -> Iterator[tuple[cloudevents.Envelope, object]]:
        for _, message in whole(self._log, topic):
            try:
                envelope = cloudevents.decode(message.value or b"", message.headers)
                yield envelope, envelope.message()
            except cloudevents.EnvelopeError:
                self.unreadable += message.value is not None


def _time(envelope: cloudevents.Envelope) -> datetime:
    return moment(0) if envelope.time is None else datetime.fromisoformat(envelope.time)


# --- weights ----------------------------------------------------------------------------------


def weighings(log: LogReader, number: int = SHOWN) -> list[Weighing]:
    """Checkpoints spread evenly over those that are kept, the newest among them, oldest first."""
    begin, end = log.begin(WEIGHTS), log.end(WEIGHTS)
    count = min(number, end - begin)
    offsets = sorted({end - 1 - (end - 1 - begin) * step // max(count - 1, 1) for step in range(count)})
    found = [_first(log, offset, offset + 1) for offset in offsets]
    newest, told = 0, []
    for said in (each for each in found if each is not None):
        if said.epoch >= newest:
            newest = said.epoch
            told.append(Weighing(_written(log, said), said))
    return told


def numbered(log: LogReader, number: int) -> Weights | None:
    """The checkpoint of a number; None where it is no longer kept. Numbers ascend, so few messages are read."""
    low, high = log.begin(WEIGHTS), log.end(WEIGHTS)
    while low < high:
        middle = (low + high) // 2
        said = _first(log, middle, high)
        if said is None or said.number >= number:
            high = middle
        else:
            low = middle + 1
    said = _first(log, low, log.end(WEIGHTS))
    return said if said is not None and said.number == number else None


def _first(log: LogReader, start: int, stop: int) -> Weights | None:
    return next((said for each in log.read(WEIGHTS, start, stop) if (said := weights_of(each)) is not None), None)


def _written(log: LogReader, said: Weights) -> datetime | None:
    """Label time of the newest row that a checkpoint has from one partition."""
    for partition, offset in sorted(said.covers.items()):
        place = Place(EXAMPLES, partition)
        if log.begin(place) <= offset < log.end(place):
            found: Iterator[Message] = log.read(place, offset, offset + 1)
            times = [pc.max(b.decode(each.value).column(b.LABEL_TIME)).as_py() for each in found]
            known: list[datetime] = [each for each in times if each is not None]
            if known:
                return max(known)
    return None
