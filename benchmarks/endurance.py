"""Memory of ingestion over millions of events: one process, a real Kafka, its resident size every second and at rest.

    python -m benchmarks.endurance [--json] [--events 5000000] [--untrimmed]

Ids, customers, texts and error messages are new all the time, so whatever is remembered of them grows. One event of a
hundred is bad, in three ways; one of ten has a label. The stream is kept a few seconds ahead of ingestion.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import linear_regression

import psutil
from confluent_kafka import Producer
from rich.console import Console

from benchmarks.ingestion import HANDLED
from benchmarks.lab import Lab, Told, lab, topic
from benchmarks.stream import PARTITIONS, SOURCES
from headrace.plans import plans
from headrace.supervisor import Supervisor
from runtime.bootstrap import bootstrap
from schemas.pipeline import load

NAME = "endurance"
STAGE = 500_000
"""Events between two rests; memory counts from the first rest on, when pools are filled and code is loaded."""
REST_S = 2.0
AHEAD = 200_000
"""So many events at most wait for ingestion."""
SLICE = 10_000
SAMPLE_S = 1.0
PATIENCE_S = 60.0
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""Let glibc give back what is free: once it has freed one large fetch it keeps up to 64 MB of free memory by turns,
which is bounded, but five times what is to be seen here."""

PIPELINE = """\
pipeline: endurance
task: binary
events:
  id: event_id
  time: seen_at
  entity: customer
  fields:
    seen_at: {type: timestamp}
    customer: {type: text}
    session: {type: text}
    amount: {type: number}
    items: {type: integer, min: 0}
    country: {type: category}
labels: {id: event_id, time: known_at, field: bought, type: boolean, horizon: 1h}
features: {amount: amount}
"""
_HEAD = '{"event_id":"e-%09d","seen_at":%d,"customer":"k-%08d","session":"s-%08x","amount":'
GOOD = _HEAD + '%.2f,"items":3,"country":"DE"}'
BAD = (_HEAD + '"%.2f","items":3}', _HEAD + '%.2f,"items":-3,"country":"DE"}', _HEAD + "%.2f,")
LABEL = '{"event_id":"e-%09d","known_at":%d,"customer":"k-%08d","bought":true}'


def main() -> None:
    """Run it and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--untrimmed", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--events", type=int, default=5_000_000, help="events to send")
    given = parser.parse_args()
    console = Console(stderr=True)
    result = measure(given.events, lambda text: console.print(text, style="dim"), trimmed=not given.untrimmed)
    if given.json:
        print(json.dumps(result))
    else:
        Console().print(
            f"{result['events']:,.0f} events at {result['events_per_s']:,.0f}/s: "
            f"{result['rss_mb_start']:.1f} MB after the first half million, {result['rss_mb_end']:.1f} MB at the end, "
            f"{result['slope_mb_per_million']:+.2f} MB per million events, {result['rss_mb_peak']:.1f} MB at most"
        )


class Feed:
    """Produces the stream.

    Args:
        brokers: The broker's address.
    """

    def __init__(self, brokers: str) -> None:
        self._producer = Producer(
            {"bootstrap.servers": brokers, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
        )
        self._topics = topic(NAME, "events"), topic(NAME, "labels")
        self.sent = 0

    def send(self, count: int) -> None:
        """The next events and their labels; returns when the broker has them."""
        events, labels = self._topics
        for number in range(self.sent, self.sent + count):
            seen, customer = 1_790_000_000_000 + number * 100, number // 7
            form = BAD[number // 100 % len(BAD)] if number % 100 == 50 else GOOD
            value = form % (number, seen, customer, number // 3, number % 9973 / 7)
            self._producer.produce(events, value, None, number % SOURCES)
            if number % 10 == 0:
                self._producer.produce(labels, LABEL % (number, seen, customer), None, number % SOURCES)
        self._producer.flush()
        self.sent += count


class Watched:
    """Ingestion while it runs: how far it is, and its resident size every second and at rest.

    Args:
        told: What it says of itself.
        process: The process.
    """

    def __init__(self, told: Told, process: psutil.Process) -> None:
        self._told, self._process = told, process
        self._due = self._moved = 0.0
        self.handled, self.peak = 0.0, 0.0

    def look(self) -> None:
        """Once a second, see where it is.

        Raises:
            RuntimeError: It stands still.
        """
        now = time.monotonic()
        if now < self._due:
            return
        before, self.handled = self.handled, self._told.counted(*HANDLED)
        self._due, self._moved = now + SAMPLE_S, now if self.handled > before else self._moved or now
        self.peak = max(self.peak, self.rss())
        if now > self._moved + PATIENCE_S:
            raise RuntimeError(f"ingestion stands still at {self.handled:.0f} events")

    def rss(self) -> float:
        """Resident size in MB."""
        return float(self._process.memory_info().rss / 1e6)


def measure(count: int, say: Callable[[str], None], *, trimmed: bool = True) -> dict[str, float]:
    """All figures, of what ingestion holds or, not `trimmed`, with what the allocator keeps besides.

    Raises:
        RuntimeError: Ingestion stood still or crashed.
    """
    with lab() as at:
        told, crashes = Told(), list[str]()
        (plan,) = plans(_made(at), at.brokers, services=["ingestion"], data=at.home / "data")
        children = [replace(plan, environment={**plan.environment, **(ALLOCATOR if trimmed else {})})]
        with Supervisor(children, told.line, lambda name, code, _: crashes.append(f"{name}: {code}")) as supervisor:
            if not told.assigned.wait(PATIENCE_S):
                raise RuntimeError("ingestion got no partitions")
            watched = Watched(told, psutil.Process(supervisor.pid("ingestion") or 0))
            result = _course(count, Feed(at.brokers), watched, say)
        if crashes:
            raise RuntimeError(f"ingestion crashed: {crashes}")
        return result


def _made(at: Lab) -> Path:
    """The pipeline.yaml, with its topics made."""
    path = at.home / "pipeline.yaml"
    path.write_text(PIPELINE, encoding="utf-8")
    bootstrap(at.brokers, load(path), partitions=PARTITIONS, event_partitions=SOURCES)
    return path


def _course(count: int, feed: Feed, watched: Watched, say: Callable[[str], None]) -> dict[str, float]:
    """Stages, and a rest behind each: at work memory moves with what a poll brings, at rest there is what stays."""
    began, events, rests = time.monotonic(), list[float](), list[float]()
    while feed.sent < count:
        _stage(min(feed.sent + STAGE, count), feed, watched)
        time.sleep(REST_S)
        events.append(feed.sent / 1e6)
        rests.append(watched.rss())
        say(f"{feed.sent:9,} events: {rests[-1]:.1f} MB at rest, {watched.peak:.1f} MB at most")
    seconds = time.monotonic() - began - REST_S * len(rests)
    return {
        "rss_mb_start": rests[0],
        "rss_mb_end": rests[-1],
        "slope_mb_per_million": linear_regression(events, rests).slope if len(rests) > 1 else 0.0,
        "rss_mb_peak": watched.peak,
        "events": float(feed.sent),
        "events_per_s": feed.sent / seconds,
    }


def _stage(end: int, feed: Feed, watched: Watched) -> None:
    """Until `end` events are sent and handled."""
    while watched.handled < end:
        if feed.sent < end and feed.sent - watched.handled < AHEAD:
            feed.send(min(SLICE, end - feed.sent))
        else:
            time.sleep(0.05)
        watched.look()


if __name__ == "__main__":
    main()
