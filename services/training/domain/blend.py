"""Whom the labels trust: weights and lines of the pool's members, and the calibrator on top, as a fold over `examples`.

The fold of a message ends in a state that its checkpoint holds completely: whoever goes on from there comes to the
same weights, bit by bit.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import numpy as np

from schemas.encoding import LARGEST
from schemas.pooling import Floats, Task, Weights, beliefs, mixture, opinions
from services.training.domain.calibrators import Linear, learner
from services.training.domain.judged import Judged, Run
from services.training.domain.lines import Level, Line, levelled, line
from services.training.domain.trust import NOTHING, followed, likelihoods, squared

ENTRY = 0.25
"""Weight of a newcomer. It passed its check and knows the newest rows; of the mean of logarithms a quarter decides only
where the others hesitate, so that a bad one does little harm before its labels speak."""
JUDGED_ENOUGH = 100
"""Labels from which on a member may have to leave."""


class Blend:
    """The fold.

    Args:
        task: What is predicted.
        given: Where to go on; None: no members yet.
    """

    def __init__(self, task: Task, given: Weights | None = None) -> None:
        self._task: Task = task
        self.members: list[int] = [] if given is None else list(given.members)
        self._logs = np.array([] if given is None else given.log_weights)
        self._labels = np.array([] if given is None else given.labels, np.int64)
        self._calibrator = learner(task, None if given is None else given.calibrator)
        self._lines = self._given_lines(given)
        self._variance = 0.0 if given is None else given.variance
        self._apart = _square(len(self.members), () if given is None else given.apart)
        self._together = _square(len(self.members), () if given is None else given.together)

    def _given_lines(self, given: Weights | None) -> list[Line]:
        """Of the members; new ones where a checkpoint has none yet."""
        before = () if given is None else given.lines or (None,) * len(given.members)
        return [line(self._task, each) for each in before]

    @property
    def deviation(self) -> float:
        """Regression: running standard deviation of the mixture's residuals; else 0."""
        return float(np.sqrt(self._variance))

    def checkpoint(self, **identity: Any) -> Weights:
        """What the fold knows; `identity` are the fields of `Weights` that are not its own."""
        upper = np.triu_indices(len(self.members), 1)
        return Weights(
            members=tuple(self.members),
            log_weights=tuple(self._logs.tolist()),
            labels=tuple(self._labels.tolist()),
            calibrator=self._calibrator.told(),
            lines=tuple(each.told() for each in self._lines),
            variance=self._variance,
            apart=tuple(self._apart[upper].tolist()),
            together=tuple(self._together[upper].astype(np.int64).tolist()),
            **identity,
        )

    def add(self, member: int) -> None:
        """A member joins: with a quarter of the weight, the others keep their proportions; the first has all."""
        if member in self.members:
            return
        place = int(np.searchsorted(self.members, member)) if self.members else 0
        entry = np.log(ENTRY) if self.members else 0.0
        self._logs = np.insert(self._logs + (np.log1p(-ENTRY) if self.members else 0.0), place, entry)
        self.members.insert(place, member)
        self._labels = np.insert(self._labels, place, 0)
        self._lines.insert(place, line(self._task))
        self._apart, self._together = _opened(self._apart, place), _opened(self._together, place)

    def remove(self, member: int) -> None:
        """A member leaves; the others keep their proportions."""
        place = self.members.index(member)
        del self.members[place]
        del self._lines[place]
        self._logs, self._labels = np.delete(self._logs, place), np.delete(self._labels, place)
        self._logs -= np.logaddexp.reduce(self._logs) if self.members else 0.0
        self._apart, self._together = _closed(self._apart, place), _closed(self._together, place)

    def fold(self, judged: Judged) -> None:
        """Learn from a message's rows, one after the other; members that are not in the fold say nothing."""
        for run in judged.runs():
            for piece in run.pieces():
                self._learn(piece)

    def weights(self) -> dict[int, float]:
        """Weight of each member, ascending; they sum to 1."""
        shares = np.exp(self._logs - np.logaddexp.reduce(self._logs)) if self.members else self._logs
        return dict(zip(self.members, shares.tolist(), strict=True))

    def labels(self) -> dict[int, int]:
        """Labels by which each member was judged."""
        return dict(zip(self.members, self._labels.tolist(), strict=True))

    @property
    def leader(self) -> int:
        """The heaviest member, of equals the newest."""
        weights = self.weights()
        return max(self.members, key=lambda each: (weights[each], each))

    def redundant(self, spared: Collection[int]) -> int | None:
        """Who leaves a full pool: of the members judged enough, who would be missed least.

        That is the least product of the distance to the nearest other member and the root of the weight: of several
        that say the same the lighter leave first, and a regime that sleeps, light but unlike the others, stays. By
        distance alone a pool fills with members that were never right.

        Args:
            spared: Who stays whatever comes: the anchor, the newest.

        Returns:
            The member; None where none may leave.
        """
        nearest = self._distances().min(axis=1, initial=np.inf)
        missed = dict(zip(self.members, nearest * np.exp(self._logs / 2.0), strict=True))
        judged = dict(zip(self.members, self._labels, strict=True))
        may = [each for each in self.members if judged[each] >= JUDGED_ENOUGH and each not in spared]
        return min(may, key=lambda each: (missed[each], each), default=None)

    def _distances(self) -> Floats:
        """Mean distance between two members' outputs; infinite where they never scored the same row."""
        apart, together = self._apart + self._apart.T, self._together + self._together.T
        return np.where(together > 0, apart / np.maximum(together, 1.0), np.inf)

    def _learn(self, run: Run) -> None:
        known = [place for place, member in enumerate(run.members) if member in self.members]
        if not known or not len(run.labels):
            return
        awake = [self.members.index(run.members[place]) for place in known]
        told = opinions(self._task, run.outputs[:, known])
        path, told, labels = self._follow(awake, told, run.labels)
        mixed = mixture(told, path)
        beside = np.zeros_like(mixed) if run.online is None else beliefs(self._task, run.online)
        self._calibrator.learn(mixed, beside, labels)
        self._compare(awake, self._answers(told))
        self._labels[awake] += len(labels)

    def _follow(self, awake: list[int], told: Floats, labels: Floats) -> tuple[Floats, Floats, Floats]:
        """Move the weights of those awake; the weights in front of each row, what is mixed, labels without outliers."""
        joint = np.logaddexp.reduce(self._logs[awake])
        weights = np.exp(self._logs[awake] - joint).tolist()
        lines = [self._lines[place] for place in awake]
        if self._task == "regression":
            labels = np.clip(labels, -LARGEST, LARGEST)
            linear, values = cast("list[Linear]", lines), told[:, :, 0]
            path, weights, made, labels, self._variance = squared(weights, self._variance, values, labels, linear)
            told = made[:, :, None]
        else:
            told = levelled(self._task, cast("list[Level]", lines), told, labels)
            path, weights = followed(weights, likelihoods(self._task, told, labels))
        self._logs[awake] = joint + np.log(weights)
        return path, told, labels

    def _answers(self, told: Floats) -> Floats:
        """Opinions as values, or as probabilities."""
        if self._task == "binary":
            return 1.0 / (1.0 + np.exp(-told))
        return np.exp(told) if self._task == "multiclass" else told

    def _compare(self, awake: list[int], outputs: Floats) -> None:
        """Count how far apart the members' outputs are: half the sum of absolute differences."""
        scale = np.sqrt(self._variance) if self._variance > NOTHING else 1.0
        for index, one in enumerate(awake[:-1]):
            gaps = np.abs(outputs[:, index + 1 :] - outputs[:, index : index + 1]).sum(axis=2) / (2.0 * scale)
            self._apart[one, awake[index + 1 :]] += gaps.sum(axis=0)
            self._together[one, awake[index + 1 :]] += len(outputs)


def _square(members: int, upper: Collection[float]) -> Floats:
    """A matrix with that upper triangle, the rest 0."""
    matrix = np.zeros((members, members))
    if upper:
        matrix[np.triu_indices(members, 1)] = list(upper)
    return matrix


def _opened(matrix: Floats, place: int) -> Floats:
    return np.insert(np.insert(matrix, place, 0.0, axis=0), place, 0.0, axis=1)


def _closed(matrix: Floats, place: int) -> Floats:
    return np.delete(np.delete(matrix, place, axis=0), place, axis=1)
