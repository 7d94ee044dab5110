"""The whole service on 1 to 64 partitions: the same episodes, whatever happens to messages and processes on the way."""

from __future__ import annotations

import random
from collections import Counter as Tally
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from runtime.ports import Place
from runtime.references import References
from runtime.worker import Worker
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import DriftEpisode
from tests.unit.services.drift.scores import Score, announce, reached, scores
from tests.unit.services.drift.stream import FAR, CrashError, Drift, Row, crash_at, examples, leave, told

ROWS, EVERY, DELAY, STEP = 4_200, 25, 2_000, 525
"""Rows, milliseconds between them and until their labels, and how many of them travel at once."""
MOVED, WRONG, NEWER = 1_000, 2_000, 3_000
"""Rows with which the feature moves, answers go wrong, and the second member begins to answer."""
FAMILIES = ("features", "concept")
IDLE = 5
"""Every such partition gets no row at all."""


@cache
def stream() -> tuple[tuple[Score, Row], ...]:
    """Scored rows with what their labels say, of two sources and two members."""
    draw = np.random.default_rng(11)
    index = np.arange(ROWS)
    x = draw.normal(1 + 1.5 * (index >= MOVED) - 2 * (index >= NEWER), 1).tolist()
    colours = draw.choice(["red", "blue"], ROWS).tolist()
    wrong = (draw.random(ROWS) < np.where((index >= WRONG) & (index < NEWER), 0.6, 0.1)).tolist()
    found = []
    for i in range(ROWS):
        position, source, member = i // 2, i % 2, 1 + (i >= NEWER)
        scored = Score(position, EVERY * i, x[i], source, (member,), "", colours[i])
        answer = 0.1 if wrong[i] else 0.9
        found.append((scored, Row(position, EVERY * i + DELAY, ((member, answer),), 1, source)))
    return tuple(found)


def busy(partitions: int) -> list[int]:
    """The partitions that get rows."""
    return [each for each in range(partitions) if partitions == 1 or each % IDLE != IDLE - 1]


def written(partitions: int, partition: int) -> Iterator[tuple[str, bytes, b.Headers]]:
    """The messages of a partition, in order; one without rows says how far the others are at the end only."""
    used = busy(partitions)
    for begin in range(0, ROWS, STEP) if partition in used else ():
        part = stream()[begin : begin + STEP]
        mine = [each for each in part if used[(each[0].position * 7 + each[0].source) % len(used)] == partition]
        event, label = part[-1][0].time, part[-1][1].time
        marks = reached(event, sources=(0, 1), highest=event)
        yield "scored", b.encode(scores([score for score, _ in mine])), marks
        yield "examples", b.encode(examples([row for _, row in mine])), told(label, label)
    yield "scored", b.encode(scores([])), reached(FAR, sources=(0, 1), highest=EVERY * ROWS)
    yield "examples", b.encode(examples([])), told(FAR, EVERY * ROWS + DELAY)


@cache
def messages(partitions: int) -> dict[int, list[tuple[str, bytes, b.Headers]]]:
    return {each: list(written(partitions, each)) for each in range(partitions)}


def begun(partitions: int) -> Drift:
    drift = Drift(partitions)
    drift.references = References(drift.store)
    announce(drift, 1, 2)
    return drift


def append(drift: Drift, partition: int, message: tuple[str, bytes, b.Headers]) -> None:
    topic, value, headers = message
    drift.broker.append(Place(topic, partition), value, headers=b.encode_headers(headers))


Said = dict[str, list[dict[str, object]]]


def core(drift: Drift) -> Said:
    """By family what was said of episodes, but for what names the log's layout and the leader.

    Families have panes of their own, event time here and label time there: whose turn is first says the reading.
    """
    found: Said = {}
    for message in drift.messages("drift"):
        said = cloudevents.decode(message.value or b"", message.headers).read(DriftEpisode)
        found.setdefault(said.family, []).append(said.model_dump(exclude={"positions", "epoch"}))
    return found


@cache
def expected() -> Said:
    """One partition, in peace."""
    drift = begun(1)
    for message in messages(1)[0]:
        append(drift, 0, message)
    drift.finish(drift.counter())
    drift.finish(drift.judge())
    return core(drift)


class Crew:
    """Processes of the service: they come, take over from each other, and die in the middle of things.

    Args:
        drift: Broker and topics.
        draw: Decides what happens.
    """

    def __init__(self, drift: Drift, draw: random.Random) -> None:
        self._drift, self._draw = drift, draw
        self._counters: list[Worker] = []
        self._judges: list[Worker] = []
        self.deaths: Tally[str] = Tally()

    def work(self) -> None:
        """One of them does a step, and maybe dies of it."""
        workers, begin = self._draw.choice(
            [
                (self._counters, self._drift.counter),
                (self._judges, self._drift.judge),
                (self._judges, self._drift.judge),
            ]
        )
        if len(workers) < self._draw.choice([1, 1, 2]):
            writes = self._draw.randint(1, 60 if workers is self._counters else 5)
            most = self._draw.choice([1, 3, 500])
            workers.append(begin(on_publish=crash_at(writes), max_messages=most))
        worker = self._draw.choice(workers)
        if self._draw.random() < 0.08:
            self._lose(workers, worker, "left")
            return
        try:
            worker.step(0)
        except CrashError as error:
            self._lose(workers, worker, str(error))
        if self._draw.random() < 0.3:
            self._drift.broker.clock.advance(2)  # what was handled is committed at the next step

    def _lose(self, workers: list[Worker], worker: Worker, how: str) -> None:
        workers.remove(worker)
        leave(worker)
        self.deaths[how] += 1

    def finish(self) -> None:
        """All die, and others do what is left."""
        for each in [*self._counters, *self._judges]:
            leave(each)
        self._drift.finish(self._drift.counter())
        self._drift.finish(self._drift.judge())


def disturbed(partitions: int, seed: int) -> tuple[Drift, Crew]:
    """The stream, its partitions one before the other, messages repeated, the service killed again and again."""
    draw, drift = random.Random(seed), begun(partitions)  # noqa: S311 - no secret
    crew = Crew(drift, draw)
    left = {partition: list(each) for partition, each in messages(partitions).items()}
    while waiting := [partition for partition in left if left[partition]]:
        for partition in draw.sample(waiting, draw.randint(1, len(waiting))):
            count = draw.randint(1, 2 + partitions // 16)
            for message in left[partition][:count]:
                append(drift, partition, message)
                if draw.random() < 0.1:
                    append(drift, partition, message)
            del left[partition][:count]
        for _ in range(draw.randint(1, 4)):
            crew.work()
    crew.finish()
    return drift, crew


def test_the_stream_alarms_features_and_errors_under_two_anchors() -> None:
    features, concept = ([(each["state"], each["anchor"]) for each in expected()[name]] for name in FAMILIES)
    assert features == [("opened", 1), ("closed", 1), ("opened", 2), ("closed", 2)]
    assert concept == [("opened", 1), ("closed", 1)]
    assert expected().keys() == set(FAMILIES)


@pytest.mark.parametrize(("partitions", "seed"), [(1, 1), (4, 2), (4, 3), (16, 4), (64, 5)])
def test_any_number_of_partitions_gives_the_same_episodes_through_anything(partitions: int, seed: int) -> None:
    drift, crew = disturbed(partitions, seed)
    assert core(drift) == expected()
    assert sum(crew.deaths.values()) >= 3
