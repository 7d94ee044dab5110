"""Everything that runs is killed once, one instance is frozen, the broker is killed: nothing lost, nothing twice.

What is proved: for 50,000 events through two instances each of ingestion, features and serving, every event has one
prediction and one example on the log, counted raw, without any reader's help in dropping copies.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.following import whole
from headrace.report import predictions
from headrace.rows import Options, messages
from schemas import batch as b
from schemas.cloudevents import decode
from tests.e2e.plain import orders, pipeline
from tests.e2e.running import Running, pause, running, until

ROWS, RATE = 50_000, 1_250.0
BETWEEN_S, FROZEN_S = 2.5, 9.0
MODEL = """\
model: {estimator: logistic_regression}
training: {min_rows: 3000}
"""


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_is_twice(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(pipeline("chaos", MODEL))
    with running(tmp_path, path, {"ingestion": 2, "features": 2, "serving": 2}) as system:
        inputs = messages(orders(ROWS), system.spec, Options.of(delay="300rows"))
        feeder = threading.Thread(target=system.send, args=(inputs, RATE))
        feeder.start()
        _trouble(system, feeder)
        feeder.join()
        _settled(system, "predictions", _predicted)
        _settled(system, "examples", _joined)
        for what, found in (("predictions", _predicted(system)), ("examples", _joined(system))):
            assert len(found) == ROWS, f"{ROWS - len(found)} lost in {what}"
            assert found.total() == ROWS, f"{found.total() - ROWS} twice in {what}"


def _trouble(system: Running, feeder: threading.Thread) -> None:
    services = system.services
    for name in ("ingestion-1", "features-1", "serving-1", "drift", "training"):
        pause(BETWEEN_S)
        services.kill(name)
    pause(BETWEEN_S)
    services.suspend("serving-2")
    pause(FROZEN_S)
    services.resume("serving-2")
    pause(BETWEEN_S)
    system.kafka.kill()
    assert feeder.is_alive(), "everything was sent before the broker was killed: send more rows, or more slowly"
    pause(BETWEEN_S)
    system.kafka.restart()


def _settled(system: Running, what: str, count: Callable[[Running], Counter[str]]) -> None:
    until(f"{ROWS} {what}", lambda: len(count(system)) >= ROWS, 180, system.problems)


def _predicted(system: Running) -> Counter[str]:
    return Counter(str(decode(each.value or b"").subject) for each in predictions(system.log))


def _joined(system: Running) -> Counter[str]:
    found: Counter[str] = Counter()
    for _, message in whole(system.log, "examples"):
        found.update(b.decode(message.value).column(b.EVENT_ID).to_pylist())
    return found
