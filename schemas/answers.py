"""What a fitted estimator answers to a matrix, in the form of its task: the same for fitting, checking and serving."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from schemas.encoding import Matrix
from schemas.task import Floats, Target

UNLEARNT = 1e-3
"""Probability of a class that had too few rows to be learnt."""


class Estimator(Protocol):
    """What scikit-learn calls an estimator: a regressor has `predict`, a classifier `predict_proba` and `classes_`."""

    def fit(self, matrix: Matrix, labels: Any, /) -> Any:
        """Learn from rows and their labels."""

    def predict(self, matrix: Matrix, /) -> Any:
        """The value or class of each row."""


def answer(estimator: Estimator, matrix: Matrix, target: Target) -> Floats:
    """The output for each row, shape (rows,) for one number per row, else (rows, K); none for no rows."""
    if not len(matrix):
        return np.empty((0, target.width) if target.width > 1 else 0)
    if target.is_regression:
        return np.asarray(estimator.predict(matrix), np.float64).reshape(-1)
    classifier: Any = estimator
    given = np.asarray(classifier.predict_proba(matrix), np.float64)
    return _of_all_classes(given, classifier.classes_, target.width) if target.width > 1 else given[:, 1]


def _of_all_classes(given: Floats, learnt: Any, width: int) -> Floats:
    found = np.full((len(given), width), UNLEARNT)
    found[:, np.asarray(learnt, np.intp)] = given * (1.0 - UNLEARNT * (width - len(learnt)))
    return found


def one_thread() -> None:
    """Let numerics of the calling thread use one core: others have partitions of their own, and sums keep an order."""
    _libraries(len(sys.modules)).limit(limits=1)


@lru_cache(1)
def _libraries(modules: int) -> ThreadpoolController:  # noqa: ARG001 - another one is loaded by an import at most
    """The numerical libraries of this process: to look for them takes as long as to load a model."""
    return ThreadpoolController()
