"""Windows in plain Faust, as its user would write them: one event per message, one table per window.

The windows are ours: panes for a duration, the rows themselves for the last 100. Each table is kept in memory and
written to its changelog, as tables of Faust are.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from typing import Any

import faust
import msgspec

from benchmarks.baselines.clock import Watch
from benchmarks.features import NUMBERS, TABLES
from benchmarks.stream import SOURCES

HOUR, DAY, WEEK = 3_600_000, 86_400_000, 604_800_000
PANES, ROWS = 24, 100
TEXTS = ("event_id", "customer", "country")
Event = msgspec.defstruct(
    "Event", [*((name, str) for name in TEXTS), ("seen_at", int), *((name, float) for name in NUMBERS)], gc=False
)


def expressions(event: Any) -> dict[str, float]:
    """The six expressions."""
    return {
        "ratio": event.f0 / (abs(event.f1) + 1),
        "log_f2": math.log(abs(event.f2) + 1),
        "hour": float(event.seen_at // HOUR % 24),
        "clipped": min(max(event.f3, -1.0), 1.0),
        "apart": math.sqrt(event.f4**2 + event.f5**2),
        "rising": 1.0 if event.f6 > event.f7 else 0.0,
    }


def mean_over(table: Any, event: Any, span: int) -> float | None:
    """Mean of f0 over a duration; an entity's value is [pane, rows, sum] of each of its panes."""
    pane = event.seen_at // (span // PANES)
    panes = [each for each in table[event.customer] if each[0] >= pane - PANES]
    rows, total = sum(each[1] for each in panes), sum(each[2] for each in panes)
    if panes and panes[-1][0] == pane:
        panes[-1] = [pane, panes[-1][1] + 1, panes[-1][2] + event.f0]
    else:
        panes.append([pane, 1, event.f0])
    table[event.customer] = panes
    return total / rows if rows else None


def mean_last(table: Any, event: Any) -> float | None:
    """Mean of f0 over the last 100 rows; an entity's value is [time, f0] of each of them."""
    held = [each for each in table[event.customer] if each[0] >= event.seen_at - WEEK]
    mean = sum(each[1] for each in held) / len(held) if held else None
    table[event.customer] = [*held, [event.seen_at, event.f0]][-ROWS:]
    return mean


def build(brokers: str, prefix: str, count: int) -> faust.App:
    """The app; it ends its process after `count` events."""
    app = faust.App(
        f"{prefix}faust",
        broker=f"kafka://{brokers}",
        value_serializer="raw",
        key_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=SOURCES,
        datadir=tempfile.mkdtemp(),
        consumer_auto_offset_reset="earliest",
    )
    events = app.topic(f"{prefix}events", value_type=bytes, value_serializer="raw")
    features = app.topic(f"{prefix}features", value_type=bytes, value_serializer="raw")
    hour, day, last = (app.Table(name, default=list, key_type=str) for name in TABLES)
    parse, watch = msgspec.json.Decoder(Event).decode, Watch()

    async def compute(stream: Any) -> None:
        done = 0
        async for value in stream:
            watch.start()
            event: Any = parse(value)
            found = {"event_id": event.event_id, **expressions(event)}
            found["mean_hour"], found["mean_day"] = mean_over(hour, event, HOUR), mean_over(day, event, DAY)
            found["mean_last"] = mean_last(last, event)
            sent = await features.send(value=msgspec.json.encode(found))
            done += 1
            if done == count:
                await sent
                watch.stop(done)
                os._exit(0)

    app.agent(events)(compute)
    return app


if __name__ == "__main__":
    app = build(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.argv[1:] = ["worker", "-l", "warn", "--without-web"]
    app.main()
