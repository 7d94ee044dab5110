"""The online member: learns from every example, in the order of the log, and is served as snapshots.

It is no member of the pool: the calibrator weighs it, and it never rules alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from river import linear_model, preprocessing, tree

from schemas.online import Learnt, OnlineKind, Row, prepared, width
from schemas.pooling import Floats
from schemas.spec import FeatureType

CADENCE = 200
"""Labels between two snapshots."""
KEPT = 20
"""Snapshots whose files are kept."""
AT_ONCE = 2_000
"""Labels that may wait before it learns only some of them."""


def fresh(kind: OnlineKind, types: Mapping[str, FeatureType], classes: int) -> Learnt:
    """An online member that has learnt nothing."""
    if kind == "hoeffding_adaptive_tree":
        grown = tree.HoeffdingAdaptiveTreeClassifier(seed=1, binary_split=True)
        return Learnt(kind, dict(types), classes, 0, [grown])
    lines = [linear_model.LogisticRegression() for _ in range(width(classes))]
    return Learnt(kind, dict(types), classes, 0, lines, preprocessing.StandardScaler())


def every(waiting: int) -> int:
    """Of how many labels one is learnt, so that it keeps up.

    Args:
        waiting: Labels that wait, those of the next message included.
    """
    return max(1, -(-waiting // AT_ONCE))


def learn(learnt: Learnt, rows: pa.RecordBatch, labels: Floats, nth: int = 1) -> None:
    """Learn from a message's rows, one after the other; rows without a finite label say nothing.

    Args:
        learnt: Is changed.
        rows: The examples' features.
        labels: Index of the class.
        nth: Every so manieth row alone.
    """
    told = np.flatnonzero(np.isfinite(labels))[::nth]
    numbers, categories = prepared(rows.take(pa.array(told)), learnt.types)
    step = _tree if learnt.kind == "hoeffding_adaptive_tree" else _lines
    for number, category, label in zip(numbers, categories, labels[told].astype(int).tolist(), strict=True):
        step(learnt, number, category, label)
    learnt.labels += len(told)


def due(learnt: Learnt, snapshot: int) -> bool:
    """Whether there is enough news for a snapshot.

    Args:
        learnt: The member.
        snapshot: Labels that the newest snapshot had learnt, 0 before the first.
    """
    return learnt.labels - snapshot >= CADENCE


def _tree(learnt: Learnt, numbers: Row, categories: Row, label: int) -> None:
    learnt.models[0].learn_one(learnt.row(numbers, categories), label)


def _lines(learnt: Learnt, numbers: Row, categories: Row, label: int) -> None:
    learnt.scaler.learn_one(numbers)
    row = learnt.row(numbers, categories)
    for place, line in enumerate(learnt.models, start=learnt.classes - len(learnt.models)):
        line.learn_one(row, label == place)
