"""Boosted trees joined answer as the trees do, to the last bit, be it one row or many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from runtime.artefact import ModelRefused
from runtime.estimators import dumps, loads
from runtime.joining import MOST_NUMBERS, Joined, joined
from runtime.model import fetch, load
from tests.unit.runtime.test_model import stored
from tests.unit.runtime.test_packing import ROWS, answers, boosted
from tests.unit.services.serving.loop import spec


@settings(max_examples=25, deadline=None)
@given(
    classes=st.sampled_from([0, 2, 3]),
    categories=st.booleans(),
    turns=st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 17]),
    rows=st.sampled_from([1, 2, 7, 40, 120, 3_000]),
    blank=st.lists(st.tuples(st.integers(0, 119), st.integers(0, 2)), max_size=30),
)
def test_joined_trees_answer_as_they_do_one_by_one(
    classes: int, categories: bool, turns: int, rows: int, blank: list[tuple[int, int]]
) -> None:
    model, matrix = boosted(classes, categories=categories, turns=turns), ROWS.copy()
    for row, column in blank:
        matrix[row, column] = np.nan
    matrix = np.resize(matrix, (rows, 3))
    quick = joined(model)
    assert type(quick._predictors[0][0]) is Joined
    np.testing.assert_array_equal(answers(quick, matrix), answers(model, matrix))


@pytest.mark.parametrize("rows", [1, MOST_NUMBERS // (40 * 4), MOST_NUMBERS // (40 * 4) + 1])
def test_few_rows_and_many_are_summed_in_the_same_order(rows: int) -> None:
    model = boosted(0, turns=40)
    matrix = np.resize(ROWS, (rows, 3))
    np.testing.assert_array_equal(answers(joined(model), matrix), answers(model, matrix))


def test_the_model_that_was_given_keeps_its_trees() -> None:
    model = boosted(3)
    before, nodes = model._predictors, model._predictors[0][0].nodes.copy()
    start = model._baseline_prediction.copy()
    joined(model).predict(ROWS)
    assert model._predictors is before
    np.testing.assert_array_equal(before[0][0].nodes, nodes)
    np.testing.assert_array_equal(model._baseline_prediction, start)
    np.testing.assert_array_equal(answers(loads(dumps(model))), answers(model))


def strange(name: str) -> Any:
    """A fitted model that is made as no version of scikit-learn that we know makes one."""
    model = boosted(3)
    if name == "unfitted":
        return HistGradientBoostingClassifier()
    if name == "a start of another type":
        model._baseline_prediction = model._baseline_prediction.astype(np.float32)
    elif name == "a start of another shape":
        model._baseline_prediction = model._baseline_prediction.ravel()
    else:
        model._predictors[1] = model._predictors[1][:1]
    return model


@pytest.mark.parametrize(
    "name", ["unfitted", "a start of another type", "a start of another shape", "a turn of fewer trees"]
)
def test_a_model_that_is_made_otherwise_is_left_as_it_is(name: str) -> None:
    model = strange(name)
    assert joined(model) is model


def test_what_is_no_boosted_model_is_left_as_it_is() -> None:
    for model in (make_pipeline(boosted()), LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)):
        assert joined(model) is model


def test_rows_of_other_features_than_the_trees_know_are_refused_before_a_tree_looks() -> None:
    one = joined(boosted())._predictors[0][0]
    for width in (2, 4):
        with pytest.raises(ValueError, match=f"{width} features, the trees were fitted on 3"):
            one.predict(np.zeros((1, width)), None, None, 1)


def test_a_row_alone_is_warmed_up_too_as_it_goes_another_way_than_many(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, manifest, files = stored("hist_gradient_boosting")
    monkeypatch.setattr("runtime.joining.MOST_NUMBERS", 1_000)
    load(files, manifest)
    monkeypatch.setattr(
        "runtime.joining._signposts", lambda *_: np.zeros(0, PREDICTOR_RECORD_DTYPE)
    )  # all come to the first
    with pytest.raises(ModelRefused, match="answers the warm-up rows otherwise"):
        load(files, manifest)


def test_models_answer_with_joined_trees_once_they_are_loaded_and_warmed_up() -> None:
    store, member, _, _ = stored("hist_gradient_boosting")
    model = fetch(store, member, spec("hist_gradient_boosting").feature_types)
    assert type(model.estimator._predictors[0][0]) is Joined  # type: ignore[attr-defined]
