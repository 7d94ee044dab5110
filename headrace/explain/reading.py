"""Reads what stories are made of. Small topics are read whole; of `weights` single checkpoints are looked up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime

import pyarrow.compute as pc

from headrace.drift.reading import stories
from headrace.explain.ledger import Entry, Ledger, Weighing, entry_of
from headrace.following import whole
from runtime.announced import Announced
from runtime.ports import LogReader, Message, Place
from runtime.signing import Keys, Untrusted
from runtime.weighed import WEIGHTS
from runtime.weighed import read as weights_of
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Decision, Member, Pool, Scalar, Wish, moment
from schemas.pooling import Weights

EXAMPLES = "examples"
SHOWN = 8
"""Checkpoints of the weights by which a story tells how they moved."""


def ledger(log: LogReader, keys: Keys) -> Ledger:
    """What the topics decisions, drift, models and operator say; of models what a trusted key signed."""
    entries, pools, members = list(_decisions(log)), [], dict[int, tuple[datetime, Member]]()
    for time, said in _announced(log, keys):
        if isinstance(said, Pool):
            pools.append((time, said))
        else:
            members[said.version] = time, said
    return Ledger(
        (*_wishes(log, entries), *entries),
        stories(log),
        {version: said for version, (_, said) in members.items()},
        {version: time for version, (time, _) in members.items()},
        tuple(pools),
    )


def _announced(log: LogReader, keys: Keys) -> Iterator[tuple[datetime, Member | Pool]]:
    """Members and pools, but for those of a controller that was replaced, and what nobody who is trusted signed."""
    announced = Announced(keys)
    for _, message in whole(log, "models"):
        if (said := announced.take(message)) is not None:
            yield _time(cloudevents.decode(message.value or b"", message.headers)), said


def _decisions(log: LogReader) -> Iterator[Entry]:
    """Every decision once; services may repeat them after a crash."""
    seen, before = set[str](), moment(0)
    for envelope, said in _events(log, "decisions"):
        if isinstance(said, Decision) and envelope.id not in seen:
            seen.add(envelope.id)
            entry = entry_of(said, before)
            before = entry.near
            yield entry


def _wishes(log: LogReader, decisions: Sequence[Entry]) -> Iterator[Entry]:
    """What operators wished, in front of its answer: their clock is no event time."""
    answers = {str(each.evidence.get("wish", each.subject)): each.near for each in reversed(decisions)}
    answers |= {each.subject: each.near for each in reversed(decisions)}
    for envelope, said in _events(log, "operator"):
        if isinstance(said, Wish):
            outcome = f"{said.kind} {said.subject}" if said.id in answers else f"{said.kind}, not answered yet"
            evidence: dict[str, Scalar] = {"who": said.who, "wish": said.kind, "of": said.subject}
            near = answers.get(said.id, _time(envelope))
            yield Entry(None, near, "operator", "wished", said.id, outcome, said.reason, evidence)


def _events(log: LogReader, topic: str) -> Iterator[tuple[cloudevents.Envelope, object]]:
    """What a topic says, but for what this version cannot read: foreign messages, or a newer version's."""
    for _, message in whole(log, topic):
        with contextlib.suppress(cloudevents.EnvelopeError):
            envelope = cloudevents.decode(message.value or b"", message.headers)
            yield envelope, envelope.message()


def _time(envelope: cloudevents.Envelope) -> datetime:
    return moment(0) if envelope.time is None else datetime.fromisoformat(envelope.time)


# --- weights ----------------------------------------------------------------------------------


def weighings(log: LogReader, keys: Keys, number: int = SHOWN) -> list[Weighing]:
    """Checkpoints spread evenly over those that are kept, the newest among them, oldest first."""
    begin, end = log.begin(WEIGHTS), log.end(WEIGHTS)
    count = min(number, end - begin)
    offsets = sorted({end - 1 - (end - 1 - begin) * step // max(count - 1, 1) for step in range(count)})
    found = [_first(log, keys, offset, offset + 1) for offset in offsets]
    newest, told = 0, []
    for said in (each for each in found if each is not None):
        if said.epoch >= newest:
            newest = said.epoch
            told.append(Weighing(_written(log, said), said))
    return told


def numbered(log: LogReader, keys: Keys, number: int) -> Weights | None:
    """The checkpoint of a number; None where it is no longer kept. Numbers ascend, so few messages are read."""
    low, high = log.begin(WEIGHTS), log.end(WEIGHTS)
    while low < high:
        middle = (low + high) // 2
        said = _first(log, keys, middle, high)
        if said is None or said.number >= number:
            high = middle
        else:
            low = middle + 1
    said = _first(log, keys, low, log.end(WEIGHTS))
    return said if said is not None and said.number == number else None


def _first(log: LogReader, keys: Keys, start: int, stop: int) -> Weights | None:
    """The first checkpoint of a stretch that a trusted key signed."""
    for message in log.read(WEIGHTS, start, stop):
        with contextlib.suppress(Untrusted, ValueError, RecursionError):
            return weights_of(message, keys)
    return None


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
