"""The estimators of the list: how each is put together, seeded, and fitted the same way every time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline as Chain
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Params = Mapping[str, Any]

MOST_CATEGORIES = 200
"""Of one feature; rarer ones count as unknown. Trees have 255 bins, one of them for what is missing."""

MIN_KNOWN = 10
"""Values of a feature from which on something is learnt from it."""

NO_CATEGORY = -1.0
PROBE_ROWS = 60


class Classifier(Protocol):
    """What scikit-learn calls a classifier."""

    def fit(self, matrix: Matrix, labels: Labels, /) -> Any:
        """Learn from rows and their classes."""

    def predict_proba(self, matrix: Matrix, /) -> Matrix:
        """Probability of each class, shape (rows, 2)."""


class Refused(ValueError):
    """The estimator does not take these parameters or this dataset."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is fitted.

    Attributes:
        estimator: A name of the list.
        params: What pipeline.yaml says, on top of the defaults.
    """

    estimator: str
    params: Params

    @property
    def most_categories(self) -> int:
        """Most categories of one feature that the estimator tells apart."""
        bins = self.params.get("max_bins", MOST_CATEGORIES)
        return min(MOST_CATEGORIES, bins if isinstance(bins, int) else MOST_CATEGORIES)

    def fill(self, matrix: Matrix, categories: list[int]) -> Matrix:
        """What counts where a value is missing, shape (features,): a number's mean, and for a category none of all.

        NaN where the estimator itself knows what to do with a missing value.
        """
        if self.estimator in _KNOW_MISSING:
            return np.full(matrix.shape[1], np.nan)
        known = ~np.isnan(matrix)
        means = np.where(known, matrix, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        means[categories] = NO_CATEGORY
        return means  # type: ignore[no-any-return]

    def fit(self, matrix: Matrix, labels: Labels, categories: list[int], seed: int) -> tuple[Classifier, bool]:
        """A fitted classifier, and whether the fit converged. Equal arguments give an equal model, on one thread.

        Missing values of the matrix are filled.

        Raises:
            Refused: The estimator says why.
        """
        try:
            classifier = _MAKERS[self.estimator](self.params, categories, matrix.shape[1], seed)
            with threadpool_limits(1), warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                classifier.fit(matrix, labels)
        except (ValueError, TypeError) as error:
            raise Refused(f"{self.estimator}: {str(error).splitlines()[0]}") from error
        return classifier, not any(issubclass(each.category, ConvergenceWarning) for each in said)

    def check(self) -> None:
        """Fit a handful of made-up rows, so that wrong parameters show at the start.

        Raises:
            Refused: The estimator does not know or take a parameter.
        """
        numbers = np.linspace(-1.0, 1.0, PROBE_ROWS).reshape(-1, 1)
        labels = (np.arange(PROBE_ROWS) % 3 > 0).astype(np.int8)
        self.fit(np.hstack([numbers, numbers**2]), labels, [], seed=0)


def without_holes(matrix: Matrix) -> Matrix:
    """A column that is hardly ever known becomes a constant: nothing is learnt from it, and the trees need a value."""
    unknown = (~np.isnan(matrix)).sum(axis=0) < MIN_KNOWN
    return np.where(unknown, 0.0, matrix)


def _trees(params: Params, categories: list[int], features: int, seed: int) -> Classifier:  # noqa: ARG001 - one shape
    # Few rows and many trees make a model that is sure and wrong: stop when a tenth of the rows says so.
    defaults = {"early_stopping": True, "random_state": seed}
    return HistGradientBoostingClassifier(**{**defaults, "categorical_features": categories or None, **params})  # type: ignore[no-any-return]


def _logistic(params: Params, categories: list[int], features: int, seed: int) -> Classifier:
    model = LogisticRegression(**{"max_iter": 1_000, "random_state": seed, **params})
    return Chain([("prepare", _prepared(categories, features)), ("model", model)])  # type: ignore[no-any-return]


def _prepared(categories: list[int], features: int) -> Any:
    """Numbers to one scale, categories to a column for each value; a plain scaler, where it is enough, is quicker."""
    if not categories:
        return StandardScaler()
    numbers = [index for index in range(features) if index not in categories]
    spread = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numbers", StandardScaler(), numbers), ("categories", spread, categories)])


_MAKERS = {"hist_gradient_boosting": _trees, "logistic_regression": _logistic}

_KNOW_MISSING = {"hist_gradient_boosting"}
