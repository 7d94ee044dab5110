"""Features alone: rows per CPU second with windows and without, beside the same windows in plain Faust tables.

    python -m benchmarks.features [--json] [--rows 1200000]

Rows are on `records` before the service starts, 1,000 in a message: 20 columns, 10,000 entities, 100 ms of event time
apart, so that after a million rows an entity has had a hundred. The service is a process of its own: Faust, decoding,
six expressions, windows over 1 h, 24 h and the last 100 rows within 7 d, encoding, restart marks. Plain Faust has one
JSON event per message and one table per window; its windows are nearly empty yet, to its advantage. CPU is that of
the processes, without the broker's, from the moment that they have their partitions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pyarrow as pa
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from benchmarks.lab import Lab, Message, Told, cpu, lab, topic
from benchmarks.stream import PARTITIONS, SOURCES
from headrace.plans import plans
from headrace.supervisor import Supervisor
from runtime.bootstrap import bootstrap
from schemas import batch as b
from schemas.events import arrow_schema, identified
from schemas.pipeline import Pipeline, load

NUMBERS = tuple(f"f{i}" for i in range(16))
"""With id, time, entity and a category there are twenty columns."""
ENTITIES = 10_000
MESSAGE_ROWS = 1_000
TABLES = "hour", "day", "last"
START, GAP = 1_790_000_000_000, 100
FAUST_EVENTS, MORE_EVENTS = 2_000, 500
"""Of plain Faust only the first ones are measured: tables that are being recovered may let some pass."""

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
features:
  ratio: f0 / (abs(f1) + 1)
  log_f2: ln(abs(f2) + 1)
  hour: extract(hour from seen_at)
  clipped: least(greatest(f3, -1), 1)
  apart: sqrt(power(f4, 2) + power(f5, 2))
  rising: case when f6 > f7 then 1 else 0 end
{windows}
"""
WINDOWS = """\
  mean_hour: {mean: f0, over: 1h}
  mean_day: {mean: f0, over: 24h}
  mean_last: {mean: f0, over: 100 rows, within: 7d}
"""


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--rows", type=int, default=1_200_000, help="rows of each run of ours")
    given = parser.parse_args()
    console = Console(stderr=True)
    result = measure(given.rows, lambda text: console.print(text, style="dim"))
    if given.json:
        print(json.dumps(result))
    else:
        Console().print(_table(result))


def measure(count: int, say: Callable[[str], None]) -> dict[str, float]:
    """All figures; see the keys in `_table`."""
    with lab() as at:
        say(f"{count} rows with expressions only")
        expressions = _computed(at, "expressions", "", count)
        say(f"{expressions:,.0f} rows per CPU second; {FAUST_EVENTS} events through plain Faust tables")
        tables = _tables(at)
        say(f"{tables:,.0f} rows per CPU second; {count} rows with windows")
        windows = _computed(at, "windows", WINDOWS, count)
        say(f"{windows:,.0f} rows per CPU second")
    return {
        "windows_rows_per_core_second": windows,
        "expressions_rows_per_core_second": expressions,
        "ratio_faust_tables": windows / tables,
        "faust_tables_rows_per_core_second": tables,
    }


def _computed(at: Lab, name: str, windows: str, count: int) -> float:
    """Rows per CPU second of the features service over a backlog."""
    path = at.home / f"{name}.yaml"
    path.write_text(pipeline(name, windows), encoding="utf-8")
    spec = load(path)
    bootstrap(at.brokers, spec, partitions=PARTITIONS, event_partitions=SOURCES)
    rows = _produce(at.brokers, spec, count)
    told = Told()
    with Supervisor(plans(path, at.brokers, services=["features"], data=at.home / name), told.line) as supervisor:
        if not told.assigned.wait(60):
            raise RuntimeError("features got no partitions")
        pid = supervisor.pid("features") or 0
        before = cpu(pid)
        while told.counted('headrace_rows_total{stream="features"}') < rows:  # asking costs it a millisecond
            time.sleep(0.3)
            if supervisor.pid("features") != pid:
                raise RuntimeError("features crashed and was started again: is the machine too busy to measure?")
        return rows / (cpu(pid) - before)


def _tables(at: Lab) -> float:
    """Rows per CPU second of plain Faust, its own without the broker's."""
    prefix = "tables-"
    changelogs = [f"{prefix}faust-{name}-changelog" for name in TABLES]
    at.create([f"{prefix}events", f"{prefix}features", *changelogs], SOURCES)
    at.produce(_as_events(f"{prefix}events"))
    found = at.baseline("faust_tables", prefix, FAUST_EVENTS)
    return found["rows"] / found["own_cpu_seconds"]


