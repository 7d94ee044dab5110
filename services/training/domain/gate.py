"""Whether a challenger may replace the champion: a bet on each row, and a verdict once the capital proves it.

Per row the difference of the two losses is d in [-1, 1], above 0 where the challenger was better. A gambler who stakes
the part λ of the capital on it has Π(1 + λ d). If the challenger is no better given everything before the row, no
gambler's expected capital grows, nor does the mean of several: it ever reaches 1 / a with a probability of at most a,
however long one looks and whatever the rows depend on. The same with -d proves that it is worse.

Source: I. Waudby-Smith, A. Ramdas, Estimating means of bounded random variables by betting, Journal of the Royal
Statistical Society B 86, 2024; the bound is J. Ville's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schemas.pooling import Floats, Task, Trial, chosen

BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5])
"""Parts of the capital staked: small ones find small differences late, large ones large differences soon."""
SHARES = BETS / BETS.sum()
"""Of each gambler in the mean. Small stakes have thousands of rows to make up for a small share, large ones have not:
with equal shares a difference of five points takes 50 rows more, and one of two is found no oftener."""
WIDTH = 4.0
"""Regression: a residual of so many standard deviations of the champion's is a loss of 1, the most there is."""

Verdict = Literal["promoted", "rejected", "undecided"]


@dataclass(frozen=True, slots=True)
class Gate:
    """The rule.

    Attributes:
        alpha: Probability of ever promoting a challenger that is no better, over all challengers of one champion.
        max_rows: Rows after which a challenger that proved nothing is rejected.
    """

    alpha: float = 0.05
    max_rows: int = 20_000

    def enough(self, number: int) -> float:
        """Evidence that proves: minus the logarithm of the part of alpha that a challenger has.

        Args:
            number: Which challenger since the last promotion; the parts of all of them sum to alpha.
        """
        return -math.log(6.0 * self.alpha / (math.pi * number) ** 2)

    def judge(self, trial: Trial, differences: Floats) -> Trial:
        """Go on with a trial, row by row, up to its verdict.

        Args:
            trial: How far it has come.
            differences: Loss of the champion minus that of the challenger on the same rows, in [-1, 1].
        """
        differences = differences[: max(0, self.max_rows - trial.rows)]
        better, worse = capital(np.array(trial.better), differences), capital(np.array(trial.worse), -differences)
        proved = np.maximum(evidence(better), evidence(worse)) >= self.enough(trial.number)
        row = int(np.argmax(proved)) if proved.any() else len(proved) - 1
        return Trial(trial.number, trial.rows + row, tuple(better[row].tolist()), tuple(worse[row].tolist()))

    def verdict(self, trial: Trial) -> Verdict:
        """What a trial has proved so far."""
        if evidence(np.array(trial.better)) >= self.enough(trial.number):
            return "promoted"
        over = trial.rows >= self.max_rows or evidence(np.array(trial.worse)) >= self.enough(trial.number)
        return "rejected" if over else "undecided"


def begun(number: int) -> Trial:
    """The trial of a challenger, nothing seen yet."""
    return Trial(number, 0, (0.0,) * len(BETS), (0.0,) * len(BETS))


def capital(before: Floats, differences: Floats) -> Floats:
    """Logarithm of each bet's capital in front of the first row and behind each, shape (rows + 1, ..., bets).

    Args:
        before: In front of the first row, shape (..., bets).
        differences: Shape (rows, ...).
    """
    steps = np.log1p(BETS * np.clip(differences, -1.0, 1.0)[..., None])
    return np.cumsum(np.concatenate([before[None], steps]), axis=0)


def evidence(logs: Floats) -> Floats:
    """Logarithm of the bets' mean capital, shape (...)."""
    mean: Floats = np.logaddexp.reduce(logs + np.log(SHARES), axis=-1)
    return mean


def losses(task: Task, predictions: Floats, labels: Floats, deviation: float) -> Floats:
    """Loss of each row in [0, 1]: wrong or right, in regression the residual beside the champion's usual one.

    Args:
        task: What is predicted.
        predictions: As `mix` makes them; NaN is a loss of 1.
        labels: Index of the class, or the value.
        deviation: Regression: standard deviation of the champion's residuals on earlier rows, above 0.
    """
    values = chosen(task, predictions)
    if task != "regression":
        return np.asarray(values != labels, float)
    parts = np.nan_to_num(np.abs(values - labels) / (WIDTH * deviation), nan=1.0)
    return np.asarray(np.clip(parts, 0.0, 1.0))
