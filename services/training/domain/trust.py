"""How a row's label moves the weights of the members that scored it.

Tempered likelihoods, renormalised among the members that were awake for the row, who keep their joint weight; then a
fixed share of it spread evenly, so that nobody who was wrong for long needs long to come back.

Source: M. Herbster, M. Warmuth, Tracking the Best Expert, Machine Learning 32, 1998; sleeping: Y. Freund, R. Schapire,
Y. Singer, M. Warmuth, Using and Combining Predictors That Specialize, STOC 1997.

The one loop over rows of this service, plain floats: each row's weights come from the row before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from schemas.pooling import Floats, Task
from services.training.domain.calibrators import Linear

TEMPER = 0.05
"""Power of a likelihood. Real rows resemble their neighbours and labels are late, so a row counts for much less than
one: with 0.3 the weights follow the last few labels, and on three real streams the pool answered worse."""
SHARE = 0.005
"""Part of the awake members' weight that is spread evenly after each row: while all are right for long they become
equals, half as fast as with .01."""
SCALE_MEMORY = 0.99
"""Part of a residual variance that the next row leaves."""
OUTLIER = 5.0
"""A residual counts as at most so many standard deviations: one wild label must not make all members equal for long,
nor give all the weight to whoever happens to be nearest to it."""
NOTHING = 1e-200
"""A residual variance up to this is none: members that agree with every label are equally right."""


def likelihoods(task: Task, told: Floats, labels: Floats) -> Floats:
    """Tempered likelihood of each row's class under each member, the row's greatest 1; shape (rows, members).

    Args:
        task: binary or multiclass.
        told: Opinions, shape (rows, members, K).
        labels: Index of the class.
    """
    if task == "binary":
        signs = np.where(labels > 0, 1.0, -1.0)
        logs = -np.logaddexp(0.0, -signs[:, None] * told[:, :, 0])
    else:
        logs = np.take_along_axis(told, labels.astype(np.int64)[:, None, None], axis=2)[:, :, 0]
    raised: Floats = np.exp(TEMPER * (logs - logs.max(axis=1, keepdims=True)))
    return raised


def followed(weights: list[float], factors: Floats) -> tuple[Floats, list[float]]:
    """The weights in front of each row, shape (rows, members), and behind the last one; each row's sum to 1.

    Args:
        weights: In front of the first row.
        factors: Likelihoods, some of each row 1.
    """
    path = []
    for row in factors.tolist():
        path.append(weights)
        weights = _shared([a * b for a, b in zip(weights, row, strict=True)])
    return np.array(path), weights


def squared(
    weights: list[float], variance: float, told: Floats, labels: Floats, lines: Sequence[Linear]
) -> tuple[Floats, list[float], Floats, Floats, float]:
    """The same for regression, where the likelihood is Gaussian with the mixture's running residual variance.

    A member is weighed by what its line makes of its value: its level is mended anyhow, what counts is the rest.

    Args:
        weights: In front of the first row.
        variance: Likewise; 0 where nothing is known yet.
        told: Values, shape (rows, members).
        labels: The true values.
        lines: Of the members; they learn, each row after it was used.

    Returns:
        Weights in front of each row, weights behind the last one, what the lines made of the values, the labels with
        outliers drawn in, and the variance.
    """
    path, made, near = [], [], []
    for row, label in zip(told.tolist(), labels.tolist(), strict=True):
        said = [line.of(value) for line, value in zip(lines, row, strict=True)]
        mixed = sum([a * b for a, b in zip(weights, said, strict=True)])
        error = label - mixed
        path.append(weights)
        made.append(said)
        if variance > NOTHING:
            most = OUTLIER * math.sqrt(variance)
            error = min(max(error, -most), most)
            weights = _nearer(weights, [(mixed + error - each) ** 2 for each in said], -0.5 * TEMPER / variance)
        variance = variance + (1.0 - SCALE_MEMORY) * (error * error - variance) if variance > NOTHING else error * error
        near.append(mixed + error)
        for line, value in zip(lines, row, strict=True):
            line.row(value, mixed + error)
    return np.array(path), weights, np.array(made), np.array(near), variance


def _nearer(weights: list[float], squares: list[float], power: float) -> list[float]:
    """The weights behind a row, from the members' squared errors."""
    least = min(squares)
    return _shared([a * math.exp(power * (b - least)) for a, b in zip(weights, squares, strict=True)])


def _shared(moved: list[float]) -> list[float]:
    """Weights that sum to 1 again, a fixed share of them spread evenly."""
    kept, even = (1.0 - SHARE) / sum(moved), SHARE / len(moved)
    return [each * kept + even for each in moved]
