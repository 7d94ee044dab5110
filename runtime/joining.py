"""Boosted trees that answer a few rows as a single tree: to call each of a hundred takes longer than their answers.

Above the trees lie signposts: they lead a row to the tree whose number it has in one more column. Only what answers is
made so, nothing that is stored; the sums are those of scikit-learn to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

from runtime.packing import replaced
from runtime.trees import BOOSTED, gathered
from schemas.encoding import Matrix

MOST_NUMBERS = 100_000
"""In the rows repeated for each tree; with more than that they are asked one by one."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Stands for the trees of one class.

    Attributes:
        start: What their answers are added to.
        trees: The trees.
        tree: All of them as one.
        width: How many features their rows have.
    """

    start: float
    trees: tuple[TreePredictor, ...]
    tree: TreePredictor
    width: int

    def predict(self, X: Matrix, known_cat_bitsets: Any, f_idx_map: Any, n_threads: int) -> Matrix:  # noqa: N803
        """The sum of the trees' answers to each row; parameters are those of scikit-learn's trees.

        Raises:
            ValueError: The rows have other features.
        """
        if X.shape[1] != self.width:
            raise ValueError(f"rows have {X.shape[1]} features, the trees were fitted on {self.width}")
        others = (known_cat_bitsets, f_idx_map, n_threads)
        if len(self.trees) * len(X) * (self.width + 1) <= MOST_NUMBERS:
            return self._at_once(X, others)
        total = np.full(len(X), self.start)
        for tree in self.trees:
            total += tree.predict(X, *others)
        return total

    def _at_once(self, matrix: Matrix, others: tuple[Any, ...]) -> Matrix:
        count, rows = len(self.trees), len(matrix)
        asked = np.empty((count, rows, self.width + 1))
        asked[:, :, :-1] = matrix
        asked[:, :, -1] = np.arange(count)[:, None]
        summands = np.full((count + 1, rows), self.start)
        summands[1:] = self.tree.predict(asked.reshape(-1, self.width + 1), *others).reshape(count, rows)
        return np.add.accumulate(summands)[-1]  # type: ignore[no-any-return]  # one after the other, unlike `sum`


def joined(model: Any) -> Any:
    """A model whose trees were checked, with `Joined` in their place; what is made otherwise is given back as it is."""
    turns, start = (getattr(model, name, None) for name in ("_predictors", "_baseline_prediction"))
    if type(model) not in BOOSTED or not isinstance(turns, list) or not isinstance(start, np.ndarray):
        return model
    width, classes = int(model.n_features_in_), int(model.n_trees_per_iteration_)
    if start.shape != (1, classes) or start.dtype != np.float64 or any(len(turn) != classes for turn in turns):
        return model
    trees = [tuple(turn[place] for turn in turns) for place in range(classes)]
    stand_ins = [
        Joined(float(own), each, _as_one(each, width), width) for own, each in zip(start[0], trees, strict=True)
    ]
    return replaced(model, _predictors=[stand_ins], _baseline_prediction=np.zeros_like(start))


def _as_one(each: tuple[TreePredictor, ...], column: int) -> TreePredictor:
    """One tree that goes by the column to one of several."""
    trees = gathered(each)
    posts = _signposts(trees.begins[:-1], column)
    nodes, tree = trees.nodes.copy(), np.repeat(np.arange(len(each)), np.diff(trees.begins))
    for child in ("left", "right"):
        nodes[child] += (trees.begins[tree] + len(posts)).astype(nodes[child].dtype)
    nodes["bitset_idx"] += trees.sets[tree].astype(nodes["bitset_idx"].dtype)
    return TreePredictor(np.concatenate((posts, nodes)), trees.binned, trees.raw)


def _signposts(roots: npt.NDArray[np.int64], column: int) -> npt.NDArray[Any]:
    """A balanced tree above so many roots: the children of node n, counted from 1, are 2 n and 2 n + 1."""
    leaves = 1 << (len(roots) - 1).bit_length()
    posts, number = np.zeros(leaves - 1, PREDICTOR_RECORD_DTYPE), np.arange(1, leaves)
    row = 1 << (np.frexp(number)[1] - 1)  # how many nodes lie beside it
    posts["feature_idx"] = column
    posts["num_threshold"] = (number - row + 0.5) * (leaves // row) - 0.5
    for child, below in (("left", 2 * number), ("right", 2 * number + 1)):
        root = roots[np.clip(below - leaves, 0, len(roots) - 1)] + len(posts)
        posts[child] = np.where(below < leaves, below - 1, root)
    return posts
