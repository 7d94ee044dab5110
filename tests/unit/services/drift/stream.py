"""Builders: a stream of joined rows spread over partitions, and the service run on it in memory."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from runtime.memory import MemoryBroker, MemoryCarrier
from runtime.metrics import Metrics
from runtime.ports import Handler, LogReader, Message, Outgoing, Place
from runtime.references import References
from runtime.store import Store
from runtime.worker import Worker
from schemas import batch as b
from schemas.bins import Bins
from schemas.pipeline import parse, template
from schemas.reference import Reference
from schemas.spec import Pipeline
from services.drift.handler.counting import Counter
from services.drift.handler.judging import Judge

FAR = 10**12
PANE = 1_000


@cache
def spec(pane: str = "1s", lateness: str = "0s", settle: int = 200) -> Pipeline:
    """A pipeline whose drift block is this."""
    drift = f"drift: {{pane: {pane}, lateness: {lateness}, settle: {settle}}}"
    head, _, tail = template("shop").partition("drift:\n")
    return parse(f"{head}{drift}\n{tail[tail.index('training:') :]}")


@dataclass(frozen=True)
class Row:
    """A joined row; `outputs` are (member, probability)."""

    position: int
    time: int
    outputs: tuple[tuple[int, float], ...] = ((1, 0.9),)
    label: int = 1
    source: int = 0


def examples(rows: Sequence[Row]) -> pa.RecordBatch:
    """The batch that features would write for these rows, feature columns left out."""
    stamp = pa.timestamp("ms", "UTC")
    return pa.RecordBatch.from_pydict(
        {
            b.SOURCE: pa.array([row.source for row in rows], pa.int16()),
            b.POSITION: pa.array([row.position for row in rows], pa.int64()),
            b.ROW: pa.array([0 for _ in rows], pa.int32()),
            b.EVENT_ID: pa.array([f"e{row.source}-{row.position}" for row in rows]),
            b.TIME: pa.array([row.time - 500 for row in rows], stamp),
            "_members": pa.array([[member for member, _ in row.outputs] for row in rows], pa.list_(pa.int32())),
            "_outputs": pa.array([[output for _, output in row.outputs] for row in rows], pa.list_(pa.float64())),
            "_label": pa.array([row.label for row in rows], pa.int8()),
            "_label_time": pa.array([row.time for row in rows], stamp),
        }
    )


def told(watermark: int | None, highest: int | None = None, **fields: object) -> b.Headers:
    """Headers of an examples message whose events and labels have reached a watermark."""
    marks = {} if watermark is None else {name: {0: (watermark, False)} for name in (b.EVENTS, b.LABELS)}
    top = {} if highest is None else {b.LABELS: highest}
    return b.Headers(through=b.Through(watermarks=marks, highest=top), **fields)  # type: ignore[arg-type]


class Unreferenced(References):
    """Members of which nobody announced anything: nothing but errors is judged."""

    def get(self, version: int, models: LogReader) -> Reference | None:  # noqa: ARG002
        return None

    def bins(self, version: int, models: LogReader) -> Bins | None:  # noqa: ARG002
        return None


@dataclass
class Drift:
    """A broker in memory with the topics of drift, and its service."""

    partitions: int = 1
    spec: Pipeline = field(default_factory=spec)

    def __post_init__(self) -> None:
        one = dict.fromkeys(("operator", "models", "drift", "decisions", "state"), 1)
        some = dict.fromkeys(("examples", "scored", "drift-counts", "dead-letters"), self.partitions)
        self.broker = MemoryBroker(one | some)
        self.metrics, self.store = Metrics(), Store("memory://")
        self.references: References = Unreferenced(self.store)

    def say(self, partition: int, rows: Sequence[Row], headers: b.Headers) -> None:
        """Write a message of examples."""
        value = b.encode(examples(rows))
        self.broker.append(Place("examples", partition), value, headers=b.encode_headers(headers))

    def counter(self, **options: object) -> Worker:
        """A started counter."""
        return self._worker(Counter(self.spec, References(self.store), self.metrics), "drift", options)

    def judge(self, **options: object) -> Worker:
        """A started judge."""
        return self._worker(Judge(self.spec, self.references, self.metrics), "drift-judge", options)

    def _worker(self, handler: Handler, group: str, options: dict[str, object]) -> Worker:
        carrier = MemoryCarrier(self.broker, group, **options)  # type: ignore[arg-type]
        worker = Worker(handler, carrier, clock=self.broker.clock)
        worker.start()
        return worker

    def finish(self, worker: Worker) -> None:
        """Step until nothing is left, committing on the way, then leave the group."""
        while worker.step(0):
            self.broker.clock.advance(2)
        leave(worker)

    def messages(self, topic: str, partition: int = 0) -> list[Message]:
        """All messages of a partition."""
        return [message for message in self.broker.log(Place(topic, partition)) if message is not None]

    def counted(self, partition: int = 0) -> list[tuple[b.Headers, pa.RecordBatch]]:
        """Headers and rows of the counts of a partition."""
        found = self.messages("drift-counts", partition)
        return [(b.decode_headers(message.headers), b.decode(message.value)) for message in found]


def leave(worker: Worker) -> None:
    """Die without a last commit."""
    worker._carrier.close()


class CrashError(RuntimeError):
    """What a test throws in the middle of a batch."""


def crash_at(number: int) -> Callable[[Outgoing], None]:
    """For `on_publish`: the process dies before it writes its n-th message."""
    left = iter(range(number, -1, -1))

    def publish(outgoing: Outgoing) -> None:
        if next(left) == 0:
            raise CrashError(outgoing.topic)

    return publish


class Life(NamedTuple):
    """A counter that is killed: after so many writes, or a few polls of at most so many messages."""

    writes: int
    most: int
    commits: bool


LIVES = st.lists(st.builds(Life, st.integers(0, 4), st.integers(1, 5), st.booleans()), max_size=8)


def killed(drift: Drift, lives: Sequence[Life]) -> None:
    """Let counters die one after the other; the last one finishes."""
    for writes, most, commits in lives:
        worker = drift.counter(on_publish=crash_at(writes), max_messages=most)
        with suppress(CrashError):
            for _ in range(3):
                worker.step(0)
                if commits:
                    drift.broker.clock.advance(2)
        leave(worker)
    drift.finish(drift.counter())


def errors(count: int, change: int, before: float = 0.2, after: float = 0.5, seed: int = 7) -> list[Row]:
    """One row per 100 ms; from row `change` on the member is wrong more often."""
    wrong = np.random.default_rng(seed).random(count) < np.where(np.arange(count) < change, before, after)
    return [
        Row(index // 2, 100 * index, ((1, 0.1 if is_wrong else 0.9),), source=index % 2)
        for index, is_wrong in enumerate(wrong.tolist())
    ]


def spread(drift: Drift, rows: Sequence[Row], step: int = 97) -> None:
    """Every `step` rows each partition gets a message, with rows or without; a last one closes all panes."""
    for begin in range(0, len(rows), step):
        part = rows[begin : begin + step]
        for partition in range(drift.partitions):
            mine = [row for row in part if (row.position * 7 + row.source) % drift.partitions == partition]
            drift.say(partition, mine, told(part[-1].time, part[-1].time))
    for partition in range(drift.partitions):
        drift.say(partition, [], told(FAR, rows[-1].time))
