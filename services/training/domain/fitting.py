"""From rows to a checked fit: hold the newest rows back, fit on the others, judge; what passes is fitted on all.

The newest rows are what a fit is made for: one that never learns from them answers as the world was. What its check and
drift's reference say is said of the fit without them. Where the model in service is the only one, the newest rows stay
unseen: a fit that follows soon is compared with it on some of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from schemas.answers import Estimator, answer
from schemas.encoding import Encoding, learn
from schemas.spec import FeatureType
from schemas.task import BINARY, Target
from services.training.domain.check import Verdict, judge, judge_one_of_several
from services.training.domain.estimators import Labels, Recipe, without_holes

HELD_OUT = 0.2
MIN_CLASS_ROWS = 10
WARM_UP_ROWS = 100

Answer = Callable[[pa.RecordBatch], npt.NDArray[np.float64]]
Rival = Answer | Literal["several", "alone"] | None
"""Against what a fit is judged: the model in service that it would replace, several members that it would join, or none
where it would be the first one: the first of several (None), or the only one of a pool of one seat ("alone")."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A fit with its verdict.

    Attributes:
        estimator: What was fitted.
        encoding: How batches become its input.
        seed: Of everything random in it.
        held_out: The rows that it was checked on.
        verdict: Whether it may serve.
        outputs: What the fit without them answers to the held-out rows.
        learnt: Whether the estimator was fitted on these too: not where it may not serve, or rules alone.
        spent: What it took, by name, where that is told.
    """

    estimator: Estimator
    encoding: Encoding
    seed: int
    held_out: pa.RecordBatch
    verdict: Verdict
    outputs: npt.NDArray[np.float64]
    learnt: bool
    spent: Mapping[str, float] = field(default_factory=dict)

    @property
    def warm_up(self) -> pa.RecordBatch:
        """Rows whose outputs go into the artefact: the newest ones, features alone."""
        return warm_up(self.held_out, self.encoding)


def warm_up(held_out: pa.RecordBatch, encoding: Encoding) -> pa.RecordBatch:
    """The newest of the rows that were held out, features alone."""
    rows = held_out.select(list(encoding.types))
    return rows.slice(max(0, rows.num_rows - WARM_UP_ROWS))


def parts(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The rows to fit on and the newest fifth, which is held out."""
    held_out = int(np.ceil(rows.num_rows * HELD_OUT))
    return rows.slice(0, rows.num_rows - held_out), rows.slice(rows.num_rows - held_out)


def scarce(rows: pa.RecordBatch, target: Target = BINARY) -> str:
    """Why nothing can be learnt from rows, empty where something can. Of several classes two are enough."""
    labels = labels_of(parts(rows)[0])
    if target.is_regression:
        return "" if len(np.unique(labels)) > 1 else "all labels are the same"
    counts = np.sort(np.bincount(labels.astype(np.intp), minlength=2))[::-1]
    if counts[1] == 0:
        return "one class only"
    if counts[1] < MIN_CLASS_ROWS:
        return f"only {counts[1]} rows of one class; {MIN_CLASS_ROWS} are needed"
    return ""


def labels_of(rows: pa.RecordBatch) -> Labels:
    """The labels of rows: indices of classes, or values."""
    return rows.column(b.LABEL).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def fit(
    recipe: Recipe,
    rows: pa.RecordBatch,
    features: Mapping[str, FeatureType],
    seed: int,
    metric: str,
    rival: Rival,
) -> Fit:
    """Fit, judge, and fit on all rows what labels will weigh; the same arguments give the same fit.

    Args:
        recipe: What is fitted.
        rows: The dataset, sorted.
        features: Type of each feature.
        seed: Of everything random.
        metric: What the comparison goes by.
        rival: Against what it is judged.

    Raises:
        Refused: The estimator does not take the rows.
    """
    older, held_out = parts(rows)
    labels, target = labels_of(older), recipe.target
    made = made_from(recipe, older, features, seed)
    outputs = answer(made.estimator, made.encoding.matrix(held_out), target)
    prior, held_labels = blind(labels, target), labels_of(held_out)
    if rival == "several":
        verdict = judge_one_of_several(prior, held_labels, outputs, target)
    else:
        ruling = rival(held_out) if callable(rival) else None
        verdict = judge(metric, prior, held_labels, outputs, ruling, target)
    if learnt := verdict.accepted and (rival is None or rival == "several"):
        made = made_from(recipe, rows, features, seed)
    verdict.metrics["converged"] = float(made.converged)
    return Fit(made.estimator, made.encoding, seed, held_out, verdict, outputs, learnt)


class Made(NamedTuple):
    """What was fitted, how batches become its input, and whether the fit converged."""

    estimator: Estimator
    encoding: Encoding
    converged: bool


def made_from(recipe: Recipe, rows: pa.RecordBatch, features: Mapping[str, FeatureType], seed: int) -> Made:
    """The same rows and seed make the same.

    Raises:
        Refused: The estimator does not take the rows.
    """
    encoding = learn(rows, features, recipe.most_categories)
    matrix = without_holes(encoding.matrix(rows))
    encoding = encoding.filled(fill := recipe.fill(matrix, encoding.categories))
    labels = labels_of(rows)
    learnt = learnable(labels, recipe.target)
    matrix = np.where(np.isnan(matrix), fill, matrix)[learnt]
    estimator, converged = recipe.fit(matrix, labels[learnt], encoding.categories, seed)
    return Made(estimator, encoding, converged)


def learnable(labels: Labels, target: Target) -> npt.NDArray[np.bool_]:
    """The rows to learn from: of several classes those that have enough of them."""
    if target.width == 1:
        return np.ones(len(labels), bool)
    counts = np.bincount(labels.astype(np.intp), minlength=target.width)
    return counts[labels.astype(np.intp)] >= MIN_CLASS_ROWS


def blind(labels: Labels, target: Target) -> npt.NDArray[np.float64]:
    """The output of who knows the labels alone: the mean, or the frequency of each class (no class has none)."""
    if target.width == 1:
        return np.array(labels.mean(), np.float64)
    counts = np.bincount(labels.astype(np.intp), minlength=target.width) + 1.0
    return counts / counts.sum()  # type: ignore[no-any-return]


def seed_of(model: str, version: int) -> int:
    """The seed of a version: any, but always the same."""
    return zlib.crc32(f"{model}/{version}".encode())