def pipeline(name: str, windows: str = WINDOWS) -> str:
    """The pipeline.yaml of twenty columns and six expressions."""
    numbers = "\n".join(f"    {field}: {{type: number}}" for field in NUMBERS)
    return PIPELINE.format(name=name, numbers=numbers, windows=windows)


def messages(spec: Pipeline, count: int) -> Iterator[tuple[int, bytes, b.Headers]]:
    """Partition, value and headers of full messages of `records`, in the order of time; `count` rows or a few more."""
    rng = np.random.default_rng(7)
    for first in range(0, count, MESSAGE_ROWS * PARTITIONS):
        for partition in range(PARTITIONS):
            index = first + np.arange(MESSAGE_ROWS) * PARTITIONS + partition
            own = rng.integers(0, ENTITIES // PARTITIONS, MESSAGE_ROWS) * PARTITIONS + partition
            rows = _rows(spec, index, own, rng)
            newest = START + int(index[-1]) * GAP
            marks = dict.fromkeys(range(SOURCES), (newest, False))
            yield partition, b.encode(rows), b.Headers(pipeline=spec.digest, topic_id="events", watermarks=marks)


def _rows(spec: Pipeline, index: np.ndarray, entities: np.ndarray, rng: np.random.Generator) -> pa.RecordBatch:
    """Valid events as ingestion writes them: row number i came from source i mod SOURCES."""
    times = pa.array(START + index * GAP).cast(pa.timestamp("ms", "UTC"))
    ids, names = pa.array([f"e-{i:09d}" for i in index.tolist()]), pa.array([f"k-{i:05d}" for i in entities.tolist()])
    nulls = pa.nulls(len(index), pa.string())
    columns = {
        b.SOURCE: index % SOURCES, b.POSITION: index // SOURCES, b.ROW: np.zeros(len(index), np.int32),
        b.EVENT_ID: ids, b.ENTITY: names, b.TIME: times, b.TRACEPARENT: nulls,
        "country": pa.array(["DE"] * len(index)),
        **{name: rng.normal(size=len(index)) for name in NUMBERS},
    }  # fmt: skip
    fields = [field for field in arrow_schema(spec) if field.name not in identified(spec)]
    schema = pa.schema([*b.IDENTITY, *fields])
    return pa.RecordBatch.from_arrays([pa.array(columns[each.name]).cast(each.type) for each in schema], schema=schema)


def _produce(brokers: str, spec: Pipeline, count: int) -> int:
    """Fill `records`; how many rows it has now."""
    ordered = {"enable.idempotence": True}  # a retried message must not land behind a younger one: it would be old news
    producer = Producer({"bootstrap.servers": brokers, "message.max.bytes": 8_000_000, **ordered})
    name, rows = topic(spec.pipeline, "records"), 0
    for partition, value, headers in messages(spec, count):
        told: list[tuple[str, str | bytes | None]] = list(b.encode_headers(headers))
        producer.produce(name, value, None, partition, headers=told)
        producer.poll(0)
        rows += MESSAGE_ROWS
    producer.flush()
    return rows


def _as_events(name: str) -> Iterator[Message]:
    """The same stream as JSON, one event per message."""
    rng = np.random.default_rng(7)
    for i, entity in enumerate(rng.integers(0, ENTITIES, FAUST_EVENTS + MORE_EVENTS).tolist()):
        numbers = dict(zip(NUMBERS, rng.normal(size=len(NUMBERS)).tolist(), strict=True))
        event = {"event_id": f"e-{i:09d}", "seen_at": START + i * GAP, "customer": f"k-{entity:05d}", "country": "DE"}
        yield Message(name, entity % SOURCES, f"k-{entity:05d}".encode(), msgspec.json.encode(event | numbers))


def _table(result: dict[str, float]) -> Table:
    table = Table("", "rows per CPU second", "times plain Faust", title="features, one process")
    tables = result["faust_tables_rows_per_core_second"]
    names = {"expressions": "six expressions", "windows": "and three windows", "faust_tables": "plain Faust tables"}
    for key, text in names.items():
        speed = result[f"{key}_rows_per_core_second"]
        table.add_row(text, f"{speed:,.0f}", f"{speed / tables:,.0f}")
    return table


if __name__ == "__main__":
    main()
