"""Trees are looked at before they answer, wherever in a model they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor, VotingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from runtime import trees

RANDOM = np.random.default_rng(5)
ROWS = np.column_stack((RANDOM.normal(size=(200, 2)), np.arange(200) % 4))
ODD = ROWS[:, 2] % 2


def forest() -> Any:
    return make_pipeline(StandardScaler(), RandomForestRegressor(3, random_state=1)).fit(ROWS, ODD + ROWS[:, 0])


def boosted() -> Any:
    kind = HistGradientBoostingClassifier(max_iter=3, categorical_features=[2], min_samples_leaf=5)
    return kind.fit(ROWS, (ODD > 0) ^ (ROWS[:, 0] > 0))


def hidden() -> Any:
    return VotingRegressor([("a", make_pipeline(StandardScaler(), RandomForestRegressor(2)))]).fit(ROWS, ODD)


@pytest.mark.parametrize("made", [forest, boosted, hidden])
def test_fitted_trees_pass(made: Callable[[], Any]) -> None:
    trees.check(made())


def spoil(tree: Any, field: str, value: int) -> None:
    """Writes into the nodes of a tree, as a file could."""
    state = tree.__getstate__()
    state["nodes"][field][np.flatnonzero(state["nodes"]["left_child"] >= 0)[0]] = value
    tree.__setstate__(state)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("left_child", 10_000, "out of it"),
        ("right_child", 0, "back"),
        ("feature", 3, "feature"),
        ("feature", -5, "feature"),
    ],
)
@pytest.mark.parametrize("made", [forest, hidden])
def test_a_node_that_leads_astray_is_found(made: Callable[[], Any], field: str, value: int, says: str) -> None:
    model = made()
    inner = model[-1] if made is forest else model.estimators_[0][-1]
    spoil(inner.estimators_[1].tree_, field, value)
    with pytest.raises(ValueError, match=says):
        trees.check(model)


@pytest.mark.parametrize(
    ("field", "value", "says"), [("left", 10_000, "out of it"), ("right", 0, "back"), ("feature_idx", 3, "feature")]
)
def test_a_boosted_tree_is_looked_at_too(field: str, value: int, says: str) -> None:
    model = boosted()
    nodes = model._predictors[1][0].nodes
    nodes[field][np.flatnonzero(nodes["is_leaf"] == 0)[0]] = value
    with pytest.raises(ValueError, match=says):
        trees.check(model)


def test_a_tree_that_asks_for_categories_it_does_not_hold_is_found() -> None:
    model = boosted()
    nodes = next(
        each.nodes
        for (each,) in model._predictors
        if np.any((each.nodes["is_categorical"] > 0) & (each.nodes["is_leaf"] == 0))
    )
    nodes["bitset_idx"][(nodes["is_categorical"] > 0) & (nodes["is_leaf"] == 0)] = 99
    with pytest.raises(ValueError, match="categories"):
        trees.check(model)
