"""Boosted trees are stored as a few arrays, and come back as they were, or not at all."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from runtime.artefact import ModelRefused
from runtime.estimators import TRUSTED, dumps, loads
from runtime.model import load
from runtime.packing import packed, unpacked
from schemas.answers import one_thread
from schemas.artefact import MODEL, WARMUP
from tests.unit.runtime.test_model import stored

RANDOM = np.random.default_rng(8)
ROWS = np.column_stack((RANDOM.normal(size=(120, 2)), np.arange(120) % 5))
NUMBERS = ROWS[:, 0] + (ROWS[:, 2] % 2)


def boosted(classes: int = 2, seed: int = 0, *, categories: bool = True, turns: int = 4) -> Any:
    """A fit; of no classes a regression."""
    one_thread()
    given: dict[str, Any] = {"max_iter": turns, "min_samples_leaf": 5, "random_state": seed}
    given["categorical_features"] = [2] if categories else None
    if not classes:
        return HistGradientBoostingRegressor(**given).fit(ROWS, NUMBERS)
    labels = np.searchsorted(np.quantile(NUMBERS, np.linspace(0, 1, classes + 1)[1:-1]), NUMBERS)
    return HistGradientBoostingClassifier(**given).fit(ROWS, labels)


def answers(model: Any, rows: Any = ROWS) -> Any:
    return model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows)


@settings(max_examples=12, deadline=None)
@given(
    classes=st.sampled_from([0, 2, 3, 4]),
    categories=st.booleans(),
    turns=st.integers(1, 5),
    seed=st.integers(0, 99),
    blank=st.lists(st.tuples(st.integers(0, 119), st.integers(0, 2)), max_size=30),
)
def test_a_model_comes_back_as_it_was(
    classes: int, categories: bool, turns: int, seed: int, blank: list[tuple[int, int]]
) -> None:
    model, rows = boosted(classes, seed, categories=categories, turns=turns), ROWS.copy()
    for row, column in blank:
        rows[row, column] = np.nan
    again = loads(dumps(model))
    np.testing.assert_array_equal(answers(again, rows), answers(model, rows))
    for mine, theirs in zip(again._predictors, model._predictors, strict=True):  # type: ignore[attr-defined]
        for tree, other in zip(mine, theirs, strict=True):
            for name in ("nodes", "binned_left_cat_bitsets", "raw_left_cat_bitsets"):
                np.testing.assert_array_equal(getattr(tree, name), getattr(other, name))


def test_the_model_that_is_stored_keeps_its_trees() -> None:
    model = boosted()
    before, state = model._predictors, dict(vars(model))
    dumps(model)
    assert model._predictors is before
    assert vars(model).keys() == state.keys()
    assert all(vars(model)[name] is value for name, value in state.items())


def test_a_model_of_many_trees_is_few_files() -> None:
    with zipfile.ZipFile(io.BytesIO(dumps(boosted(turns=60)))) as archive:
        assert len(archive.namelist()) < 60


@pytest.mark.parametrize("categories", [True, False])
def test_a_model_that_was_stored_tree_by_tree_is_still_read(categories: bool) -> None:
    model = boosted(categories=categories)
    again = loads(skops.io.dumps(model))
    np.testing.assert_array_equal(answers(again), answers(model))


def test_what_holds_no_fitted_boosted_model_at_its_top_is_stored_as_it_is() -> None:
    inside = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=2)).fit(ROWS, ROWS[:, 0] > 0)
    plain = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
    for model in (inside, plain, HistGradientBoostingClassifier()):
        assert packed(model) is model
        assert unpacked(model) is model
    np.testing.assert_array_equal(answers(loads(dumps(inside))), answers(inside))


def test_what_others_made_of_a_boosted_model_is_stored_as_it_is() -> None:
    class Theirs(HistGradientBoostingClassifier):  # type: ignore[misc]  # it has no types
        pass

    model = Theirs(max_iter=2).fit(ROWS, ROWS[:, 0] > 0)
    assert packed(model) is model


# --- forged files -----------------------------------------------------------------------------

Forgery = Callable[[dict[str, Any]], None]


def forged(change: Forgery, classes: int = 3) -> bytes:
    """The file of a model whose packed trees somebody has changed."""
    model = packed(boosted(classes))
    model._predictors = {name: copy(array) for name, array in model._predictors.items()}
    change(model._predictors)
    return skops.io.dumps(model)  # type: ignore[no-any-return]


def put(name: str, value: Callable[[Any], Any]) -> Forgery:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name] = value(arrays[name])

    return change


def node(field: str, value: int, *, of: str = "inner") -> Forgery:
    def change(arrays: dict[str, Any]) -> None:
        nodes = arrays["nodes"]
        inner = nodes["is_leaf"] == 0
        categorical = inner & (nodes["is_categorical"] > 0)
        chosen = {"inner": inner, "categorical": categorical, "plain": inner & ~categorical}[of]
        nodes[field][np.flatnonzero(chosen)[-1]] = value

    return change


def at(name: str, index: int, value: int) -> Forgery:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name][index] = value

    return change


def into_the_next(arrays: dict[str, Any]) -> None:
    arrays["nodes"]["right"][0] = arrays["begins"][1]


def fewer_sets(arrays: dict[str, Any]) -> None:
    arrays["sets"][:] = 0
    arrays["binned"], arrays["raw"] = arrays["binned"][:0], arrays["raw"][:0]


def less_trees(arrays: dict[str, Any]) -> None:
    for name, begins in (("nodes", "begins"), ("raw", "sets")):
        arrays[name] = arrays[name][: arrays[begins][-2]]
        arrays[begins] = arrays[begins][:-1]
    arrays["binned"] = arrays["binned"][: len(arrays["raw"])]


def none_at_all(arrays: dict[str, Any]) -> None:
    for name in arrays:
        arrays[name] = arrays[name][: 1 if name in {"begins", "sets"} else 0]


def around(name: str) -> Forgery:
    """Differences of such neighbours are too large for a number, and come out as small ones."""

    def change(arrays: dict[str, Any]) -> None:
        arrays[name][1:3] = np.iinfo(np.int64).max, -2

    return change


FORGERIES: dict[str, Forgery] = {
    "a child behind its tree": node("left", 10_000),
    "a child in the next tree": into_the_next,
    "a child that is its own parent": node("left", 0),
    "a feature that rows do not have": node("feature_idx", 3),
    "a negative feature": node("feature_idx", -1),
    "a category that is none": node("is_categorical", 1, of="plain"),
    "a set of the next tree": node("bitset_idx", 60, of="categorical"),
    "a tree that begins behind the end": at("begins", 1, 1 << 40),
    "a tree that begins before the first": at("begins", 1, -5),
    "a tree that begins beyond all numbers": around("begins"),
    "sets that begin beyond all numbers": around("sets"),
    "a first tree that begins later": at("begins", 0, 1),
    "a last tree that ends later": at("begins", -1, 1 << 20),
    "a tree without a node": lambda arrays: at("begins", 1, arrays["begins"][2])(arrays),
    "sets that end later": at("sets", -1, 1 << 20),
    "sets that go back": at("sets", 1, 1 << 20),
    "no sets": fewer_sets,
    "sets of values alone": put("binned", lambda value: value[:0]),
    "sets of no words": put("raw", lambda value: value[:, :0]),
    "sets of other words": put("raw", lambda value: value.astype(np.uint8)),
    "sets in one row": put("raw", np.ravel),
    "nodes of bytes": put("nodes", lambda value: value.view(np.uint8)),
    "nodes in a column": put("nodes", lambda value: value.reshape(-1, 1)),
    "nodes that are one": put("nodes", lambda value: value[0]),
    "nodes of other fields": put("nodes", lambda value: value[["value", "left", "right"]].copy()),
    "beginnings of another type": put("begins", lambda value: value.astype(np.uint32)),
    "beginnings in a column": put("begins", lambda value: value.reshape(-1, 1)),
    "no beginnings": put("begins", lambda value: value[:0]),
    "a list for an array": put("begins", list),
    "an array of anything": put("nodes", lambda value: np.array([None] * len(value))),
    "no trees": none_at_all,
    "a tree too few for its turn": less_trees,
    "an array missing": lambda arrays: arrays.pop("sets"),
    "an array more": lambda arrays: arrays.update(more=np.zeros(1)),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_trees_are_refused_before_anything_follows_them(name: str) -> None:
    with pytest.raises(ValueError, match="tree"):
        loads(forged(FORGERIES[name]))
    _, _, manifest, files = stored("hist_gradient_boosting")
    with pytest.raises(ModelRefused, match="cannot be loaded"):
        load({MODEL: forged(FORGERIES[name]), WARMUP: files[WARMUP]}, manifest)


def test_forgeries_are_what_is_wrong_with_them() -> None:
    assert answers(loads(forged(lambda _: None))).shape == (120, 3)


@pytest.mark.parametrize("trees", [None, [], {}, 7, [[]], [[None]]], ids=repr)
def test_what_stands_for_trees_and_is_something_else_is_refused(trees: object) -> None:
    model = copy(boosted())
    model._predictors = trees
    _, _, manifest, files = stored("hist_gradient_boosting")
    with pytest.raises(ModelRefused):
        load({MODEL: skops.io.dumps(model), WARMUP: files[WARMUP]}, manifest)


@pytest.mark.parametrize("nested", [False, True])
def test_other_transformers_before_the_trees_than_those_of_categories_are_refused(nested: bool) -> None:
    """They could give fewer columns than the trees ask for."""
    model = copy(boosted())
    model._preprocessor = VarianceThreshold().fit(np.eye(2))
    with pytest.raises(ValueError, match="before the trees"):
        loads(skops.io.dumps(make_pipeline(model) if nested else packed(model)))


def test_categories_in_a_mask_are_refused() -> None:
    model = boosted()
    there = model._bin_mapper.is_categorical_
    model._bin_mapper.is_categorical_ = np.ma.MaskedArray(there, mask=np.ones_like(there))
    with pytest.raises(ValueError, match="bins"):
        loads(skops.io.dumps(packed(model)))


def test_numbers_that_are_none_make_a_file_unloadable_like_everything_else() -> None:
    model = packed(boosted())
    model.n_trees_per_iteration_ = float("inf")
    _, _, manifest, files = stored("hist_gradient_boosting")
    with pytest.raises(ModelRefused):
        load({MODEL: skops.io.dumps(model), WARMUP: files[WARMUP]}, manifest)


@pytest.mark.parametrize("form", [packed, lambda model: model], ids=["packed", "tree by tree"])
def test_bins_for_other_features_than_rows_have_are_refused(form: Callable[[Any], Any]) -> None:
    """What a node asks of a category is looked up by feature in a table as long as the bins say."""
    model = boosted()
    model._bin_mapper.is_categorical_ = model._bin_mapper.is_categorical_[:1]
    with pytest.raises(ValueError, match="bins"):
        loads(skops.io.dumps(form(model)))


@pytest.mark.parametrize("form", [packed, lambda model: model], ids=["packed", "tree by tree"])
def test_a_model_whose_trees_ask_for_categories_that_it_does_not_know_is_refused(form: Callable[[Any], Any]) -> None:
    model = boosted()
    model._bin_mapper.is_categorical_ = np.zeros_like(model._bin_mapper.is_categorical_)
    with pytest.raises(ValueError, match="categories"):
        loads(skops.io.dumps(form(model)))


def test_trees_without_nodes_or_with_other_sets_are_refused_one_by_one_too() -> None:
    for name, value in (("nodes", slice(0, 0)), ("raw_left_cat_bitsets", (slice(None), slice(0, 1)))):
        model = boosted()
        tree = model._predictors[0][0]
        setattr(tree, name, getattr(tree, name)[value].copy())
        with pytest.raises(ValueError, match=r"trees|dimension"):
            loads(skops.io.dumps(model))


def test_the_list_of_trusted_types_is_no_longer_than_it_was() -> None:
    known = ["functools.partial", "numpy.dtype", "TreePredictor", "Tree", "check_array"]
    assert [each for each in TRUSTED if not each.endswith(tuple(known))] == []
    assert len(TRUSTED) == len(known)
