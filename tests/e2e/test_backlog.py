"""A day of events comes within a second, and then the backlog of another day: the examples are those of two slow days.

The horizon of labels and the windows are minutes and hours, so that all of it is about to be too old at any moment. The
join and the windows are killed amid each day, and read the log again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from headrace.following import whole
from headrace.sending import carrier
from runtime.store import Store
from schemas.pipeline import load
from tests.e2e.orders import CHUNK, PARTITIONS, PIPELINE, Portion, orders, portions, undisturbed
from tests.e2e.outcome import Examples, assert_same
from tests.e2e.running import Running, running

ROWS, STEP_MS = 24_000, 7_200
"""Two days of events."""

WAIT_MS = 540_000
SERVICES = ("ingestion", "features", "serving")


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_examples_are_those_of_slow_days(tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    text = PIPELINE.replace("horizon: 2h", "horizon: 10m").replace("lateness: 30m", "lateness: 5m")
    pipeline.write_text(text.replace("over: 1h", "over: 6h").replace("within: 2h", "within: 12h"))
    spec = load(pipeline)
    stream = list(portions(orders(ROWS, STEP_MS, WAIT_MS), batches=False))
    half = len(stream) // 2
    expected = undisturbed(spec, Store("memory://"), stream)
    with running(
        tmp_path, pipeline, services=SERVICES, event_partitions=PARTITIONS, label_partitions=PARTITIONS
    ) as system:
        found = Examples(system)
        _send(system, stream[:half])
        _kill_amid(system, found, ROWS // 8)
        found.wait(half * CHUNK - CHUNK)
        system.stop()
        _send(system, stream[half:])
        for name in SERVICES:
            system.services.start(name)
        _kill_amid(system, found, ROWS * 5 // 8)
        rows = found.all(ROWS)
        assert [message.headers for _, message in whole(system.log, "dead-letters")] == []
    assert_same(rows, expected, ROWS)


def _send(system: Running, stream: Sequence[Portion]) -> None:
    """All at once."""
    with contextlib.closing(carrier(system.kafka.address, system.spec.pipeline)) as way:
        for portion in stream:
            way.publish(portion)
        way.confirm()


def _kill_amid(system: Running, found: Examples, count: int) -> None:
    found.wait(count)
    system.services.kill("features")
