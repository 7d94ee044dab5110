"""The first model of a pipeline from its history: what a controller does with `examples`, with those of a file.

Its rows lie in the archive under the name of the history, so that the dataset is made again as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from runtime.announced import Announced
from runtime.errors import HeadraceError
from runtime.fold import passed
from runtime.ports import Message, Outgoing, Polled
from runtime.stage import Decoded, decode
from runtime.store import Store
from schemas.messages import Cause, Member, Pool, Scalar
from schemas.pipeline import Pipeline
from services.training.archive import Archive
from services.training.datasets import MEMORY, Datasets
from services.training.domain.announcements import Candidate, pool_of
from services.training.domain.estimators import Refused
from services.training.domain.fitting import Fit, scarce
from services.training.domain.rows import BEGINNING, times
from services.training.domain.taking import Taken
from services.training.domain.triggers import Trigger
from services.training.domain.window import Window
from services.training.fitter import Fitter
from services.training.saying import Saying
from services.training.segments import Segments

EXAMPLES = "examples"


class NoModel(HeadraceError):
    """The history makes no model; the text says why."""


class Founded(NamedTuple):
    """What became of a history.

    Attributes:
        member: The first member.
        steps: What is to be published, list after list.
    """

    member: Member
    steps: Sequence[Sequence[Outgoing]]


class Founding:
    """Takes the examples of a history and makes the first model of them.

    Args:
        spec: The pipeline.
        store: Where archive and artefacts go.
        history: Name of the history: another one for other rows.
        partitions: Number of partitions of its examples.
        memory: Bytes of the largest dataset.
        trusted: Types that a model may hold besides those of the list.

    Attributes:
        labelled: Examples so far.

    Raises:
        WrongSetup: The estimator does not take the parameters.
    """

    def __init__(
        self,
        spec: Pipeline,
        store: Store,
        history: str,
        partitions: int,
        memory: int = MEMORY,
        trusted: Sequence[str] = (),
    ) -> None:
        self._spec, self._fitter = spec, Fitter(spec, store, trusted)
        self._saying = Saying(spec.pipeline, keys=store.keys)
        self._archive = Archive(Segments(store, spec.pipeline, history), spec.drift.lateness)
        for partition in range(partitions):
            self._archive.begin(partition, 0, 0, None)
        self._datasets = Datasets(spec, Window(tuple(spec.features), 0, 0, 0), self._archive, memory)
        self._reached = BEGINNING
        self.labelled = 0

    def take(self, partition: int, messages: Sequence[Message]) -> None:
        """Archive messages of `examples`.

        Raises:
            Transient: The store is away.
        """
        for each in decode(Polled(EXAMPLES, partition, messages)):
            self._archive.add(partition, each, 0)
            self._reach(each)
            self.labelled += each.batch.num_rows
        self._archive.write(0)

    def _reach(self, message: Decoded) -> None:
        """Note a time that no row's order is above."""
        if (watermark := passed(message.headers.through)) is not None:
            self._reached = max(self._reached, watermark - self._spec.drift.lateness)
        if message.batch.num_rows:
            self._reached = max(self._reached, int(times(message.batch).max()))

    def fit(self, epoch: int) -> Founded:
        """Fit, check and store; what a controller of an epoch would announce.

        Raises:
            NoModel: There are too few rows, or the fit does not pass its check.
            Transient: The store is away.
        """
        self._archive.write()
        cause = Cause(kind="first", id=f"{self._spec.pipeline}/first")
        taken = self._dataset()
        try:
            made = self._fitter.fit(cause.id, taken.rows, self._reached, 1, Announced(self._saying.keys))
        except Refused as error:
            raise NoModel(str(error)) from error
        if not made.verdict.accepted:
            raise NoModel(f"the fit on {taken.rows.num_rows} rows of the history is rejected: {made.verdict.reason}")
        member = self._fitter.store(Candidate(1, cause, self._reached, taken, made), epoch)
        pool = pool_of(member, 1, self._reached, self._spec.drift.pane, epoch, self._spec.strategy.name)
        return Founded(member, self._steps(Trigger(cause, self._reached), taken, made, member, pool))

    def _dataset(self) -> Taken:
        taken = self._datasets.take(self._datasets.window, self._reached)
        rows, least = 0 if taken is None else taken.rows.num_rows, self._spec.training.min_rows
        if taken is None or rows < least:
            mend = "give more of it, or lower training.min_rows"
            raise NoModel(f"the history has {rows} labelled rows, and a first fit takes {least}: {mend}")
        if why := scarce(taken.rows, self._spec.target):
            raise NoModel(f"the history has {why}: give more of it")
        return taken

    def _steps(self, trigger: Trigger, taken: Taken, made: Fit, member: Member, pool: Pool) -> list[list[Outgoing]]:
        at, saying = self._reached, self._saying
        evidence: dict[str, Scalar] = {**made.verdict.metrics, "rows": member.rows, "version": 1, "history": taken.log}
        if taken.sampling is not None:
            evidence["sampled_from"] = taken.sampling.of
        fitted = saying.decision(trigger, "fitted", "member 1", made.verdict.reason, at, evidence)
        reason = f"member 1, of a history, was stored at {member.uri} and answers from pool 1 on"
        told: dict[str, Scalar] = {"digest": member.digest, "version": 1, "pool": 1}
        return [
            [fitted],
            [saying.announcement(said, at) for said in (member, pool)],
            [saying.decision(trigger, "announced", "pool 1", reason, at, told)],
        ]
