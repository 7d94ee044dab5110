"""Boosted trees as five arrays: scikit-learn holds hundreds of small objects, each of which skops makes files of.

A packed model is scikit-learn's own but for `_predictors`, which holds the arrays by name.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

from runtime.trees import BOOSTED, Boosted, check_boosted, columns_of, gathered


def packed(model: Any) -> Any:
    """The model with its trees packed, another object; what is no fitted boosted model is given back as it is."""
    turns = getattr(model, "_predictors", None) if type(model) in BOOSTED else None
    if not turns or not all(len(turn) == model.n_trees_per_iteration_ for turn in turns):
        return model
    return replaced(model, _predictors=gathered([tree for turn in turns for tree in turn])._asdict())


def unpacked(model: Any) -> Any:
    """The model with its trees as scikit-learn has them, views of the arrays; others are given back as they are.

    Raises:
        ValueError: The arrays are no trees, or such as lead astray. Nothing has followed them yet.
    """
    arrays = getattr(model, "_predictors", None) if type(model) in BOOSTED else None
    if not isinstance(arrays, dict):
        return model
    if arrays.keys() != set(Boosted._fields):
        raise ValueError(f"packed trees consist of {', '.join(Boosted._fields)}")
    packed_trees, width = Boosted(**arrays), int(model.n_trees_per_iteration_)
    check_boosted(packed_trees, *columns_of(model))
    trees = _views(packed_trees)
    if not trees or width < 1 or len(trees) % width:
        raise ValueError("packed trees are not as many as the model says")
    return replaced(model, _predictors=[trees[turn : turn + width] for turn in range(0, len(trees), width)])


def _views(trees: Boosted) -> list[TreePredictor]:
    nodes = [trees.nodes[start:stop] for start, stop in pairwise(trees.begins.tolist())]
    sets = [slice(start, stop) for start, stop in pairwise(trees.sets.tolist())]
    return [TreePredictor(own, trees.binned[some], trees.raw[some]) for own, some in zip(nodes, sets, strict=True)]


def replaced(model: Any, **parts: object) -> Any:
    """A model with other parts, which shares the others with the one that was given."""
    other = object.__new__(type(model))
    vars(other).update(vars(model), **parts)
    return other
