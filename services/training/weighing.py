"""The weights fold as a leader carries it: which messages it has seen, and when a checkpoint is due."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runtime.metrics import Metrics
from runtime.ports import LogReader
from runtime.signing import Keys
from runtime.weighed import WEIGHTS, Weighed, tail
from schemas import batch as b
from schemas.beside import apart
from schemas.columns import completed
from schemas.messages import Pool
from schemas.pipeline import Pipeline
from schemas.pooling import IDENTITY, Calibrator, Task, Weights
from services.training.domain.blend import Blend
from services.training.domain.gate import Gate
from services.training.domain.judged import Judged
from services.training.domain.referee import Referee
from services.training.domain.rows import times
from services.training.domain.served import Served
from services.training.learning import Learning

CADENCE = 50
"""Labels between two checkpoints."""


class Weighing:
    """What the labels teach about the pool's members.

    Messages are folded in the order in which they come, each once; rows that are known already and corrections move
    nothing. A checkpoint names the last message of each partition, so that whoever goes on from it misses none.

    Args:
        spec: The pipeline.
        given: The newest checkpoint, None before the first.
        pool: The newest pool, None before the first.
        learning: The online member, None without one.

    Attributes:
        blend: Members, weights, calibrator.
        referee: Champion and challengers; None under the strategy `blend`.
        served: What the members' answers to the newest rows cost.
        covers: Partition of `examples`: offset of the last message that was folded.
    """

    def __init__(
        self,
        spec: Pipeline,
        given: Weights | None = None,
        pool: Pool | None = None,
        learning: Learning | None = None,
    ) -> None:
        self._model, self._width, self._learning = spec.pipeline, spec.target.width, learning
        task: Task = spec.task
        if given is None and pool is not None:
            given = _own(pool, task)
        self.blend = Blend(task, given)
        self.referee = _referee(spec, task, given)
        self.served = Served(spec.target)
        self._number = 0 if given is None else given.number
        self.covers = {} if given is None else dict(given.covers)
        self._labels = 0
        if pool is not None:
            self.agree(pool)

    def agree(self, pool: Pool) -> None:
        """Have the members that were announced: a crash may lie between an announcement and its checkpoint."""
        for member in (each for each in pool.members if each not in self.blend.members):
            self.blend.add(member)
        for member in (each for each in tuple(self.blend.members) if each not in pool.members):
            self.blend.remove(member)
        self.seat(pool)

    def seat(self, pool: Pool) -> None:
        """Try the members of a pool against its leader; whoever ruled before may win it back."""
        if (referee := self.referee) is None:
            return
        if referee.champion != pool.leader:
            before = referee.champion
            newer = [each for each in referee.trials if each not in (pool.leader, before)]
            first = [before] if before is not None and before in pool.members else []
            referee.crown(pool.leader, [*first, *(each for each in newer if each in pool.members)])
        for each in tuple(referee.trials):
            if each not in pool.members:
                referee.leave(each)
        for each in pool.members:
            referee.challenge(each)

    def take(self, partition: int, offset: int, rows: pa.RecordBatch, passed: int, waiting: int = 0) -> None:
        """Fold the new rows of a message; one that was folded before the checkpoint changes nothing.

        Args:
            partition: Partition of `examples`.
            offset: Place of the message.
            rows: Its rows that are new.
            passed: Time that its partition had passed before it.
            waiting: Rows that wait to be taken, these included.
        """
        rows = completed(rows, dict(b.SCORED))
        if b.CORRECTION in rows.schema.names:
            rows = rows.filter(pc.invert(pc.fill_null(rows.column(b.CORRECTION), fill_value=False)))
        labels = rows.column(b.LABEL).to_numpy(zero_copy_only=False).astype(float)
        members, outputs, online = apart(rows.column(b.MEMBERS), rows.column(b.OUTPUTS), self._width)
        judged = Judged.of(members, outputs, labels, None if self._learning is None else online)
        self.served.add(judged, np.maximum(times(rows), passed), times(rows))
        if offset <= self.covers.get(partition, -1):
            return
        self.covers[partition] = offset
        if self._learning is not None:
            self._learning.take(rows, labels, waiting)
        if self.referee is not None:
            self.referee.fold(judged, self.blend.deviation)
        self.blend.fold(judged)
        self._labels += rows.num_rows

    @property
    def due(self) -> bool:
        """Whether enough labels have come since the last checkpoint."""
        return bool(self.blend.members) and self._labels >= CADENCE

    def checkpoint(self, pool: Pool, epoch: int) -> Weights:
        """What is known by now, for the members of a pool, said in a leader's epoch."""
        self._number, self._labels = self._number + 1, 0
        identity: dict[str, Any] = {"model": self._model, "epoch": epoch, "number": self._number}
        if (referee := self.referee) is not None:
            tried = {"challengers": referee.challengers, "trials": dict(referee.trials)}
            identity |= {"champion": referee.champion, **tried}
        if self._learning is not None:
            identity |= {"online": self._learning.snapshot()}
        return self.blend.checkpoint(**identity, pool=pool.version, covers=dict(self.covers))


def _referee(spec: Pipeline, task: Task, given: Weights | None) -> Referee | None:
    strategy = spec.strategy
    if strategy.name == "blend":
        return None
    gate = Gate()
    alpha, rows = strategy.alpha or gate.alpha, strategy.max_rows or gate.max_rows
    return Referee(task, Gate(alpha, rows), given)


def newest(log: LogReader, keys: Keys, metrics: Metrics) -> Weights | None:
    """The newest checkpoint on the log that is believed."""
    weighed = Weighed(keys, metrics)
    for message in log.read(WEIGHTS, tail(log, keys), log.end(WEIGHTS)):
        weighed.take(message)
    return weighed.newest


def _own(pool: Pool, task: Task) -> Weights:
    """A checkpoint of nothing but what a pool's announcement says."""
    members = tuple(sorted(pool.members))
    return Weights(
        model=pool.model,
        epoch=pool.epoch,
        number=0,
        pool=pool.version,
        members=members,
        log_weights=tuple(np.log([max(pool.weights[each], 1e-12) for each in members]).tolist()),
        labels=(0,) * len(members),
        calibrator=Calibrator(IDENTITY[task]),
    )
