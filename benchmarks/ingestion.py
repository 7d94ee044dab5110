"""Ingestion alone: CPU per event beside a bare kafka-python consumer, and Arrow batches beside JSON events.

    python -m benchmarks.ingestion [--json] [--events 200000]

The bare consumer reads the same messages with the same settings and throws them away, before and after each run that it
is compared with, since machines change their speed. CPU is the process's own, from its first message on; rows/s is from
the log's append times.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator

import msgspec
import pyarrow as pa
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console
from rich.table import Table

from benchmarks.lab import Lab, Told, cpu, lab, topic
from benchmarks.stream import PARTITIONS, SOURCES
from headrace.plans import plans
from headrace.supervisor import Supervisor
from runtime.bootstrap import bootstrap
from schemas import batch as b
from schemas.pipeline import load

FIELDS = 16
"""Numbers of an event; with id, time, entity and a category there are twenty fields."""
BAD_SHARE = 0.01
ROUNDS = 2
BATCH_ROWS = 5_000
"""Of a bit less than a megabyte, the largest message of a producer as it comes."""
ARROW_TIMES = 10
"""So many times the events go in as Arrow batches: they are over too soon otherwise."""

HANDLED = ('headrace_rows_total{stream="events"}', "headrace_rejected_rows_total{")
"""Counts of events that became rows or dead letters."""

PIPELINE = """\
pipeline: {name}
task: binary
events:
  id: event_id
  time: seen_at
  entity: customer
  fields:
    seen_at: {{type: timestamp}}
    customer: {{type: text}}
    country: {{type: category}}
{numbers}
labels: {{id: event_id, time: known_at, field: bought, type: boolean, horizon: 1h}}
features: {{f0: f0}}
"""

Headers = list[tuple[str, str | bytes | None]]
Payload = tuple[bytes, Headers]


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--events", type=int, default=300_000, help="events of each run")
    given = parser.parse_args()
    console = Console(stderr=True)
    result = measure(given.events, lambda text: console.print(text, style="dim"))
    if given.json:
        print(json.dumps(result))
    else:
        Console().print(_table(result))


def measure(count: int, say: Callable[[str], None]) -> dict[str, float]:
    """All figures, the mean of the rounds; see the keys in `_table`."""
    with lab() as at:
        rounds = [_round(at, f"{number}", count, say) for number in range(1, ROUNDS + 1)]
    mean = {key: sum(each[key] for each in rounds) / ROUNDS for key in rounds[0]}
    bare, clean, bad = (mean[f"{name}_cpu_us_per_event"] for name in ("bare", "clean", "bad"))
    return {
        "cpu_ratio_clean": clean / bare,
        "cpu_ratio_bad": bad / bare,
        "arrow_ratio": mean["arrow_rows_per_s"] / mean["clean_rows_per_s"],
        **mean,
    }


def _round(at: Lab, number: str, count: int, say: Callable[[str], None]) -> dict[str, float]:
    say(f"round {number}: {count} clean JSON events")
    clean = _ingested(at, f"clean{number}", count, _json(count, 0.0))
    say("the same messages through a bare consumer")
    bare = at.baseline("bare_consumer", topic(f"clean{number}", "events"), count)
    say(f"{BAD_SHARE:.0%} of them bad")
    bad = _ingested(at, f"bad{number}", count, _json(count, BAD_SHARE))
    say(f"{count * ARROW_TIMES} events in Arrow batches of {BATCH_ROWS}")
    arrow = _ingested(at, f"arrow{number}", count * ARROW_TIMES, _arrow(count * ARROW_TIMES))
    return {
        "bare_cpu_us_per_event": bare["own_cpu_seconds"] / bare["rows"] * 1e6,
        "bare_rows_per_s": bare["rows"] / bare["seconds"],
        "clean_cpu_us_per_event": clean["cpu_us"],
        "clean_rows_per_s": clean["rows_per_s"],
        "bad_cpu_us_per_event": bad["cpu_us"],
        "arrow_cpu_us_per_event": arrow["cpu_us"],
        "arrow_rows_per_s": arrow["rows_per_s"],
    }


def _ingested(at: Lab, name: str, count: int, payloads: Iterable[Payload]) -> dict[str, float]:
    """CPU per event and rows per second of one ingestion over a backlog."""
    path = at.home / f"{name}.yaml"
    path.write_text(pipeline(name), encoding="utf-8")
    bootstrap(at.brokers, load(path), partitions=PARTITIONS, event_partitions=SOURCES)
    _produce(at.brokers, topic(name, "events"), payloads)
    told = Told()
    children = plans(path, at.brokers, services=["ingestion"], data=at.home / name)
    with Supervisor(children, told.line) as supervisor:
        if not told.assigned.wait(60):
            raise RuntimeError("ingestion got no partitions")
        before = cpu(supervisor.pid("ingestion") or 0)
        while told.counted(*HANDLED) < count:  # asking costs it a millisecond
            time.sleep(0.3)
        used = cpu(supervisor.pid("ingestion") or 0) - before
    return {"cpu_us": used / count * 1e6, "rows_per_s": count / _seconds(at.brokers, topic(name, "records"))}


def _produce(brokers: str, name: str, payloads: Iterable[Payload]) -> None:
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for number, (value, headers) in enumerate(payloads):
        producer.produce(name, value, None, number % SOURCES, headers=headers)
        if number % 5_000 == 0:
            producer.poll(0)
    producer.flush()


def _seconds(brokers: str, name: str) -> float:
    """From the first append to the last."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "clock"})
    stamps = []
    for partition in range(PARTITIONS):
        low, high = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=10)
        for offset in (low, high - 1):
            consumer.assign([TopicPartition(name, partition, offset)])
            stamps += [each.timestamp()[1] for each in consumer.consume(1, 10.0)]
    consumer.close()
    return (max(stamps) - min(stamps)) / 1000


