"""What a leader knows: its own checkpoint, and the fold of everything that it follows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

import pyarrow as pa

from runtime.announced import Announced
from runtime.fold import passed
from runtime.metrics import Metrics
from runtime.ports import LogReader, Message, Place
from runtime.signing import Keys
from runtime.stage import Decoded
from schemas.online import OnlineKind
from schemas.pipeline import Pipeline
from services.training.archive import Archive
from services.training.datasets import MEMORY, Datasets
from services.training.domain import growth
from services.training.domain.rows import BEGINNING, KEPT
from services.training.domain.selection import selected
from services.training.domain.triggers import State
from services.training.domain.turns import FOLLOW_UP
from services.training.domain.window import Window
from services.training.learning import Learning
from services.training.reading import Episodes, Judgement, passed_before
from services.training.segments import Segments
from services.training.weighing import Weighing, newest

logger = logging.getLogger("headrace.training")

RECENT = 20_000
"""Newest rows that are at hand where `training.window` says no number of rows."""

MODELS, DRIFT, STATE = Place("models", 0), Place("drift", 0), Place("state", 0)


class Knowledge:
    """Of one term of a leader; the next one begins with nothing.

    Args:
        spec: The pipeline.
        segments: Where examples are archived.
        state: The checkpoint.
        partitions: Number of partitions of `examples`.
        memory: Bytes of the largest dataset.
        keys: Whose announcements and weights are believed; by default nobody's.
        metrics: Where others are counted.

    Attributes:
        state: What must not be forgotten.
        window: The newest labelled rows.
        archive: All labelled rows.
        datasets: What fits take of both.
        announced: Members and pool.
        episodes: What the judge found.
        judgement: How far the judge has come.
        weighing: What the labels taught about the members.
        lost: Messages that were deleted before they were archived.
        decided: How far the judge had come when everything was decided last.
    """

    def __init__(
        self,
        spec: Pipeline,
        segments: Segments,
        state: State | None = None,
        partitions: int = 0,
        memory: int = MEMORY,
        keys: Keys | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._spec, self._keys, self._metrics = spec, keys or Keys(), metrics or Metrics()
        self.state = state or State()
        self.window = Window(tuple(spec.features), partitions, _recent(spec), spec.drift.lateness)
        self.archive = Archive(segments, spec.drift.lateness)
        self.datasets = Datasets(spec, self.window, self.archive, memory)
        self.announced = Announced(self._keys, self._metrics)
        self.episodes, self.judgement = Episodes(), Judgement()
        self.weighing = Weighing(spec)
        self.lost = 0
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
        self._forgo()
        if self.state.log != self.archive.segments.log:
            self.state.log, self.state.archived = self.archive.segments.log, {}
        given, kind = newest(log, self._keys, self._metrics), self._spec.model.online
        learning = None
        if kind != "none":
            said = None if given is None else given.online
            learning = Learning(self._spec, cast("OnlineKind", kind), self.archive.segments.store, said)
        self.weighing = Weighing(self._spec, given, self.announced.pool, learning)
        for partition in self.window.next:
            place = Place("examples", partition)
            positions[place] = self._begin(log, place)
        return positions

    def _forgo(self) -> None:
        """Leave a lost pool alone, and older ones; the first fit in its place takes what is known by now."""
        pool, state = self.announced.pool, self.state
        if state.lost and (pool is None or pool.version <= state.lost):
            self.announced.pool = None
            state.lost_at = BEGINNING if self.window.judged is None else self.window.judged - 1

    @property
    def next_version(self) -> int:
        """Version of the next member: versions of members whom nobody believes any more are not used again."""
        return max(self.state.member, *self.announced.members, 0) + 1

    def _begin(self, log: LogReader, place: Place) -> int:
        """From where a partition of `examples` is read: remembered, not archived, or not folded."""
        partition, begin = place.partition, log.begin(place)
        archived = self.state.archived.get(partition, begin)
        if archived < begin:
            extra = {"partition": partition, "first": archived, "last": begin - 1}
            logger.error("examples_lost", extra=extra)
            self.lost += begin - archived
            archived = begin
        self.state.archived[partition] = archived
        remembered = self.state.begins.get(partition, 0)
        folded = self.weighing.covers.get(partition, remembered - 1) + 1
        start = max(min(remembered, archived, folded), begin)
        watermark = passed_before(log, place, start)
        self.window.begin(partition, start, watermark)
        self.archive.begin(partition, start, archived, watermark)
        return start

    def hear_judge(self) -> None:
        """Before a judge has spoken nobody knows how far it is: what it says counts at once."""
        self.window.judged, self.window.until = self.judgement.settle(self.episodes), None
        if self.window.judged is None:
            self.episodes.come(None)

    def hear_pool(self) -> None:
        """Take over the first pool where somebody else announced it: history gives one, too."""
        if self.announced.pool is not None and not self.weighing.blend.members:
            self.weighing.agree(self.announced.pool)

    def grow(self) -> None:
        """Note when the labelled rows had grown enough."""
        self.state.growth = growth.grown(self.state.growth, self.window)

    def settle(self) -> None:
        """Add up the rows that are decided on: the window may forget them."""
        self.state.growth = growth.settled(self.state.growth, self.window)

    def take_rows(self, partition: int, message: Decoded, timestamp: int, waiting: int = 0) -> int:
        """Remember the rows of a message that the broker took at a time, and learn from them; how many are new."""
        self.archive.add(partition, message, timestamp)
        needed = {*KEPT, *self._spec.features}
        if missing := sorted(needed - set(message.batch.schema.names)):  # another definition of the pipeline wrote it
            logger.warning("examples_ignored", extra={"offset": message.offset, "missing": missing})
            return 0
        before = self.window.passed(partition)
        fresh = self.window.add(partition, message.offset, message.batch, passed(message.headers.through))
        rows = message.batch if fresh.all() else message.batch.filter(pa.array(fresh))
        self.weighing.take(partition, message.offset, rows, before, waiting)
        return int(fresh.sum())


def _recent(spec: Pipeline) -> int:
    """How many of the newest rows triggers and datasets may want from memory."""
    window, training = selected(spec.training.window), spec.training
    size = window.newest if window.plain and window.newest is not None else RECENT
    return max(size, training.min_rows, FOLLOW_UP * spec.drift.settle)


def announced(log: LogReader, keys: Keys) -> Announced:
    """What was announced so far."""
    found = Announced(keys)
    for message in log.read(MODELS, log.begin(MODELS), log.end(MODELS)):
        found.take(message)
    return found
