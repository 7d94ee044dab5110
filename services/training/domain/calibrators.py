"""What is made of a mixture, learnt from the labels: one recursive estimator per task.

Plain floats where a row has few numbers: a call of numpy costs more than the arithmetic.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from schemas.pooling import BOUND, IDENTITY, Calibrator, Floats, Task

MEMORY = 0.9995
"""Part of what is known that the next row leaves: about the last 2,000 rows count."""
LINE_MEMORY = 0.995
"""The same of a regression: its level moves with seasons and growth, and moments cannot diverge however short it is."""
PRIOR = 0.05
"""Variance of each parameter at the beginning."""
WIDEST = 1.0
"""Most that the variance of a parameter grows while rows say nothing of it."""
LEAST = 1e-3
"""A row's variance under the model counts as at least this much."""


class Learner(Protocol):
    """A calibrator that learns."""

    def learn(self, mixed: Floats, beside: Floats, labels: Floats) -> None:
        """Learn from rows, one after the other.

        Args:
            mixed: The mixture, shape (rows, K).
            beside: The online member's beliefs, likewise, 0 without.
            labels: Index of the class, or the value.
        """

    def told(self) -> Calibrator:
        """What it is now."""


def learner(task: Task, given: Calibrator | None = None) -> Learner:
    """A calibrator that goes on from what another one was; None: from the identity."""
    given = given or Calibrator(IDENTITY[task])
    if task == "binary":
        return Logistic(given)
    return Power(given) if task == "multiclass" else Linear(given)


class Logistic:
    """Recursive logistic regression on two logits and a constant: an extended Kalman filter with forgetting.

    The covariance is kept as its upper triangle. What no row speaks of (the online member's factor, without one) only
    widens, up to its bound, and must not hold back the others: hence a bound for each parameter.
    """

    def __init__(self, given: Calibrator) -> None:
        self._theta = given.parameters
        self._cov = given.state or (PRIOR, 0.0, 0.0, PRIOR, 0.0, PRIOR)

    def told(self) -> Calibrator:
        """What it is now."""
        return Calibrator(self._theta, self._cov)

    def learn(self, mixed: Floats, beside: Floats, labels: Floats) -> None:
        """Learn from rows, one after the other."""
        for m, o, y in zip(mixed[:, 0].tolist(), beside[:, 0].tolist(), labels.tolist(), strict=True):
            self._row(m, o, y)

    def _row(self, m: float, o: float, y: float) -> None:
        (a, b, c), (paa, pab, pac, pbb, pbc, pcc) = self._theta, self._cov
        p = 1.0 / (1.0 + math.exp(-min(max(a * m + b * o + c, -30.0), 30.0)))
        v = max(p * (1.0 - p), LEAST)
        ga, gb, gc = paa * m + pab * o + pac, pab * m + pbb * o + pbc, pac * m + pbc * o + pcc
        s = 1.0 / v + m * ga + o * gb + gc
        gain = (y - p) / v / s
        self._theta = a + ga * gain, b + gb * gain, c + gc * gain
        f, s = 1.0 / MEMORY, 1.0 / (s * MEMORY)
        self._cov = _bounded(
            paa * f - ga * ga * s,
            pab * f - ga * gb * s,
            pac * f - ga * gc * s,
            pbb * f - gb * gb * s,
            pbc * f - gb * gc * s,
            pcc * f - gc * gc * s,
        )


def _bounded(
    aa: float, ab: float, ac: float, bb: float, bc: float, cc: float
) -> tuple[float, float, float, float, float, float]:
    """A covariance with no variance above the widest; scaled from both sides, so that it stays one."""
    if aa <= WIDEST and bb <= WIDEST and cc <= WIDEST:
        return aa, ab, ac, bb, bc, cc
    a, b, c = (math.sqrt(WIDEST / each) if each > WIDEST else 1.0 for each in (aa, bb, cc))
    return aa * a * a, ab * a * b, ac * a * c, bb * b * b, bc * b * c, cc * c * c


