"""What is made of each member before it is weighed and mixed, learnt from the labels.

Fits of other seasons have other levels. What a line mends is no matter of trust; and one line on the mixture belongs to
the weights that it was learnt with, which move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from schemas.pooling import IDENTITY, Calibrator, Floats, Task, straightened
from services.training.domain.calibrators import LEAST, MEMORY, WIDEST, Linear

LEVEL_PRIOR = 0.001
"""Variance of a level at the beginning: neighbours often have one label, and a run of one class is no new level."""


class Line(Protocol):
    """A calibrator of one member, from which its next one goes on."""

    def told(self) -> Calibrator:
        """What it is now: a factor, and what is added to each number."""


def line(task: Task, given: Calibrator | None = None) -> Line:
    """A member's calibrator that goes on from what another one was; None: from the identity."""
    if task == "regression":
        return Linear(given or Calibrator(IDENTITY[task]))
    return Level(given)


class Level:
    """What is added to a member's logits, or to its logarithms of each class: logistic regression with nothing else.

    No factor: a member of a world that sleeps would be made to say nothing, or its opposite, and be of no use when that
    world comes back.

    Args:
        given: Where to go on; None: nothing is added.

    Attributes:
        added: To each number, shape (K,); empty before the first label.
        variance: Of each.
    """

    def __init__(self, given: Calibrator | None = None) -> None:
        self.added = np.array(() if given is None else given.parameters[1:])
        self.variance = np.array(() if given is None else given.state)

    def told(self) -> Calibrator:
        """What it is now."""
        return Calibrator((1.0, *self.added.tolist()), tuple(self.variance.tolist()))


def levelled(task: Task, levels: Sequence[Level], told: Floats, labels: Floats) -> Floats:
    """What levels make of their members' opinions, each row by what was known in front of it; they learn.

    Args:
        task: binary or multiclass.
        levels: Of the members.
        told: Opinions, shape (rows, members, K).
        labels: Index of the class.
    """
    width = told.shape[2]
    added = np.array([each.added if len(each.added) else np.zeros(width) for each in levels])
    variance = np.array([each.variance if len(each.variance) else np.full(width, LEVEL_PRIOR) for each in levels])
    true = labels[:, None] == (np.array([1.0]) if width == 1 else np.arange(width))
    lines = np.ones((*told.shape[:2], 1 + width))
    for row, (values, hit) in enumerate(zip(told, true, strict=True)):
        lines[row, :, 1:] = added
        p = _chances(values + added)
        kept = variance / (1.0 + np.maximum(p * (1.0 - p), LEAST) * variance)
        added = added + kept * (hit - p)
        variance = np.minimum(kept / MEMORY, WIDEST)
    for each, level, left in zip(levels, added, variance, strict=True):
        each.added, each.variance = level, left
    return straightened(task, told, lines)


def _chances(found: Floats) -> Floats:
    """Probabilities of logits, or of logarithms of each class, shape (members, K)."""
    raised = np.exp(found)
    return np.asarray(raised / (1.0 + raised if found.shape[1] == 1 else raised.sum(axis=1, keepdims=True)))
