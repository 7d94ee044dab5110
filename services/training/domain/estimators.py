"""What is fitted: estimators by name or from another package, with their preprocessing, the same way every time."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.pipeline import Pipeline as Chain
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from schemas.answers import Estimator, answer, one_thread
from schemas.task import BINARY, Target

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8] | npt.NDArray[np.float64]
Params = Mapping[str, Any]

MOST_CATEGORIES = 200
"""Of one feature; rarer ones count as unknown. Trees have 255 bins, one of them for what is missing."""

MIN_KNOWN = 10
"""Values of a feature from which on something is learnt from it."""

NO_CATEGORY = -1.0
PROBE_ROWS, PROBE_OF_CLASS = 60, 20
STOPPING = 10
"""Trees look at one row in so many to see when to stop, and of each class at one at least."""


class Refused(ValueError):
    """The estimator does not take these parameters or this dataset."""


class NotInstalled(Refused):
    """There is no such estimator here."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a fit is made of.

    Attributes:
        rows: How many.
        features: How many.
        categories: Columns that hold codes.
        target: What is predicted.
        seed: Of everything random.
    """

    rows: int
    features: int
    categories: list[int]
    target: Target
    seed: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is fitted.

    Attributes:
        estimator: A name of the list, or module:Class.
        params: What pipeline.yaml says, on top of the defaults.
        target: What is predicted.
    """

    estimator: str
    params: Params
    target: Target = BINARY

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

    def fit(self, matrix: Matrix, labels: Labels, categories: list[int], seed: int) -> tuple[Estimator, bool]:
        """A fitted estimator, and whether the fit converged. Equal arguments give an equal model, on one thread.

        Missing values of the matrix are filled.

        Raises:
            Refused: The estimator says why, or its answers are no numbers.
        """
        shape, make = Shape(len(matrix), matrix.shape[1], categories, self.target, seed), self._maker()
        one_thread()
        try:
            estimator = make(self.params, shape)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                estimator.fit(matrix, labels)
                answers = self._answers(estimator, matrix[:PROBE_ROWS])
        except (ValueError, TypeError, AttributeError) as error:
            raise Refused(f"{self.estimator}: {str(error).splitlines()[0]}") from error
        if not np.isfinite(answers).all():
            raise Refused(f"{self.estimator}: it answers with what is no number; scale the features, or take another")
        return estimator, not any(issubclass(each.category, ConvergenceWarning) for each in said)

    def _answers(self, estimator: Estimator, matrix: Matrix) -> Matrix:
        if not (self.target.is_regression or hasattr(estimator, "predict_proba")):
            raise ValueError("it gives no probabilities (predict_proba); change its parameters or take another")
        return answer(estimator, matrix, self.target)

    def _maker(self) -> Maker:
        if self.estimator in _MAKERS:
            return _MAKERS[self.estimator]
        kind = imported(self.estimator)
        return lambda params, shape: _prepared(kind(**{**_seeded(kind, shape.seed), **params}), shape)

    def check(self) -> Estimator:
        """Fit a handful of made-up rows, so that wrong parameters show at the start; returns the fit.

        Raises:
            NotInstalled: The estimator cannot be imported.
        Refused: The estimator does not know or take a parameter.
        """
        rows = max(PROBE_ROWS, PROBE_OF_CLASS * len(self.target.classes))
        numbers = np.linspace(-1.0, 1.0, rows).reshape(-1, 1)
        labels: Labels = (np.arange(rows) % 3 > 0).astype(np.int8)
        if self.target.is_regression:
            labels = numbers[:, 0] + labels
        elif self.target.width > 1:
            labels = (np.arange(rows) % self.target.width).astype(np.int8)
        return self.fit(np.hstack([numbers, numbers**2]), labels, [], seed=0)[0]


Maker = Callable[[Params, Shape], Estimator]


def without_holes(matrix: Matrix) -> Matrix:
    """A column that is hardly ever known becomes a constant: nothing is learnt from it, and the trees need a value."""
    unknown = (~np.isnan(matrix)).sum(axis=0) < MIN_KNOWN
    return np.where(unknown, 0.0, matrix)


def imported(name: str) -> Callable[..., Any]:
    """The class that `module:Class` names.

    Raises:
        NotInstalled: It is not installed, or is no estimator.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        mend = "install its package where training and serving run, or write a name of the list"
        raise NotInstalled(f"{name} cannot be imported: {error}; {mend}") from error
    if not (inspect.isclass(found) and hasattr(found, "fit") and hasattr(found, "get_params")):
        raise NotInstalled(
            f"{name} is no estimator: a class with fit, predict and get_params, as scikit-learn has them"
        )
    return found


def _seeded(kind: Callable[..., Any], seed: int) -> Params:
    """What a class of another package is told besides its parameters: to repeat itself, on one thread."""
    known = inspect.signature(kind).parameters
    return {name: value for name, value in (("random_state", seed), ("n_jobs", 1)) if name in known}


def _trees(params: Params, shape: Shape) -> Estimator:
    # Few rows and many trees make a model that is sure and wrong: stop when a tenth of the rows says so.
    stops = shape.rows >= STOPPING * len(shape.target.classes)
    given = {"early_stopping": stops, "random_state": shape.seed, "categorical_features": shape.categories or None}
    kind = HistGradientBoostingRegressor if shape.target.is_regression else HistGradientBoostingClassifier
    return kind(**{**given, **params})  # type: ignore[no-any-return]


def _forest(params: Params, shape: Shape) -> Estimator:
    # A leaf of one row is sure, and of noise: five rows make shares of it.
    given = {"min_samples_leaf": 5, "n_jobs": 1, "random_state": shape.seed}
    kind = RandomForestRegressor if shape.target.is_regression else RandomForestClassifier
    return _prepared(kind(**{**given, **params}), shape)


def _logistic(params: Params, shape: Shape) -> Estimator:
    return _prepared(LogisticRegression(**{"max_iter": 1_000, "random_state": shape.seed, **params}), shape)


def _ridge(params: Params, shape: Shape) -> Estimator:
    return _prepared(Ridge(**{"random_state": shape.seed, **params}), shape)


def _sgd(params: Params, shape: Shape) -> Estimator:
    # The mean of the steps, not the last one, which depends on the last rows.
    given = {"average": True, "random_state": shape.seed}
    if not shape.target.is_regression:
        return _prepared(SGDClassifier(**{"loss": "log_loss", **given, **params}), shape)
    # Its step is for values of about one: larger ones diverge.
    scaled = TransformedTargetRegressor(SGDRegressor(**{**given, **params}), transformer=StandardScaler())
    return _prepared(scaled, shape)


def _prepared(model: Any, shape: Shape) -> Estimator:
    """Numbers to one scale, categories to a column for each value; a plain scaler, where it is enough, is quicker."""
    if not shape.categories:
        return Chain([("prepare", StandardScaler()), ("model", model)])  # type: ignore[no-any-return]
    numbers = [index for index in range(shape.features) if index not in shape.categories]
    spread = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("numbers", StandardScaler(), numbers), ("categories", spread, shape.categories)])
    return Chain([("prepare", columns), ("model", model)])  # type: ignore[no-any-return]


_MAKERS: dict[str, Maker] = {
    "hist_gradient_boosting": _trees,
    "logistic_regression": _logistic,
    "random_forest": _forest,
    "ridge": _ridge,
    "sgd": _sgd,
}

_KNOW_MISSING = {"hist_gradient_boosting"}
