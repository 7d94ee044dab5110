"""The join alone: what a waiting row takes, how fast rows meet their labels, and how long a restart takes.

    python -m benchmarks.join [--json] [--rows 5000000]

One partition, one process. Rows and labels are the messages of `scored` and `outcomes`, decoding included, written
examples as well. Restart: a million rows wait, a new joiner reads them back from a real Kafka. With fewer rows than
five million all parts shrink alike; `pending_5m_bytes` and `restart_1m_seconds` are then scaled up, row by row.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import pyarrow as pa
from confluent_kafka import Producer
from rich.console import Console

from benchmarks.lab import Lab, lab
from runtime.bootstrap import bootstrap
from runtime.kafka import KafkaLog
from runtime.memory import MemoryBroker, MemoryLog, VirtualClock
from runtime.metrics import Metrics
from runtime.ports import Outgoing
from runtime.stage import Decoded
from schemas import batch as b
from schemas.pipeline import parse
from schemas.topics import physical
from services.features.domain.computing import Computation
from services.features.joining import Joiner

MILLION = 1_000_000
MOST = 5 * MILLION
NUMBERS = 8
START = 1_790_000_000_000
FIELDS = ", ".join(f"f{i}: {{type: number}}" for i in range(NUMBERS))
SPEC = parse(f"""
pipeline: join
task: binary
events: {{id: event_id, time: at, fields: {{at: {{type: timestamp}}, {FIELDS}}}}}
labels: {{id: event_id, time: known_at, field: good, type: boolean, horizon: 30d}}
features: {{{", ".join(f"f{i}: f{i}" for i in range(NUMBERS))}}}
""")

Encoded = tuple[bytes, b.Headers]


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--rows", type=int, default=MOST, help="rows that wait")
    given = parser.parse_args()
    console = Console(stderr=True)
    result = measure(given.rows, lambda text: console.print(text, style="dim"))
    print(json.dumps(result) if given.json else "\n".join(f"{key}: {value:,.1f}" for key, value in result.items()))


def measure(count: int, say: Callable[[str], None]) -> dict[str, float]:
    """All figures, see the module."""
    say(f"{count} rows wait")
    joiner, size, filling = _pending(count)
    say("their labels come")
    meeting = _join(joiner, count)
    again = max(1, count // 5)
    say(f"restart with {again} waiting rows")
    with lab() as at:
        seconds = _restart(at, again)
    return {
        "rows_per_core_second": count / (filling + meeting),
        "pending_5m_bytes": size * MOST / count,
        "pending_row_bytes": size / count,
        "restart_1m_seconds": seconds * MILLION / again,
    }


@dataclass(slots=True)
class Feed:
    """Messages of a topic as their reader decodes them, and the CPU seconds that making them took."""

    topic: str
    spent: float = 0.0

    def messages(self, count: int) -> Iterator[Encoded]:
        """Full messages of so many rows in all."""
        make = _scored if self.topic == "scored" else _outcomes
        for first in range(0, count, b.MAX_ROWS):
            before = time.process_time()
            batch = make(first, min(b.MAX_ROWS, count - first))
            encoded = b.encode(batch), _headers(self.topic, batch)
            self.spent += time.process_time() - before
            yield encoded

    def decoded(self, count: int) -> Iterator[Decoded]:
        """The same, as a joiner takes them."""
        for offset, (value, headers) in enumerate(self.messages(count)):
            yield Decoded(offset, b.decode(value), headers)


def _joiner() -> Joiner:
    joiner = Joiner(SPEC, 0, Computation(SPEC).schema, 1)
    joiner.restore(MemoryLog(MemoryBroker({"scored": 1, "outcomes": 1, "examples": 1}, VirtualClock()), "bench"))
    return joiner


def _pending(count: int) -> tuple[Joiner, int, float]:
    """A joiner in which so many rows wait, by how much the process grew, and the CPU seconds."""
    joiner, feed, metrics = _joiner(), Feed("scored"), Metrics()
    before, start = psutil.Process().memory_info().rss, time.process_time()
    for each in feed.decoded(count):
        joiner.handle({"scored": [each]}, metrics)
    used = time.process_time() - start - feed.spent
    if joiner.waiting[0] != count:
        raise RuntimeError(f"{joiner.waiting[0]} of {count} rows wait")
    return joiner, psutil.Process().memory_info().rss - before, used


def _join(joiner: Joiner, count: int) -> float:
    """CPU seconds until every row has met its label."""
    feed, metrics, start = Feed("outcomes"), Metrics(), time.process_time()
    for each in feed.decoded(count):
        joiner.handle({"outcomes": [each]}, metrics)
    if any(joiner.waiting):
        raise RuntimeError(f"{joiner.waiting} rows and labels are left")
    return time.process_time() - start - feed.spent


def _restart(at: Lab, count: int) -> float:
    """Seconds until a new joiner has read back so many waiting rows."""
    bootstrap(at.brokers, SPEC, partitions=1, event_partitions=1)
    producer = Producer({"bootstrap.servers": at.brokers, "message.max.bytes": 8_000_000})
    living, metrics = _joiner(), Metrics()
    for offset, (value, headers) in enumerate(Feed("scored").messages(count)):
        _produce(producer, "scored", value, b.encode_headers(headers))
        _say(producer, living.handle({"scored": [Decoded(offset, b.decode(value), headers)]}, metrics)[1])
    _say(producer, living.tick())
    producer.flush()
    log = KafkaLog(at.brokers, SPEC.pipeline, "bench")
    try:
        start = time.monotonic()
        joiner = Joiner(SPEC, 0, Computation(SPEC).schema, 1)
        joiner.restore(log)
        seconds = time.monotonic() - start
    finally:
        log.close()
    if joiner.waiting[0] != count:
        raise RuntimeError(f"{joiner.waiting[0]} of {count} rows wait after the restart")
    return seconds


def _say(producer: Producer, outgoing: Sequence[Outgoing]) -> None:
    for each in outgoing:
        _produce(producer, each.topic, each.value or b"", each.headers)


def _produce(producer: Producer, topic: str, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
    told: list[tuple[str, str | bytes | None]] = list(headers)
    producer.produce(physical(SPEC.pipeline, topic), value, None, 0, headers=told)
    producer.poll(0)


def _headers(topic: str, batch: pa.RecordBatch) -> b.Headers:
    newest = int(batch.column(b.TIME)[-1].value)
    stream = b.STREAM[topic]
    through = b.Through(watermarks={stream: {0: (newest, False)}}, highest={stream: newest})
    return b.Headers(pipeline=SPEC.digest, topic_id=stream, through=through)


def _scored(first: int, count: int) -> pa.RecordBatch:
    rng = np.random.default_rng(first)
    columns = _identity(first, count, 0)
    columns |= {f"f{i}": pa.array(rng.normal(size=count)) for i in range(NUMBERS)}
    columns |= {
        b.PREDICTION: pa.array(rng.random(count)),
        b.POOL: pa.array(np.ones(count, np.int64)),
        b.MEMBERS: pa.array([[1]] * count, pa.list_(pa.int32())),
        b.OUTPUTS: pa.array([[0.5]] * count, pa.list_(pa.float64())),
    }
    return pa.RecordBatch.from_pydict(columns)


def _outcomes(first: int, count: int) -> pa.RecordBatch:
    """Labels an hour later, each with its message."""
    columns = _identity(first, count, 3_600_000)
    values = [b'{"event_id":"e-%012d","known_at":%d,"good":true}' % (i, START) for i in range(first, first + count)]
    columns |= {
        b.LABEL: pa.array(np.ones(count, np.int8)),
        b.KEY: pa.nulls(count, pa.binary()),
        b.VALUE: pa.array(values, pa.binary()),
        b.HEADERS: pa.nulls(count, pa.binary()),
    }
    return pa.RecordBatch.from_pydict(columns)


def _identity(first: int, count: int, later: int) -> dict[str, pa.Array]:
    """Ten rows in a millisecond."""
    index = np.arange(first, first + count)
    values = {
        b.SOURCE: np.zeros(count, np.int16),
        b.POSITION: index,
        b.ROW: np.zeros(count, np.int32),
        b.EVENT_ID: [f"e-{i:012d}" for i in index.tolist()],
        b.TIME: START + later + index // 10,
    }
    nulls = [None] * count
    return {name: pa.array(values.get(name, nulls)).cast(kind) for name, kind in b.IDENTITY}


if __name__ == "__main__":
    main()
