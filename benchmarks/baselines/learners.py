"""What a stream with late labels is usually learnt with, each as its users would set it up.

All see the same rows as numbers, a row's label when `delay` more rows have come, and predict each row once, before its
label. Batch models are scikit-learn's gradient boosting, as in the product's pipeline; forests and trees are river's.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from river import drift, forest, tree
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]

PARAMS = {"max_iter": 40, "max_leaf_nodes": 15, "learning_rate": 0.2, "early_stopping": False}
"""Of every gradient boosting, the product's as well."""
WINDOW, EVERY, REST = 5_000, 500, 500
"""Rows of a periodic fit, rows between two, and the least between two alarms that count."""
SHORT = 1_000
"""Rows of a fit at an alarm."""
STEP = 100
"""Rows that a batch model answers at once: what it learns shows from the next step on."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A stream as numbers.

    Attributes:
        features: Shape (rows, features), NaN where missing; categories are codes.
        labels: Codes of classes, or values.
        categories: Which features are codes.
        delay: Rows after which a label is known.
        first: Rows of the first fit.
        classes: How many there are, 0 for a regression.
    """

    features: Floats
    labels: npt.NDArray[np.float64]
    categories: tuple[int, ...]
    delay: int
    first: int
    classes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a policy.

    Attributes:
        predictions: One per row from `Rows.first` on; NaN before.
        fits: How many fits there were.
        fit_seconds: CPU time of all fits.
        seconds: CPU time in all.
    """

    predictions: Floats
    fits: int
    fit_seconds: float
    seconds: float


class _Fits:
    """Fits one stream's gradient boosting and counts what that costs."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self.count, self.seconds = rows, 0, 0.0

    def fit(self, start: int, stop: int) -> Any:
        made = HistGradientBoostingClassifier if self._rows.classes else HistGradientBoostingRegressor
        model = made(**PARAMS, random_state=0, categorical_features=self._rows.categories)
        begun, span = time.process_time(), slice(max(0, start), stop)
        model.fit(self._rows.features[span], self._rows.labels[span])
        self.count, self.seconds = self.count + 1, self.seconds + time.process_time() - begun
        return model


def static(rows: Rows) -> Outcome:
    """One fit, for ever."""
    return _batched(rows, lambda fits, model, known, errors: None)  # noqa: ARG005 - never another one


def periodic(rows: Rows) -> Outcome:
    """A fit every 500 labels on the newest 5,000, which replaces the one before."""
    due = rows.first + EVERY

    def renew(fits: _Fits, _: Any, known: int, __: Floats) -> Any:
        nonlocal due
        if known < due:
            return None
        due = known + EVERY
        return fits.fit(known - WINDOW, known)

    return _batched(rows, renew)


def alarmed(rows: Rows) -> Outcome:
    """A fit on the newest 1,000 rows whenever ADWIN finds that the error rose, which replaces the one before."""
    detector, last = drift.ADWIN(), rows.first

    def renew(fits: _Fits, _: Any, known: int, errors: Floats) -> Any:
        nonlocal last
        rose = [each for each in errors.tolist() if _rises(detector, each)]
        if not rose or known < last + REST:
            return None
        last = known
        return fits.fit(known - SHORT, known)

    return _batched(rows, renew)


def _rises(detector: drift.ADWIN, error: float) -> bool:
    before = detector.estimation
    detector.update(error)
    return bool(detector.drift_detected and detector.estimation > before)


def _batched(rows: Rows, renew: Callable[[_Fits, Any, int, Floats], Any]) -> Outcome:
    """Answer in steps; between two, what became known may bring another model."""
    begun, fits = time.process_time(), _Fits(rows)
    predictions = np.full(len(rows.labels), np.nan)
    with threadpool_limits(1):
        model, known = fits.fit(0, rows.first), rows.first
        for start in range(rows.first, len(rows.labels), STEP):
            span = slice(start, start + STEP)
            predictions[span] = model.predict(rows.features[span])
            news = slice(known, max(known, min(start + STEP, len(rows.labels)) - rows.delay))
            known = news.stop
            model = renew(fits, model, known, _errors(rows, predictions, news)) or model
    return Outcome(predictions, fits.count, fits.seconds, time.process_time() - begun)


def _errors(rows: Rows, predictions: Floats, span: slice) -> Floats:
    if rows.classes:
        return (predictions[span] != rows.labels[span]).astype(np.float64)  # type: ignore[no-any-return]
    scale = float(np.std(rows.labels[: rows.first])) or 1.0
    return np.abs(predictions[span] - rows.labels[span]) / scale


def adaptive_forest(rows: Rows) -> Outcome:
    """River's adaptive random forest, every label learnt as it comes."""
    made = forest.ARFClassifier(seed=1) if rows.classes else forest.ARFRegressor(seed=1)
    return _streamed(rows, made)


def adaptive_tree(rows: Rows) -> Outcome:
    """River's Hoeffding adaptive tree, every label learnt as it comes."""
    made = tree.HoeffdingAdaptiveTreeClassifier(seed=1) if rows.classes else tree.HoeffdingAdaptiveTreeRegressor(seed=1)
    return _streamed(rows, made)


def _streamed(rows: Rows, model: Any) -> Outcome:
    begun = time.process_time()
    predictions = np.full(len(rows.labels), np.nan)
    waiting: deque[tuple[dict[str, float], float]] = deque()
    for index, each in enumerate(_dicts(rows)):
        if index >= rows.first:
            answer = model.predict_one(each)
            predictions[index] = np.nan if answer is None else answer
        waiting.append((each, rows.labels[index]))
        if len(waiting) > rows.delay:
            known, label = waiting.popleft()
            model.learn_one(known, int(label) if rows.classes else float(label))
    return Outcome(predictions, 0, 0.0, time.process_time() - begun)


def _dicts(rows: Rows) -> Iterator[dict[str, float]]:
    names = [f"f{each}" for each in range(rows.features.shape[1])]
    for row in rows.features.tolist():
        yield {name: value for name, value in zip(names, row, strict=True) if value == value}  # noqa: PLR0124 - not NaN


POLICIES: dict[str, Callable[[Rows], Outcome]] = {
    "static": static,
    "periodic": periodic,
    "adwin": alarmed,
    "arf": adaptive_forest,
    "hat": adaptive_tree,
}
