"""Runs a policy over recorded rows: the handlers behind ingestion, in memory and in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from headrace.backtest.rows import Recorded, write
from headrace.loop import TURN, Loop, memory_broker
from runtime.memory import MemoryLog, VirtualClock
from runtime.metrics import Metrics
from runtime.model import fetch
from runtime.online import fetch_online
from runtime.ports import Clock, Handler, LogReader, Outgoing, Place, Polled
from runtime.references import References
from runtime.signing import keys_in_memory
from runtime.store import Store
from schemas.pipeline import Pipeline
from services.drift.handler.counting import Counter
from services.drift.handler.judging import Judge
from services.features.handler import Features
from services.serving.handler import Serving
from services.training.handler import Training

OnRows = Callable[[int], None]
"""Called with how many rows more were handled."""


class Timed:
    """A controller whose fits are timed: the steps in which one was made, wall time in seconds.

    Args:
        training: The controller.
        fits: How many it has made.
        clock: Whose time it is.
    """

    def __init__(self, training: Handler, fits: Callable[[], float], clock: Clock) -> None:
        self._training, self._fits, self._clock = training, fits, clock
        self.inputs, self.follows, self.leads = training.inputs, training.follows, training.leads
        self.seconds = 0.0

    def restore(self, place: Place, log: LogReader) -> Iterable[Outgoing]:
        """As the controller does."""
        return self._training.restore(place, log)

    def follow(self, log: LogReader) -> Mapping[Place, int]:
        """As the controller does."""
        return self._training.follow(log)

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """As the controller does; timed from step to step."""
        steps = self._training.handle(polled)
        while True:
            begun, before = self._clock.monotonic(), self._fits()
            step = next(steps, None)
            if self._fits() > before:
                self.seconds += self._clock.monotonic() - begun
            if step is None:
                return
            yield step

    def tick(self, now: int) -> Sequence[Outgoing]:
        """As the controller does."""
        return self._training.tick(now)

    def forget(self, place: Place) -> None:
        """As the controller does."""
        self._training.forget(place)


class Run:
    """One policy over the recorded rows.

    Args:
        spec: The pipeline with that policy.
        partitions: P of the log.
        trusted: Types that models may hold besides those of the list.
        clock: By which fits are timed.
    """

    def __init__(self, spec: Pipeline, partitions: int, trusted: Sequence[str], clock: Clock) -> None:
        store, self._timed = Store("memory://", keys_in_memory()), list[Timed]()
        load_model = partial(fetch, store, features=spec.feature_types, trusted=trusted)
        load_online = partial(fetch_online, store, types=spec.feature_types, classes=len(spec.classes))

        def training(metrics: Metrics) -> Timed:
            made = Training(spec, store, metrics, trusted=trusted)
            self._timed.append(Timed(made, partial(_fits, metrics), clock))
            return self._timed[-1]

        self._loop = Loop(
            [
                ("features", lambda metrics: Features(spec, partitions, metrics, share=0)),
                (
                    "serving",
                    lambda metrics: Serving(spec, load_model, metrics, keys=store.keys, load_online=load_online),
                ),
                ("drift", lambda metrics: Counter(spec, References(store, metrics), metrics)),
                ("drift-judge", lambda metrics: Judge(spec, References(store, metrics), metrics)),
                ("training", training),
            ],
            spec,
            memory_broker(VirtualClock(), partitions),
        )

    def over(self, found: Iterable[Recorded], on_rows: OnRows = lambda _: None) -> MemoryLog:
        """Hear the rows in turns, each followed by a round of all services; what was said of them."""
        begun, rows = set[Place](), 0
        for each in found:
            write(self._loop.broker, each, first=each.place not in begun)
            begun.add(each.place)
            rows += each.rows
            if rows >= TURN:
                self._loop.settle()
                on_rows(rows)
                rows = 0
        self._loop.settle()
        on_rows(rows)
        return self._loop.log

    @property
    def fit_seconds(self) -> float:
        """Seconds of the steps in which the controller fitted."""
        return sum(each.seconds for each in self._timed)


def _fits(metrics: Metrics) -> float:
    """Fits so far, whatever came of them."""
    values = (metrics.registry.get_sample_value("headrace_fits_total", {"outcome": each}) for each in OUTCOMES)
    return sum(value or 0.0 for value in values)


OUTCOMES = ("accepted", "rejected")
