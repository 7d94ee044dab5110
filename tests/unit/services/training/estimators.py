"""Estimators that behave badly, for the process that fits."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

HOLD_BYTES = 1 << 20


class Sleeper(LogisticRegression):  # type: ignore[misc]
    """Takes its time."""

    def fit(self, X: Any, y: Any) -> Sleeper:  # noqa: N803 - scikit-learn's names
        time.sleep(600)
        return super().fit(X, y)  # type: ignore[no-any-return]


class Glutton(LogisticRegression):  # type: ignore[misc]
    """Takes all memory that there is."""

    def fit(self, X: Any, y: Any) -> Glutton:  # noqa: ARG002, N803
        held = []
        while True:
            held.append(np.ones(HOLD_BYTES))


class Doomed(LogisticRegression):  # type: ignore[misc]
    """Takes its process along."""

    def fit(self, X: Any, y: Any) -> Doomed:  # noqa: ARG002, N803
        os._exit(7)
