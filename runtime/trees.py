"""Trees of a loaded model, checked before they answer: their nodes are indices that compiled code follows unseen.

A file with a good signature holds good trees; one that was made to crash or to read what it must not does not get that
far even where signatures are not asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE, X_BITSET_INNER_DTYPE
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree._tree import Tree

BOOSTED = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
LEAF = -1
ENDLESS = 1 << 31
SET_WORDS = 8
"""Of 32 bits: one bit for each of 256 bins."""

Indices = npt.NDArray[np.int64]


class Boosted(NamedTuple):
    """Boosted trees, one behind the other.

    Attributes:
        nodes: Their nodes; children are counted from the first node of their own tree.
        begins: The first node of each tree, and the end of the last one.
        binned: Sets of categories that go to the left, as bins, shape (sets, 8).
        raw: The same as values.
        sets: The first set of each tree, and the end of the last one.
    """

    nodes: npt.NDArray[Any]
    begins: Indices
    binned: npt.NDArray[np.uint32]
    raw: npt.NDArray[np.uint32]
    sets: Indices


def gathered(trees: Sequence[TreePredictor]) -> Boosted:
    """The arrays of trees, of one at least, put together."""
    nodes, raw = [tree.nodes for tree in trees], [tree.raw_left_cat_bitsets for tree in trees]
    binned = np.concatenate([tree.binned_left_cat_bitsets for tree in trees])
    return Boosted(np.concatenate(nodes), _begins(nodes), binned, np.concatenate(raw), _begins(raw))


def _begins(parts: Sequence[npt.NDArray[Any]]) -> Indices:
    return np.cumsum([0, *map(len, parts)], dtype=np.int64)


def check(model: object) -> None:
    """Look at every tree that a model holds, wherever it is.

    Raises:
        ValueError: A node leads out of its tree or back, or asks for a feature that rows do not have.
    """
    for each, width in _holders(model):
        if isinstance(each, Tree):
            left, right, feature = each.children_left, each.children_right, each.feature
            inner = np.flatnonzero(left != LEAF)
            _follow(inner, len(left), (left[inner], right[inner]), feature[inner], width)
        elif isinstance(each, TreePredictor):
            check_boosted(gathered([each]), width, None)
        elif trees := _trees_of(each):
            check_boosted(gathered(trees), *columns_of(each, width))


def boosted(model: object) -> Iterator[Any]:
    """The boosted models that a model holds, wherever they are."""
    return (each for each, _ in _holders(model) if type(each) in BOOSTED)


def check_boosted(trees: Boosted, width: int, categories: npt.NDArray[np.intp] | None) -> None:
    """Look at boosted trees, all at once.

    Args:
        trees: What may be anything that a file says.
        width: How many features rows have.
        categories: Which of these are categories, None for any.

    Raises:
        ValueError: They are not what the others lead to believe, or lead astray.
    """
    _check_arrays(trees)
    nodes, sizes = trees.nodes, np.diff(trees.begins)
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    tree = np.repeat(np.arange(len(sizes)), sizes)[inner]
    children = [nodes[name][inner].astype(np.int64) for name in ("left", "right")]
    feature = nodes["feature_idx"][inner]
    _follow(inner - trees.begins[tree], sizes[tree], children, feature, width)
    asks = nodes["is_categorical"][inner] > 0
    strange = categories is not None and not np.isin(feature[asks], categories).all()
    if strange or np.any(nodes["bitset_idx"][inner][asks] >= np.diff(trees.sets)[tree[asks]]):
        raise ValueError("a tree asks for categories that it does not hold")


def columns_of(model: Any, width: int = ENDLESS) -> tuple[int, npt.NDArray[np.intp]]:
    """How many features the rows of a boosted model have, and which are categories: compiled code counts on both.

    Raises:
        ValueError: The model's bins are for other features.
    """
    categorical = vars(model)["_bin_mapper"].is_categorical_
    if type(categorical) is not np.ndarray or categorical.shape != (model.n_features_in_,):
        raise ValueError("the bins of a boosted model are for other features than its rows have")
    return min(width, len(categorical)), np.flatnonzero(categorical)


def _check_arrays(trees: Boosted) -> None:
    index, word = np.dtype(np.int64), np.dtype(X_BITSET_INNER_DTYPE)
    for array, kind in zip(trees, (PREDICTOR_RECORD_DTYPE, index, word, word, index), strict=True):
        if type(array) is not np.ndarray or array.dtype != kind or array.shape[1:] != (SET_WORDS,) * (kind == word):
            raise ValueError("boosted trees have other arrays than this version of scikit-learn")
    _check_begins(trees.begins, len(trees.nodes), 1)
    _check_begins(trees.sets, len(trees.raw), 0)
    if len(trees.sets) != len(trees.begins) or len(trees.binned) != len(trees.raw):
        raise ValueError("the arrays of boosted trees are of different trees")


def _check_begins(begins: Indices, stop: int, least: int) -> None:
    inside = len(begins) and begins[0] == 0 and begins[-1] == stop and not np.any((begins < 0) | (begins > stop))
    if not inside or np.any(np.diff(begins) < least):  # differences of numbers from anywhere could overflow
        raise ValueError("boosted trees do not begin where another one ends")


def _follow(place: Any, size: Any, children: Sequence[Any], feature: Any, width: int) -> None:
    """Look where nodes lead, given the place of each within its tree, and the tree's size."""
    if any(np.any(child <= place) or np.any(child >= size) for child in children):
        raise ValueError("a tree has a node that leads out of it, or back")
    if np.any(feature < 0) or np.any(feature >= width):
        raise ValueError("a tree asks for a feature that rows do not have")


def _trees_of(model: Any) -> list[TreePredictor]:
    """The trees of a boosted model; none where it is not fitted, or holds them packed."""
    turns = vars(model).get("_predictors", [])
    if isinstance(turns, dict):
        return []
    trees = [tree for turn in turns for tree in turn]
    if not all(type(tree) is TreePredictor for tree in trees):
        raise ValueError("a boosted model holds something else than trees")
    return trees


def _holders(model: object) -> Iterator[tuple[Any, int]]:
    """Whatever holds trees once, and how many columns the narrowest estimator around it checks its rows for."""
    waiting: list[tuple[object, int]] = [(model, ENDLESS)]
    narrowest: dict[int, int] = {}
    while waiting:
        each, width = waiting.pop()
        width = min(width, _own_width(each))
        if narrowest.get(id(each), ENDLESS + 1) <= width:
            continue
        narrowest[id(each)] = width
        if isinstance(each, (Tree, TreePredictor)) or type(each) in BOOSTED:
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
    parts = dict(getattr(each, "__dict__", {}))
    if type(each) in BOOSTED:
        parts.pop("_predictors", None)  # looked at as a whole
    return list(parts.values())
