"""kill -9, a rebalance storm, a frozen joiner and a dead broker amid 200,000 rows: the examples of a run without any.

What is proved: the examples on the log, counted raw, are those of services that nobody disturbs over the same messages,
row by row: identity, window features and others, and label bit by bit, outputs of the model in service to 12 digits.
None is lost, none is there twice.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from headrace.plans import pair
from headrace.sending import carrier
from runtime.keys import private_key
from runtime.signing import Keys
from runtime.store import Store
from schemas.pipeline import load
from tests.e2e.orders import CHUNK, PARTITIONS, PIPELINE, Portion, model, orders, portions, undisturbed
from tests.e2e.outcome import Examples, assert_same
from tests.e2e.running import Running, pause, running

ROWS, LEARNED, RATE = 200_000, 8_000, 3_500.0
STEP_MS, WAIT_MS = 100, 5_400_000
SEED, TURNS, KILLS = 5, 16, 5
PAUSE_S, FROZEN_S, AWAY_S = (0.3, 2.5), 9.0, 2.0
JOINERS, SERVINGS = ("features-1", "features-2", "features-3"), ("serving-1", "serving-2")


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_examples_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(PIPELINE)
    spec, store = load(pipeline), _store(tmp_path)
    stream = list(portions(orders(ROWS, STEP_MS, WAIT_MS)))
    announced = model(spec, store, stream[: LEARNED // CHUNK])
    expected = undisturbed(spec, store, [announced, *stream])
    with running(
        tmp_path,
        pipeline,
        {"features": len(JOINERS), "serving": len(SERVINGS)},
        services=("ingestion", "features", "serving"),
        event_partitions=PARTITIONS,
        label_partitions=PARTITIONS,
        first=announced,
    ) as system:
        feeder = Feeder(system, stream)
        feeder.start()
        began = time.monotonic()
        storm = Storm(system, feeder)
        storm.rage()
        feeder.finish()
        found = Examples(system).all(ROWS)
        took = time.monotonic() - began
        feeder.join()
        print(f"{ROWS / took:.0f} rows/s over {took:.0f} s; {dict(storm.done)}; {_moves(system)}; {system.crashes}")
        assert sum(_moves(system).values()) > TURNS // 2, f"partitions hardly moved: {_moves(system)}"
    assert_same(found, expected, ROWS)


def _store(directory: Path) -> Store:
    pair(directory / "keys")
    private = private_key(directory / "keys" / "signing.pem")
    return Store((directory / "artefacts").as_uri(), Keys.of([private.public_key()], private))


class Feeder(threading.Thread):
    """Sends some portions amid each disturbance, however long that takes, at a rate; and the rest when it is over."""

    def __init__(self, system: Running, stream: Sequence[Portion]) -> None:
        super().__init__(name="feeder", daemon=True)
        self._system, self._stream = system, stream
        self._due, self._over = threading.Semaphore(0), threading.Event()

    def more(self, portions: int) -> None:
        """Send so many more."""
        self._due.release(portions)

    def finish(self) -> None:
        """Send the rest, without a pause."""
        self._over.set()
        self.more(len(self._stream))

    def run(self) -> None:
        with contextlib.closing(carrier(self._system.kafka.address, self._system.spec.pipeline)) as way:
            for portion in self._stream:
                self._due.acquire()
                way.publish(portion)
                self._over.wait(CHUNK / RATE)
            way.confirm()


class Storm:
    """What happens to the services and to the broker while events come."""

    def __init__(self, system: Running, feeder: Feeder) -> None:
        self._system, self._services, self._feeder = system, system.services, feeder
        self._random = random.Random(SEED)  # noqa: S311 - the same storm each time
        self._away: set[str] = set()
        self.done: Counter[str] = Counter()

    def rage(self) -> None:
        """All of it, one after the other."""
        kills = set(self._random.sample(range(TURNS), KILLS))
        for turn in range(TURNS):
            pause(self._random.uniform(*PAUSE_S))
            (self._kill if turn in kills else self._rebalance)()
        self._everybody()
        self._freeze(self._random.choice(JOINERS))
        self._everybody()
        self._restart_broker()

    def _rebalance(self) -> None:
        """A member of the join leaves, or comes; the first one stays."""
        name = self._random.choice(JOINERS[1:])
        self._note("came" if name in self._away else "left")
        if name in self._away:
            self._services.start(name)
        else:
            self._services.stop(name)
            self._services.prepare()  # it imports meanwhile, so that it comes when it is called
        self._away ^= {name}

    def _kill(self) -> None:
        living = [each for each in (*JOINERS, *SERVINGS) if each not in self._away]
        self._note("killed")
        self._services.kill(self._random.choice(living))

    def _everybody(self) -> None:
        for name in self._away:
            self._services.start(name)
        self._away.clear()
        self._services.wait_ready(60)

    def _freeze(self, name: str) -> None:
        """For longer than its session: another one has its partitions when it wakes up."""
        self._note("frozen", ROWS // CHUNK // 5)
        self._services.suspend(name)
        pause(FROZEN_S)
        self._services.resume(name)

    def _restart_broker(self) -> None:
        self._note("broker killed")
        self._system.kafka.kill()
        pause(AWAY_S)
        self._system.kafka.restart()

    def _note(self, what: str, portions: int = ROWS // CHUNK // 25) -> None:
        self.done[what] += 1
        self._feeder.more(portions)
        assert self._feeder.is_alive(), f"everything was sent before: {what}. Send more rows"


def _moves(system: Running) -> Counter[str]:
    """How often each member of the join got partitions."""
    gained = re.compile(r'(features-\d): .*"rebalanced".*"gained": \[\[')
    return Counter(match[1] for line in system.said if (match := gained.match(line)))