def pipeline(name: str) -> str:
    """The pipeline.yaml of twenty fields."""
    numbers = "\n".join(f"    f{i}: {{type: number}}" for i in range(FIELDS))
    return PIPELINE.format(name=name, numbers=numbers)


def _events(count: int) -> Iterator[dict[str, object]]:
    rng = random.Random(7)  # noqa: S311 - a benchmark, not a secret
    for i in range(count):
        numbers = {f"f{n}": round(rng.gauss(0, 1), 5) for n in range(FIELDS)}
        seen = 1_790_000_000_000 + i * 100
        yield {"event_id": f"e-{i:09d}", "seen_at": seen, "customer": f"k-{i % 5003}", "country": "DE", **numbers}


def _json(count: int, bad: float) -> Iterator[Payload]:
    every = round(1 / bad) if bad else 0
    for i, event in enumerate(_events(count)):
        if every and i % every == 0:
            event["f3"] = "high"
        yield msgspec.json.encode(event), []


def _arrow(count: int) -> Iterator[Payload]:
    """A thousand distinct rows, again and again with other ids."""
    headers: Headers = [("content-type", b"application/vnd.apache.arrow.stream")]
    table = pa.RecordBatch.from_pylist(list(_events(BATCH_ROWS)))
    for start in range(0, count, BATCH_ROWS):
        ids = pa.array([f"e-{i:09d}" for i in range(start, start + BATCH_ROWS)])
        yield b.encode(table.set_column(0, "event_id", ids)), headers


def _table(result: dict[str, float]) -> Table:
    table = Table("", "CPU µs per event", "times the bare consumer", "rows/s", title="ingestion, one process")
    table.add_row("bare consumer", f"{result['bare_cpu_us_per_event']:.2f}", "", f"{result['bare_rows_per_s']:,.0f}")
    rows = (("clean", "JSON events", "cpu_ratio_clean"), ("bad", f"{BAD_SHARE:.0%} of them bad", "cpu_ratio_bad"))
    for name, text, ratio in rows:
        speed = f"{result['clean_rows_per_s']:,.0f}" if name == "clean" else ""
        table.add_row(text, f"{result[f'{name}_cpu_us_per_event']:.2f}", f"{result[ratio]:.2f}", speed)
    speed = f"{result['arrow_rows_per_s']:,.0f}, {result['arrow_ratio']:.1f} times JSON"
    table.add_row("Arrow batches", f"{result['arrow_cpu_us_per_event']:.2f}", "", speed)
    return table


if __name__ == "__main__":
    main()