class Power:
    """Factors of two vectors of log probabilities: an inverse temperature, and the online member's.

    The state is the information, the inverse of a covariance, as its upper triangle.
    """

    def __init__(self, given: Calibrator) -> None:
        self._a, self._b = given.parameters
        self._info = given.state or (1.0 / PRIOR, 0.0, 1.0 / PRIOR)

    def told(self) -> Calibrator:
        """What it is now."""
        return Calibrator((self._a, self._b), self._info)

    def learn(self, mixed: Floats, beside: Floats, labels: Floats) -> None:
        """Learn from rows, one after the other."""
        both = np.stack([mixed, beside], axis=1)
        for row, label in zip(both, labels.astype(np.int64).tolist(), strict=True):
            self._row(row, label)

    def _row(self, row: Floats, label: int) -> None:
        total = self._a * row[0] + self._b * row[1]
        raised = np.exp(total - total.max())
        centred = row - ((row @ raised) / raised.sum())[:, None]
        (aa, ab), (_, bb) = ((centred * raised) @ centred.T / raised.sum()).tolist()
        before = self._info
        aa, ab, bb = before[0] + aa, before[1] + ab, before[2] + bb
        ga, gb = centred[0, label], centred[1, label]
        under = aa * bb - ab * ab
        self._a += float(bb * ga - ab * gb) / under
        self._b += float(aa * gb - ab * ga) / under
        self._info = max(MEMORY * aa, 1.0 / WIDEST), MEMORY * ab, max(MEMORY * bb, 1.0 / WIDEST)


class Linear:
    """Recursive least squares of the label on [value, 1], with forgetting, held near the identity by a prior.

    Kept as decayed moments, which nothing can make diverge, and judged beside the value, a member's or the mixture's:
    where it was not better lately, the parameters say the identity.
    """

    def __init__(self, given: Calibrator) -> None:
        (self._rows, self._x, self._y, self._xx, self._xy, self._plain, self._made) = given.state or (0.0,) * 7
        self._found = self._line()

    @property
    def parameters(self) -> tuple[float, float]:
        """Slope and constant, the identity where the value alone was as good."""
        return self._found if self._made < self._plain else (1.0, 0.0)

    def of(self, x: float) -> float:
        """What is made of a value."""
        slope, constant = self.parameters
        return min(max(slope * x + constant, -BOUND["regression"]), BOUND["regression"])

    def told(self) -> Calibrator:
        """What it is now."""
        state = (self._rows, self._x, self._y, self._xx, self._xy, self._plain, self._made)
        return Calibrator(self.parameters, state)

    def learn(self, mixed: Floats, beside: Floats, labels: Floats) -> None:  # noqa: ARG002 - no online member here
        """Learn from rows, one after the other."""
        for x, y in zip(mixed[:, 0].tolist(), labels.tolist(), strict=True):
            self.row(x, y)

    def row(self, x: float, y: float) -> None:
        """Learn from a row: a value, and the label."""
        slope, constant = self._found
        self._plain = LINE_MEMORY * self._plain + (y - x) ** 2
        self._made = LINE_MEMORY * self._made + (y - slope * x - constant) ** 2
        self._rows = LINE_MEMORY * self._rows + 1.0
        dx, dy = x - self._x, y - self._y
        self._x, self._y = self._x + dx / self._rows, self._y + dy / self._rows
        self._xx = LINE_MEMORY * self._xx + dx * (x - self._x)
        self._xy = LINE_MEMORY * self._xy + dx * (y - self._y)
        self._found = self._line()

    def _line(self) -> tuple[float, float]:
        """Slope and constant, with priors of variance `PRIOR`: in units of the residuals, and of the mixture's."""
        if self._plain <= 0.0:
            return 1.0, self._y - self._x
        left = min(self._plain, self._made)
        noise = left / self._rows / PRIOR
        slope = (self._xy + noise) / (self._xx + noise) if self._xx + noise > 0.0 else 1.0
        shift = (self._y - self._x) * self._rows / (self._rows + left / self._plain / PRIOR)
        return slope, self._x + shift - slope * self._x
