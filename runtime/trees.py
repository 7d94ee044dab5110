"""Trees of a loaded model, checked before they answer: their nodes are indices that compiled code follows unseen.

A file with a good signature holds good trees; one that was made to crash or to read what it must not does not get that
far even where signatures are not asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree._tree import Tree

LEAF = -1
ENDLESS = 1 << 31


def check(model: object) -> None:
    """Look at every tree that a model holds, wherever it is.

    Raises:
        ValueError: A node leads out of its tree or back, or asks for a feature that rows do not have.
    """
    for tree, width in _trees(model):
        if isinstance(tree, Tree):
            _follow(tree.children_left, tree.children_right, tree.feature, tree.children_left == LEAF, width)
        else:
            nodes = tree.nodes
            left, right, feature = (nodes[name].astype(np.int64) for name in ("left", "right", "feature_idx"))
            _follow(left, right, feature, nodes["is_leaf"], width)
            sets = nodes["bitset_idx"][(nodes["is_categorical"] > 0) & (nodes["is_leaf"] == 0)]
            if len(sets) and sets.max() >= min(len(tree.raw_left_cat_bitsets), len(tree.binned_left_cat_bitsets)):
                raise ValueError("a tree asks for categories that it does not hold")


def _follow(left: Any, right: Any, feature: Any, leaf: Any, width: int) -> None:
    inner = np.flatnonzero(~np.asarray(leaf, bool))
    for child in (left[inner], right[inner]):
        if np.any(child <= inner) or np.any(child >= len(left)):
            raise ValueError("a tree has a node that leads out of it, or back")
    if np.any(feature[inner] < 0) or np.any(feature[inner] >= width):
        raise ValueError("a tree asks for a feature that rows do not have")


def _trees(model: object) -> Iterator[tuple[Any, int]]:
    """Every tree once, and how many columns the narrowest estimator around it checks its rows for."""
    waiting: list[tuple[object, int]] = [(model, ENDLESS)]
    narrowest: dict[int, int] = {}
    while waiting:
        each, width = waiting.pop()
        width = min(width, _own_width(each))
        if narrowest.get(id(each), ENDLESS + 1) <= width:
            continue
        narrowest[id(each)] = width
        if isinstance(each, (Tree, TreePredictor)):
            yield each, width
        waiting += [(part, width) for part in _parts(each)]


def _own_width(each: object) -> int:
    width = getattr(each, "__dict__", {}).get("n_features_in_") if not isinstance(each, type) else None
    return int(width) if isinstance(width, (int, np.integer)) else ENDLESS


def _parts(each: object) -> list[object]:
    if isinstance(each, dict):
        return list(each.values())
    if isinstance(each, (list, tuple, set, frozenset)):
        return list(each)
    if isinstance(each, np.ndarray):
        return list(each.ravel()) if each.dtype == object else []
    if isinstance(each, (type, FunctionType)):
        return []
    return list(getattr(each, "__dict__", {}).values())
