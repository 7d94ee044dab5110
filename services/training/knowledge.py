"""What a leader knows: its own checkpoint, and the fold of everything that it follows."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pyarrow as pa

from runtime.announced import Announced
from runtime.fold import passed
from runtime.ports import LogReader, Message, Place
from runtime.stage import Decoded
from schemas.pipeline import Pipeline
from services.training.domain import growth
from services.training.domain.rows import KEPT
from services.training.domain.triggers import State
from services.training.domain.window import Window
from services.training.reading import Episodes, Judgement, passed_before
from services.training.weighing import Weighing, newest

log = logging.getLogger("headrace.training")

MODELS, DRIFT, STATE = Place("models", 0), Place("drift", 0), Place("state", 0)


class Knowledge:
    """Of one term of a leader; the next one begins with nothing.

    Args:
        spec: The pipeline.
        state: The checkpoint.
        partitions: Number of partitions of `examples`.

    Attributes:
        state: What must not be forgotten.
        window: The newest labelled rows.
        announced: Members and pool.
        episodes: What the judge found.
        judgement: How far the judge has come.
        weighing: What the labels taught about the members.
        decided: How far the judge had come when everything was decided last.
    """

    def __init__(self, spec: Pipeline, state: State | None = None, partitions: int = 0) -> None:
        training, drift = spec.training, spec.drift
        self._spec = spec
        self.state = state or State()
        self.window = Window(tuple(spec.features), partitions, training.window, drift.lateness)
        self.announced, self.episodes, self.judgement = Announced(), Episodes(), Judgement()
        self.weighing = Weighing(spec)
        self.decided: int | None = None

    @property
    def folds(self) -> dict[Place, Callable[[Message], object]]:
        """What is read whole, and what becomes of it."""
        return {MODELS: self.announced.take, DRIFT: self.episodes.take, STATE: self.judgement.take}

    def read(self, log: LogReader) -> dict[Place, int]:
        """Read what is there by now; the positions behind it. Rows are read again from where the window began."""
        positions = {}
        for place, fold in self.folds.items():
            positions[place] = log.end(place)
            for message in log.read(place, log.begin(place), positions[place]):
                fold(message)
        self.hear_judge()
        self.weighing = Weighing(self._spec, newest(log), self.announced.pool)
        for partition in self.window.next:
            place, begin = Place("examples", partition), self.state.begins.get(partition, 0)
            start = max(min(begin, self.weighing.covers.get(partition, begin - 1) + 1), log.begin(place))
            self.window.begin(partition, start, passed_before(log, place, start))
            positions[place] = start
        return positions

    def hear_judge(self) -> None:
        """Before a judge has spoken nobody knows how far it is: what it says counts at once."""
        self.window.judged, self.window.until = self.judgement.settle(self.episodes), None
        if self.window.judged is None:
            self.episodes.come(None)

    def grow(self) -> None:
        """Note when the labelled rows had grown enough."""
        self.state.growth = growth.grown(self.state.growth, self.window)

    def settle(self) -> None:
        """Add up the rows that are decided on: the window may forget them."""
        self.state.growth = growth.settled(self.state.growth, self.window)

    def take_rows(self, partition: int, message: Decoded) -> int:
        """Remember the rows of a message, and learn from them whom to trust; how many are new."""
        needed = {*KEPT, *self._spec.features}
        if missing := sorted(needed - set(message.batch.schema.names)):  # another definition of the pipeline wrote it
            log.warning("examples_ignored", extra={"offset": message.offset, "missing": missing})
            return 0
        fresh = self.window.add(partition, message.offset, message.batch, passed(message.headers.through))
        rows = message.batch if fresh.all() else message.batch.filter(pa.array(fresh))
        self.weighing.take(partition, message.offset, rows)
        return int(fresh.sum())
