"""From rows to a checked fit: hold the newest rows back, fit on the others, judge."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from schemas.encoding import Encoding, learn
from schemas.spec import FeatureType
from services.training.domain.check import Verdict, judge
from services.training.domain.estimators import Classifier, Recipe, without_holes
from services.training.domain.rows import numbers

HELD_OUT = 0.2
MIN_CLASS_ROWS = 10
WARM_UP_ROWS = 100

Answer = Callable[[pa.RecordBatch], npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Fit:
    """A fit with its verdict.

    Attributes:
        classifier: What was fitted.
        encoding: How batches become its input.
        seed: Of everything random in it.
        held_out: The rows that it was checked on.
        verdict: Whether it may serve.
        outputs: What it answers to the held-out rows.
    """

    classifier: Classifier
    encoding: Encoding
    seed: int
    held_out: pa.RecordBatch
    verdict: Verdict
    outputs: npt.NDArray[np.float64]

    @property
    def warm_up(self) -> pa.RecordBatch:
        """Rows whose outputs go into the artefact: the newest ones, features alone."""
        rows = self.held_out.select(list(self.encoding.types))
        return rows.slice(max(0, rows.num_rows - WARM_UP_ROWS))


def parts(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The rows to fit on and the newest fifth, which is held out."""
    held_out = int(np.ceil(rows.num_rows * HELD_OUT))
    return rows.slice(0, rows.num_rows - held_out), rows.slice(rows.num_rows - held_out)


def scarce(rows: pa.RecordBatch) -> str:
    """Why nothing can be learnt from rows, empty where something can."""
    counts = np.bincount(numbers(parts(rows)[0], b.LABEL), minlength=2)
    if counts.min() == 0:
        return "one class only"
    if counts.min() < MIN_CLASS_ROWS:
        return f"only {counts.min()} rows of one class; {MIN_CLASS_ROWS} are needed"
    return ""


def fit(
    recipe: Recipe,
    rows: pa.RecordBatch,
    features: Mapping[str, FeatureType],
    seed: int,
    metric: str,
    ruling: Answer | None,
) -> Fit:
    """Fit and judge; the same arguments give the same fit.

    Args:
        recipe: What is fitted.
        rows: The dataset, sorted.
        features: Type of each feature.
        seed: Of everything random.
        metric: What the comparison goes by.
        ruling: The model in service, None where there is none.

    Raises:
        Refused: The estimator does not take the rows.
    """
    older, held_out = parts(rows)
    encoding = learn(older, features, recipe.most_categories)
    matrix = without_holes(encoding.matrix(older))
    encoding = encoding.filled(fill := recipe.fill(matrix, encoding.categories))
    labels = numbers(older, b.LABEL).astype(np.int8)
    matrix = np.where(np.isnan(matrix), fill, matrix)
    classifier, converged = recipe.fit(matrix, labels, encoding.categories, seed)
    outputs = classifier.predict_proba(encoding.matrix(held_out))[:, 1]
    truth = numbers(held_out, b.LABEL).astype(np.int8)
    verdict = judge(metric, float(labels.mean()), truth, outputs, None if ruling is None else ruling(held_out))
    verdict.metrics["converged"] = float(converged)
    return Fit(classifier, encoding, seed, held_out, verdict, outputs)


def seed_of(model: str, version: int) -> int:
    """The seed of a version: any, but always the same."""
    return zlib.crc32(f"{model}/{version}".encode())
