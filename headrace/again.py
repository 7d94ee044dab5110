"""Reads a log again in memory, stage by stage, and compares what the handlers make of it with what was written.

By induction: features are made again from the recorded records; models and episodes from the recorded examples and
scores; scores and predictions from the features and models made again; examples from those scores and the recorded
outcomes. When scores and examples are the recorded ones, every step above stood on its own results. Batch boundaries,
the pool and the checkpoint of weights that scored a batch, and what the online member said, are the recorded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from headrace.beside import Recorded
from headrace.following import whole
from headrace.loop import memory_broker
from headrace.report import episodes, members, newest_per_key, predictions
from headrace.ruling import pools, repeat, rule, weights
from runtime.memory import MemoryBroker, MemoryLog, VirtualClock
from runtime.metrics import Metrics
from runtime.model import Model, fetch
from runtime.ports import Handler, LogReader, Outgoing, Place, Polled
from runtime.signing import Keys, keys_in_memory
from runtime.store import Store
from runtime.weighed import WEIGHTS
from schemas import batch as b
from schemas.cloudevents import decode as decode_event
from schemas.messages import Member
from schemas.pipeline import Pipeline
from services.features.handler import Features
from services.serving.handler import Serving

COMPUTED = ("records", "outcomes")
"""Labels that windows know are covered by features; without such windows nothing covers them."""

Load = Callable[[Member], Model]

JOINED = ("scored", "outcomes")
FACTS = ("state", "family", "kind", "anchor", "statistic", "detected_at", "estimated_start", "rows", "evidence")
"""What an episode says besides positions and epoch, which depend on who wrote and when."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison.

    Attributes:
        what: What was compared.
        recorded: How many the log holds, copies dropped.
        again: How many came out this time.
        different: How many are not the same, missing ones included.
        example: Where the first difference is, empty without one.
    """

    what: str
    recorded: int
    again: int
    different: int
    example: str


def read_again(
    log: LogReader, spec: Pipeline, say: Callable[[str], None] = lambda _: None, trusted: Sequence[str] = ()
) -> Iterator[Finding]:
    """The findings, stage by stage."""
    partitions = log.partitions("records")
    broker = memory_broker(VirtualClock(), partitions, log.partitions("labels"))
    memory, store = MemoryLog(broker, "again"), Store("memory://", keys_in_memory(unsigned=True))
    for topic in ("records", "outcomes"):
        say(f"reading {topic}")
        copy(log, broker, topic)
    say("computing features")
    compute(spec, broker, memory, log)
    yield compare("features", _rows(log, "features"), _rows(memory, "features"))
    say("judging and fitting")
    ruled = rule(spec, log, store, trusted)
    yield compare("episodes", _facts(episodes(log)), _facts(episodes(ruled)))
    yield compare("models", made := _digests(log), _until(max(made, key=int, default="0"), _digests(ruled)))
    say("scoring")
    score(spec, broker, ruled, log, partial(fetch, store, features=spec.feature_types, trusted=trusted), store.keys)
    yield compare("scored", _rows(log, "scored"), _rows(memory, "scored"))
    yield compare("predictions", _values(log), _values(memory))
    say("joining")
    joined = join(spec, memory, log)
    yield compare("examples", _rows(log, "examples"), joined)


def copy(log: LogReader, broker: MemoryBroker, topic: str) -> None:
    """Copy a topic, every message at its offset."""
    for place, message in whole(log, topic):
        repeat(broker, place, message)


def compute(spec: Pipeline, broker: MemoryBroker, memory: MemoryLog, log: LogReader) -> None:
    """Make features from records."""
    handler = Features(spec, 1, Metrics(), share=0)
    for partition in range(memory.partitions("records")):
        place = Place("records", partition)
        handler.restore(place, memory)
        for _, span in _steps(log, Place("features", partition), memory, COMPUTED):
            _feed(broker, handler, span)


def score(spec: Pipeline, broker: MemoryBroker, ruled: MemoryLog, log: LogReader, load: Load, keys: Keys) -> None:
    """Score the features again, each batch by the pool and the weights that the record names."""
    memory, announcements, checkpoints = MemoryLog(broker, "again"), pools(log), weights(log, keys)
    online = Recorded(log, spec.target.width)
    for partition in range(memory.partitions("features")):
        handler = Serving(spec, load, Metrics(), keys=keys, load_online=lambda _: online)
        place, ruling, number = Place("features", partition), 0, 0
        handler.restore(place, memory)
        announced = [each for each in newest_per_key(ruled, Place("models", 0)) if b"/member/" in (each.key or b"")]
        list(handler.handle([Polled("models", 0, announced)]))
        for headers, span in _steps(log, Place("scored", partition), memory, (place.topic,)):
            if headers.weights > number:
                number = headers.weights
                list(handler.handle([Polled(WEIGHTS.topic, 0, [checkpoints[number]])]))
            if headers.pool > ruling:
                ruling = headers.pool
                list(handler.handle([Polled("models", 0, [announcements[ruling]])]))
            _feed(broker, handler, span)


def join(spec: Pipeline, memory: MemoryLog, log: LogReader) -> dict[str, object]:
    """Join the scores with the recorded outcomes, at the recorded boundaries."""
    made: list[Outgoing] = []
    for partition in range(memory.partitions("scored")):
        handler = Features(spec, 1, Metrics(), share=0)
        nothing = MemoryLog(memory_broker(VirtualClock(), memory.partitions("scored")), "again")
        for topic in JOINED:
            handler.restore(Place(topic, partition), nothing)
        for _, span in _steps(log, Place("examples", partition), memory, JOINED):
            made += [each for step in handler.handle(span) for each in step if each.topic == "examples"]
    return _keyed(b.decode(each.value) for each in made)


def compare(what: str, recorded: dict[str, object], again: dict[str, object]) -> Finding:
    """Compare by identity."""
    different = [key for key in recorded.keys() | again.keys() if recorded.get(key) != again.get(key)]
    example = ""
    if different:
        key = min(different)
        example = f"{key}: recorded {recorded.get(key, 'nothing')}, again {again.get(key, 'nothing')}"
    return Finding(what, len(recorded), len(again), len(different), example)


def _feed(broker: MemoryBroker, handler: Handler, polled: Sequence[Polled]) -> None:
    for step in handler.handle(polled):
        for each in step:
            broker.append(Place(each.topic, each.partition), each.value, each.key, each.headers)


def _steps(
    log: LogReader, output: Place, memory: MemoryLog, inputs: tuple[str, ...]
) -> Iterator[tuple[b.Headers, list[Polled]]]:
    """The recorded outputs that moved on, each with the inputs that it covers for the first time."""
    marks = dict.fromkeys(inputs, -1)
    for message in log.read(output, log.begin(output), log.end(output)):
        headers = b.decode_headers(message.headers)
        span = []
        for topic, (_, last) in headers.coverage.items() if headers.final else ():
            place = Place(topic, output.partition)
            messages = list(memory.read(place, marks[topic] + 1, last + 1))
            span += [Polled(*place, messages)] if messages else []
            marks[topic] = max(marks[topic], last)
        if span:
            yield headers, span


def _rows(log: LogReader, topic: str) -> dict[str, object]:
    return _keyed(b.decode(message.value) for _, message in whole(log, topic))


def _keyed(batches: Iterator[pa.RecordBatch]) -> dict[str, object]:
    found: dict[str, object] = {}
    for batch in batches:
        for row in batch.to_pylist():
            key = "-".join(str(row[name]) for name in (b.SOURCE, b.POSITION, b.ROW, b.REVISION) if name in row)
            found.setdefault(key, row)
    return found


def _values(log: LogReader) -> dict[str, object]:
    """Envelopes, not bytes: a run in the other form of CloudEvents said the same."""
    told = (decode_event(each.value or b"", each.headers) for each in predictions(log))
    return {each.id: each for each in told}


def _until(newest: str, models: dict[str, object]) -> dict[str, object]:
    """Those that the log has had time for: a fit takes its time where rows come, and none where they are read again."""
    return {version: digest for version, digest in models.items() if int(version) <= int(newest)}


def _facts(found: list[dict[str, object]]) -> dict[str, object]:
    return {str(each["id"]): {name: each[name] for name in FACTS} for each in found}


def _digests(log: LogReader) -> dict[str, object]:
    return {str(each["version"]): each["digest"] for each in members(log)}
