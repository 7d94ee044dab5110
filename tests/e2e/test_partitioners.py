"""Events and labels of any client, partitioner, key and number of partitions meet in the join.

What is proved: events in six partitions by librdkafka's own partitioner (crc32), labels in three by Java's (murmur2), a
third of each without a key, labels before and after their events: every label becomes exactly one example, of its event
and with its value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec
import pytest
from confluent_kafka import Producer
from kafka.partitioner.default import murmur2

from headrace.following import whole
from schemas import batch as b
from schemas.topics import physical
from tests.e2e.running import Running, running, until

ROWS = 3_000
EVENT_PARTITIONS, LABEL_PARTITIONS = 6, 3
UNLABELLED_EVERY = 10
APART = 40
"""A label comes so many events before its event, or after it."""
START, STEP_MS = 1_790_000_000_000, 1_000

PIPELINE = """\
pipeline: partitioners
task: binary
events:
  id: order
  time: at
{entity}
  fields:
    at: {{type: timestamp}}
    customer: {{type: text}}
    amount: {{type: number}}
labels: {{id: order, time: known_at, field: returned, type: boolean, horizon: 24h}}
features: {{amount: amount}}
model: {{estimator: logistic_regression}}
"""


class Sent(NamedTuple):
    """A message for a producer."""

    topic: str
    key: str | None
    value: dict[str, object]


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("entity", ["customer", None])
def test_labels_meet_their_events_whatever_partitioner_and_key_their_producers_use(
    tmp_path: Path, entity: str | None
) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(PIPELINE.format(entity=f"  entity: {entity}" if entity else ""))
    chosen = ("ingestion", "features", "serving")
    with running(tmp_path, pipeline, services=chosen, label_partitions=LABEL_PARTITIONS) as system:
        _produce(system, list(_stream(entity)))
        expected = {_order(i): int(_returned(i)) for i in range(ROWS) if _labelled(i)}
        until(f"{len(expected)} examples", lambda: len(_examples(system)) >= len(expected), 60, system.problems)
        system.stop()
        _assert_partitioned(system, "events", EVENT_PARTITIONS, crc32)
        _assert_partitioned(system, "labels", LABEL_PARTITIONS, lambda key: murmur2(key) & 0x7FFFFFFF)
        found = _examples(system)
        assert set(found) == set(expected.items())
        assert found.total() == len(expected)
        assert list(whole(system.log, "dead-letters")) == []
        assert system.crashes == []


def _order(i: int) -> str:
    return f"o-{i}"


def _returned(i: int) -> bool:
    return i * 7919 % 1000 > 500


def _labelled(i: int) -> bool:
    return i % UNLABELLED_EVERY != 0


def _stream(entity: str | None) -> Iterator[Sent]:
    """Events with their labels around them; the two never have the same kind of key."""
    for i in range(-APART, ROWS + APART):
        if 0 <= i < ROWS:
            customer = f"c-{i * 31 % 97}"
            value = {"order": _order(i), "at": START + i * STEP_MS, "customer": customer, "amount": i % 100}
            yield Sent("events", (None, customer, _order(i))[i % 3], value)
        early, later = i + APART, i - APART
        for j in (early if early % 2 else None, None if later % 2 else later):
            if j is not None and 0 <= j < ROWS and _labelled(j):
                yield _label(j, entity)


def _label(i: int, entity: str | None) -> Sent:
    value = {"order": _order(i), "known_at": START + (i + APART) * STEP_MS, "returned": _returned(i)}
    key = (_order(i), None, f"shipment-{i % 11}")[i % 3]
    return Sent("labels", key, {**value, entity: f"c-{i * 31 % 97}"} if entity else value)


def _produce(system: Running, stream: list[Sent]) -> None:
    """As librdkafka does by itself, and as Java does; keyless ones change partition each."""
    shared = {"bootstrap.servers": system.kafka.address, "linger.ms": 5, "sticky.partitioning.linger.ms": 0}
    ways = {"events": Producer(shared), "labels": Producer({**shared, "partitioner": "murmur2_random"})}
    for each in stream:
        ways[each.topic].produce(physical(system.spec.pipeline, each.topic), msgspec.json.encode(each.value), each.key)
    for way in ways.values():
        way.flush()


def _assert_partitioned(system: Running, topic: str, partitions: int, hashed: Callable[[bytes], int]) -> None:
    """That a producer did what its name promises: keys by their hash, messages without a key everywhere."""
    places = [(place.partition, each.key) for place, each in whole(system.log, topic)]
    assert {partition for partition, key in places if key is None} == set(range(partitions))
    keyed = [(partition, key) for partition, key in places if key]
    assert keyed
    assert all(partition == hashed(key) % partitions for partition, key in keyed)


def _examples(system: Running) -> Counter[tuple[str, int]]:
    """How often each event has each label, counted raw."""
    found: Counter[tuple[str, int]] = Counter()
    for _, message in whole(system.log, "examples"):
        rows = b.decode(message.value)
        found.update(zip(rows.column(b.EVENT_ID).to_pylist(), rows.column(b.LABEL).to_pylist(), strict=True))
    return found
