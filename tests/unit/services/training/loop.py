"""A training service in memory: builders of examples, episodes and wishes, and readers of what it said."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa

from runtime.memory import MemoryBroker, MemoryCarrier, VirtualClock
from runtime.ports import Message, Outgoing, Place
from runtime.store import Store
from runtime.worker import Worker
from schemas import batch as b
from schemas import cloudevents
from schemas.judged import JUDGED, Judged
from schemas.messages import Decision, DriftEpisode, Member, Pool, Wish, moment
from schemas.pipeline import Pipeline, parse
from services.training.domain.rows import BEGINNING
from services.training.domain.selection import Selection
from services.training.domain.taking import Cut, chosen
from services.training.domain.window import Window
from services.training.fits import Fits
from services.training.handler import Training

STEP = 1_000
"""Milliseconds of event time between two rows."""

FAR = 10_000_000
"""So much later than the last row that every row is behind the frontier."""

SPEC = """
pipeline: shop
task: binary
events:
  id: id
  fields:
    x: {type: number, nullable: true}
    z: {type: number}
    colour: {type: category}
labels: {id: id, field: good, type: boolean, horizon: 24h}
features: {x: x, z: z, colour: colour}
model: {estimator: ESTIMATOR, params: PARAMS, online: ONLINE}
drift: {settle: 100, lateness: 5s, pane: 10s}
strategy: {members: SEATS}
training: {min_rows: 200, window: WINDOW, cooldown: 60s, fits: FITS}
"""


def spec(
    estimator: str = "logistic_regression",
    params: str = "{}",
    fits: str = "5 per 1d",
    window: str = "400",
    seats: int | str = 1,
    online: str = "none",
) -> Pipeline:
    text = SPEC.replace("ESTIMATOR", estimator).replace("PARAMS", params).replace("FITS", fits)
    return parse(text.replace("WINDOW", window).replace("SEATS", str(seats)).replace("ONLINE", online))


def labelled(first: int, count: int, *, turned: bool = False, label: int | None = None) -> pa.RecordBatch:
    """Rows whose label follows x, or its opposite where the world turned; row i is labelled at i * STEP."""
    index = np.arange(first, first + count)
    random = np.random.default_rng(first)
    x, z = random.normal(size=count), random.normal(size=count)
    truth = ((x + 0.3 * random.normal(size=count) > 0) ^ turned).astype(np.int8)
    times = pa.array(index * STEP, pa.timestamp("ms", "UTC"))
    columns = {
        b.SOURCE: pa.array(np.zeros(count, np.int16)),
        b.POSITION: pa.array(index, pa.int64()),
        b.ROW: pa.array(np.zeros(count, np.int32)),
        b.EVENT_ID: pa.array([f"e{i}" for i in index], pa.string()),
        b.ENTITY: pa.nulls(count, pa.string()),
        b.TIME: times,
        b.TRACEPARENT: pa.nulls(count, pa.string()),
        "x": pa.array(np.where(index % 17 == 0, np.nan, x), from_pandas=True),
        "z": pa.array(z),
        "colour": pa.array([_colour(i, each) for i, each in zip(index.tolist(), z.tolist(), strict=True)], pa.string()),
        "_prediction": pa.array(np.full(count, 0.5)),
        "_pool": pa.nulls(count, pa.int64()),
        "_label": pa.array(truth if label is None else np.full(count, label, np.int8)),
        "_label_time": times,
    }
    return pa.RecordBatch.from_pydict(columns)


def _colour(index: int, value: float) -> str | None:
    return "red" if value > 1 else None if index % 5 == 0 else "blue"


def passing(watermark: int) -> list[tuple[str, bytes]]:
    """Headers of a message whose partition has passed a time."""
    marks = {stream: {0: (watermark, False)} for stream in (b.EVENTS, b.LABELS)}
    return b.encode_headers(b.Headers(through=b.Through(watermarks=marks)))


def dataset(window: Window, cutoff: int) -> pa.RecordBatch | None:
    """The newest rows of a window at a cut-off; None for none."""
    cut = Cut(cutoff, BEGINNING, window.quarantined)
    taken = chosen(window.pieces, list(spec().features), cut, Selection(window.size), 0)
    return None if taken is None else taken.rows


class Loop:
    """A broker, a store, and controllers that may crash."""

    def __init__(
        self,
        pipeline: Pipeline | None = None,
        partitions: int = 2,
        store: Store | None = None,
        fits: Fits | None = None,
    ) -> None:
        topics = dict.fromkeys(("operator", "drift", "models", "state", "decisions", "weights"), 1)
        self.broker = MemoryBroker({**topics, "examples": partitions, "dead-letters": partitions})
        self.spec, self.partitions = pipeline or spec(), partitions
        self.store = store or Store("memory://")
        self.workers: list[Worker] = []
        self.fits = fits

    def start(self, on_publish: object = None, max_messages: int = 500) -> Worker:
        """A new instance in the group; the others are dead."""
        for each in self.workers:
            each._carrier.close()
        self.clock = clock = VirtualClock()
        carrier = MemoryCarrier(self.broker, "training", max_messages=max_messages, on_publish=on_publish)  # type: ignore[arg-type]
        handler = Training(self.spec, self.store, fits=self.fits)
        worker = Worker(handler, carrier, clock=clock, resume=handler.resume)
        self.workers = [worker]
        worker.start()
        return worker

    def run(self) -> None:
        """Work until nothing is left to do; a step takes a second."""
        while self.workers[0].step():
            self.clock.advance(1)

    def run_killed_before(self, count: int) -> None:
        """Work; the process is killed before the message with this number, and another one goes on."""
        try:
            self.start(crash_at(count))
            self.run()
        except Crash:
            self.start()
            self.run()

    def examples(self, rows: pa.RecordBatch, *, chunk: int = 20, watermark: int | None = None) -> None:
        """Write rows, chunk by chunk over the partitions; each message passes the time of its newest row."""
        for start in range(0, rows.num_rows, chunk):
            part = rows.slice(start, chunk)
            newest = part.column("_label_time").cast(pa.int64()).to_numpy().max()
            for partition in range(self.partitions):
                mine = np.flatnonzero(part.column(b.POSITION).to_numpy() % self.partitions == partition)
                self.write(partition, part.take(pa.array(mine)), int(newest) if watermark is None else watermark)

    def write(self, partition: int, rows: pa.RecordBatch, watermark: int) -> None:
        self.broker.append(Place("examples", partition), b.encode(rows), None, passing(watermark))

    def passes(self, watermark: int) -> None:
        """All partitions pass a time without a row."""
        for partition in range(self.partitions):
            self.write(partition, labelled(0, 0), watermark)

    def episode(
        self, name: str, start: int, detected: int, epoch: int = 1, kind: str = "concept", **fields: object
    ) -> None:
        """A drift episode opens; start and detection are indices of rows."""
        self._drift(name, detected, start=start, detected=detected, epoch=epoch, kind=kind, **fields)

    def judged(self, index: int, fact: str = "", epoch: int = 1) -> None:
        """The judge has passed the time of a row; its newest fact has this id."""
        said = Judged(epoch, index * STEP, fact)
        self.broker.append(Place("state", 0), msgspec.json.encode(said), JUDGED)

    def end(self, name: str, start: int, detected: int, at: int, kind: str = "bad_data", **fields: object) -> None:
        """It closes when the time of row `at` is passed."""
        self._drift(name, at, start=start, detected=detected, kind=kind, state="closed", **fields)

    def _drift(self, name: str, at: int, *, start: int, detected: int, **fields: object) -> None:
        said = DriftEpisode.written(**{
            "id": name, "state": "opened", "family": "loss", "anchor": 1, "detector": "adwin", "statistic": 1.0,
            "threshold": 0.1, "detected_at": moment(detected * STEP), "estimated_start": moment(start * STEP),
            "rows": detected - start, "positions": {}, "reason": "it changed", "epoch": 1, **fields,
        })  # fmt: skip
        value, headers = cloudevents.encode(said, id=name, source="/headrace/shop/drift", time=moment(at * STEP))
        self.broker.append(Place("drift", 0), value, name.encode(), headers)

    def wish(self, name: str, kind: str = "retrain", subject: str = "shop") -> None:
        said = Wish.written(id=name, kind=kind, subject=subject, who="ann", reason="to see")
        value, headers = cloudevents.encode(said, id=name, source="/headrace/shop/operator")
        self.broker.append(Place("operator", 0), value, b"shop", headers)

    def log(self, topic: str) -> list[Message]:
        return [message for message in self.broker.log(Place(topic, 0)) if message is not None]

    def members(self) -> list[Member]:
        found = [cloudevents.decode(each.value or b"").message() for each in self.log("models")]
        return [each for each in found if isinstance(each, Member)]

    def pools(self) -> list[Pool]:
        found = [cloudevents.decode(each.value or b"").message() for each in self.log("models")]
        return [each for each in found if isinstance(each, Pool)]

    def decisions(self) -> list[Decision]:
        return [cloudevents.decode(each.value or b"").read(Decision) for each in self.log("decisions")]

    def steps(self) -> list[tuple[str, str]]:
        return [(each.subject, each.step) for each in self.decisions()]


class Crash(Exception):
    """The process is killed here."""


def crash_at(count: int) -> object:
    """Publishing crashes before the message with this number, counted from 0."""
    seen = iter(range(10_000))

    def before(outgoing: Outgoing) -> None:
        if next(seen) == count:
            raise Crash(outgoing.topic)

    return before
