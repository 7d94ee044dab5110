"""Throughput and latency of the pipeline beside raw Kafka, plain Faust and Quix Streams, in one run.

    python -m benchmarks.pipeline [--json] [--events 300000]

Flat out: a backlog of events, one JSON prediction each (ours are CloudEvents, the baselines' a tenth of that). Most of
the gain over one event per message is scoring in columns. Latency: from producing an event to reading its prediction,
with a producer as it comes (librdkafka lingers for 5 ms, which counts, and spreads events without a key by itself).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console
from rich.table import Table

from benchmarks.lab import Lab, Message, cpu, lab, services, topic, until
from benchmarks.stream import PARTITIONS, SOURCES, event, events, pipeline
from headrace.supervisor import Supervisor

NAME = "bench"
LABELLED, MOST_LABELLED = 1_000, 40_000
FAUST_EVENTS, QUIX_EVENTS = 10_000, 20_000
LATENCY_S, SKIP_S = 20.0, 4.0
CHAIN = ("ingestion", "features", "serving")
QUIX = Path(sys.prefix) / "quix" / "bin" / "python"
Say = Callable[[str], None]


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--events", type=int, default=300_000, help="events of the flat-out runs")
    given = parser.parse_args()
    sys.setswitchinterval(0.0005)  # producing and reading share this interpreter: neither may wait for the other
    if not QUIX.exists():
        sys.exit(f"{QUIX} is missing: run `make bench`, which installs Quix Streams beside this environment")
    console = Console(stderr=True)
    result = measure(given.events, lambda text: console.print(text, style="dim"))
    if given.json:
        print(json.dumps(result))
    else:
        Console().print(_table(result))


def measure(count: int, say: Say) -> dict[str, float]:
    """All figures; see the keys in `_table`."""
    with lab() as at:
        seen = Seen()
        with services(at, NAME, pipeline(NAME), seen.line) as supervisor:
            say("training the first model on labelled events")
            _first_model(at)
            for name in ("drift", "training", "ingestion"):
                supervisor.stop(name)
            say(f"headrace: {count} events flat out")
            ours = _flat_out(at, supervisor, seen, count)
            say(f"headrace: {ours['rows_per_s']:,.0f} events/s, {ours['cpu_us_per_event']:.1f} µs CPU per event")
            latency: dict[str, float] = {}
            for rate in (50, 1000):
                say(f"headrace: latency at {rate} events/s")
                p50, p99 = _latency(at, rate)
                say(f"headrace: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
                latency |= {f"p50_ms_{rate}": p50, f"p99_ms_{rate}": p99}
        say(f"raw pass-through: {count} events")
        raw = _baseline(at, "raw", count)
        say(f"plain Faust: {FAUST_EVENTS} events")
        faust = _baseline(at, "plain_faust", FAUST_EVENTS)
        say(f"Quix Streams: {QUIX_EVENTS} events")
        quix = _baseline(at, "quix", QUIX_EVENTS, str(QUIX))
    others = {"raw": raw, "faust": faust, "quix": quix}
    rates = {name: each["rows"] / each["seconds"] for name, each in others.items()}
    return {
        "ratio_plain_faust": ours["rows_per_s"] / rates["faust"],
        "ratio_quix": ours["rows_per_s"] / rates["quix"],
        "ratio_raw": ours["rows_per_s"] / rates["raw"],
        **ours,
        **{f"{name}_rows_per_s": rate for name, rate in rates.items()},
        **{f"{name}_cpu_us_per_event": each["cpu_seconds"] / each["rows"] * 1e6 for name, each in others.items()},
        **latency,
    }


class Seen:
    """Notes when ingestion got its partitions: from then on it works."""

    def __init__(self) -> None:
        self.assigned = threading.Event()
        self.at = 0.0

    def line(self, name: str, text: str) -> None:
        """Hear a line of a service."""
        if name == "ingestion" and '"rebalanced"' in text and '"gained": []' not in text:
            self.at = time.perf_counter()
            self.assigned.set()


def _first_model(at: Lab) -> None:
    """Labelled events, a second's worth at a time, until predictions come from a model."""
    stream = events(MOST_LABELLED, seed=2)
    for _ in range(MOST_LABELLED // LABELLED):
        chunk = list(islice(stream, LABELLED))
        at.produce(_as_events(iter(chunk)))
        at.produce(_labels(chunk))
        time.sleep(1.0)
        if any(json.loads(value)["data"]["pool"] for value in _tail(at, topic(NAME, "predictions"))):
            return
    raise RuntimeError(f"no model in service after {MOST_LABELLED} labelled events")


def _as_events(stream: Iterator[tuple[bytes, bytes]]) -> Iterator[Message]:
    for i, (key, value) in enumerate(stream):
        yield Message(topic(NAME, "events"), i % SOURCES, key, value)


def _labels(stream: list[tuple[bytes, bytes]]) -> Iterator[Message]:
    for i, (key, value) in enumerate(stream):
        told = json.loads(value)
        label = {
            "event_id": told["event_id"],
            "customer": told["customer"],
            "known_at": told["seen_at"] + 1,
            "bought": told["f0"] + told["f1"] > 0,
        }
        yield Message(topic(NAME, "labels"), i % SOURCES, key, json.dumps(label).encode())


def _tail(at: Lab, name: str) -> list[bytes]:
    """The last message of each partition."""
    consumer = Consumer({"bootstrap.servers": at.brokers, "group.id": "tail"})
    ends = {p: consumer.get_watermark_offsets(TopicPartition(name, p), timeout=10)[1] for p in range(PARTITIONS)}
    found = []
    for partition, end in ends.items():
        if end:
            consumer.assign([TopicPartition(name, partition, end - 1)])
            found += [each.value() or b"" for each in consumer.consume(1, 5.0)]
    consumer.close()
    return found


def _flat_out(at: Lab, supervisor: Supervisor, seen: Seen, count: int) -> dict[str, float]:
    """Rows per second and CPU per event of the chain over a backlog."""
    before = at.ends(topic(NAME, "predictions"), PARTITIONS)
    at.produce(_as_events(events(count)))
    chain = {name: cpu(pid) for name in CHAIN if (pid := supervisor.pid(name))}
    kafka = at.kafka_cpu()
    seen.assigned.clear()
    supervisor.start("ingestion")
    if not seen.assigned.wait(30):
        raise RuntimeError("ingestion got no partitions")
    chain["ingestion"] = cpu(supervisor.pid("ingestion") or 0)
    until("all predictions", lambda: at.ends(topic(NAME, "predictions"), PARTITIONS) >= before + count)
    seconds = time.perf_counter() - seen.at
    used = {name: cpu(supervisor.pid(name) or 0) - since for name, since in chain.items()}
    per_event = {f"{name}_cpu_us": value / count * 1e6 for name, value in used.items()}
    total = sum(used.values()) + at.kafka_cpu() - kafka
    return {"rows_per_s": count / seconds, "cpu_us_per_event": total / count * 1e6, **per_event}


def _latency(at: Lab, rate: int) -> tuple[float, float]:
    """Median and 99th percentile, milliseconds, from produce to prediction read."""
    sent: dict[str, float] = {}
    got: dict[str, float] = {}
    done = threading.Event()
    ends = threading.Event()
    reader = threading.Thread(target=_watch, args=(at, got, ends, done), daemon=True)
    reader.start()
    ends.wait(20)
    producer = Producer({"bootstrap.servers": at.brokers})
    name, stream = topic(NAME, "events"), _paced(rate)
    start = time.perf_counter()
    for i, (event_id, value) in enumerate(stream):
        time.sleep(max(0.0, start + i / rate - time.perf_counter()))
        sent[event_id] = time.perf_counter()
        producer.produce(name, value)
        producer.poll(0)
    producer.flush()
    until("the last predictions", lambda: len(sent.keys() - got.keys()) == 0, 30)
    done.set()
    reader.join()
    kept = islice(sent, int(rate * SKIP_S), None)
    took = np.array([got[each] - sent[each] for each in kept]) * 1000
    return float(np.percentile(took, 50)), float(np.percentile(took, 99))


def _paced(rate: int) -> list[tuple[str, bytes]]:
    """Ids and events, made before the clock runs."""
    rng, first = random.Random(rate), 10**8 * (1 + rate % 7)  # noqa: S311
    made = [event(first + i, f"k-{rng.randrange(5003):05d}", rng) for i in range(int(rate * LATENCY_S))]
    return [(str(each["event_id"]), json.dumps(each).encode()) for each in made]


def _watch(at: Lab, got: dict[str, float], ready: threading.Event, done: threading.Event) -> None:
    consumer = Consumer({"bootstrap.servers": at.brokers, "group.id": "latency", "fetch.wait.max.ms": 100})
    name = topic(NAME, "predictions")
    ends = [consumer.get_watermark_offsets(TopicPartition(name, p), timeout=10)[1] for p in range(PARTITIONS)]
    consumer.assign([TopicPartition(name, partition, end) for partition, end in enumerate(ends)])
    ready.set()
    while not done.is_set():
        for message in consumer.consume(500, 0.005):
            now = time.perf_counter()
            got.setdefault(json.loads(message.value() or b"")["subject"], now)
    consumer.close()


def _baseline(at: Lab, module: str, count: int, python: str = sys.executable) -> dict[str, float]:
    prefix = f"{module}-"
    at.create([f"{prefix}events", f"{prefix}predictions"], SOURCES)
    at.produce(
        Message(f"{prefix}events", i % SOURCES, key, value) for i, (key, value) in enumerate(events(count, seed=1))
    )
    return at.baseline(module, prefix, count, python)


def _table(result: dict[str, float]) -> Table:
    table = Table("", "rows/s", "CPU µs per event, broker included", "headrace is … times as fast", title="flat out")
    table.add_row("headrace", f"{result['rows_per_s']:,.0f}", f"{result['cpu_us_per_event']:.1f}", "")
    names = {"faust": "plain Faust", "quix": "Quix Streams", "raw": "raw pass-through"}
    ratios = {"faust": "ratio_plain_faust", "quix": "ratio_quix", "raw": "ratio_raw"}
    for key, name in names.items():
        figures = f"{result[f'{key}_rows_per_s']:,.0f}", f"{result[f'{key}_cpu_us_per_event']:.1f}"
        table.add_row(name, *figures, f"{result[ratios[key]]:.2f}")
    for rate in (50, 1000):
        p50, p99 = result[f"p50_ms_{rate}"], result[f"p99_ms_{rate}"]
        table.add_row(f"latency at {rate} events/s", f"p50 {p50:.0f} ms", f"p99 {p99:.0f} ms", "")
    return table


if __name__ == "__main__":
    main()
