"""Categories are looked up as scikit-learn does, to the last bit, or by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from runtime.codes import Codes, coded
from runtime.estimators import dumps, loads
from runtime.model import fetch, load
from schemas.answers import one_thread
from tests.unit.runtime.test_model import stored
from tests.unit.services.serving.loop import spec

MOST = 6
CODES = st.one_of(st.just(np.nan), st.integers(0, MOST).map(float))
STRANGE = st.one_of(CODES, st.sampled_from([-1.0, 0.5, 199.0, 1e30, -1e30]))


def fitted(categories: list[int], rows: Any, labels: Any, *, regression: bool = False) -> Any:
    one_thread()
    kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    given = {"max_iter": 1, "min_samples_leaf": 2, "early_stopping": False, "random_state": 1}
    return kind(**given, categorical_features=categories or None).fit(rows, labels)


def some(seed: int = 3, width: int = 4) -> tuple[Any, Any]:
    """Rows of codes, some missing, and labels that go by the second column."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, MOST, (80, width)).astype(float)
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[0] = 0.0  # none is missing throughout
    return rows, np.nan_to_num(rows[:, 1]) % 2


def transformed(model: Any, rows: Any) -> Any:
    return model._preprocessor.transform(rows)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    categories=st.sets(st.integers(0, 3), min_size=1),
    rows=arrays.arrays(float, st.tuples(st.integers(1, 12), st.just(4)), elements=STRANGE),
    order=st.sampled_from("CF"),
    regression=st.booleans(),
)
def test_codes_are_those_of_the_transformers_that_were_fitted(
    seed: int, categories: set[int], rows: Any, order: Any, regression: bool
) -> None:
    matrix = np.asarray(rows, order=order)
    model = fitted(sorted(categories), *some(seed), regression=regression)
    quick = coded(model)
    assert type(quick._preprocessor) is Codes
    mine, theirs = transformed(quick, matrix), transformed(model, matrix)
    np.testing.assert_array_equal(mine, theirs)
    assert mine.dtype == theirs.dtype
    np.testing.assert_array_equal(quick.predict(matrix), model.predict(matrix))
    if not regression:
        np.testing.assert_array_equal(quick.predict_proba(matrix), model.predict_proba(matrix))


def test_what_was_given_is_neither_changed_nor_copied_and_what_comes_back_is_not_what_is_stored() -> None:
    model = fitted([1], *some())
    quick, before = coded(model), model._preprocessor
    assert type(before) is ColumnTransformer
    assert model._preprocessor is before
    assert quick._predictors is model._predictors
    assert type(loads(dumps(model))._preprocessor) is ColumnTransformer  # type: ignore[attr-defined]


def test_no_rows_are_no_rows() -> None:
    quick = coded(fitted([0, 2], *some()))
    assert transformed(quick, np.empty((0, 4))).shape == (0, 4)


def test_a_category_that_was_missing_in_all_rows_is_missing_for_ever() -> None:
    rows, labels = some()
    rows[:, 2] = 0.0
    quick = coded(fitted([2], rows, labels))
    assert np.isnan(transformed(quick, np.full((2, 4), 3.0))[:, 0]).all()


@pytest.mark.parametrize("width", [3, 5])
def test_rows_of_other_columns_than_those_of_the_fit_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"{width} features, the model was fitted on 4"):
        transformed(coded(fitted([0], *some())), np.zeros((2, width)))


def test_what_has_no_categories_or_is_no_boosted_model_is_left_as_it_is() -> None:
    rows, labels = some()
    boosted = fitted([], rows, labels)
    inside, linear = make_pipeline(fitted([1], rows, labels)), LogisticRegression().fit(np.nan_to_num(rows), labels)
    for model in (boosted, inside, linear, HistGradientBoostingClassifier()):
        assert coded(model) is model


def twice(columns: Any) -> None:
    name, transformer, _ = columns.transformers_[1]
    columns.transformers_[1] = (name, transformer, np.array([True, True, False, True]))


def moved(columns: Any) -> None:
    columns.output_indices_ = {**columns.output_indices_, "encoder": slice(3, 4), "numerical": slice(0, 3)}


SPOILT: dict[str, Callable[[Any, Any], object]] = {
    "one transformer": lambda columns, _: columns.transformers_.__delitem__(slice(1, None)),
    "other names": lambda columns, _: columns.transformers_.reverse(),
    "other places": lambda columns, _: moved(columns),
    "a column twice": lambda columns, _: twice(columns),
    "rare categories put together": lambda _, encoder: setattr(encoder, "min_frequency", 3),
    "a number for the unknown": lambda _, encoder: setattr(encoder, "unknown_value", -1),
    "no categories": lambda _, encoder: delattr(encoder, "categories_"),
    "texts": lambda _, encoder: setattr(encoder, "categories_", [np.array(["a", "b"])]),
    "categories in no order": lambda _, encoder: setattr(encoder, "categories_", [encoder.categories_[0][::-1]]),
}


@pytest.mark.parametrize("name", SPOILT)
def test_transformers_that_are_made_otherwise_stay_in_place(name: str) -> None:
    """As those of another version of scikit-learn may be."""
    rows, labels = some()
    model = fitted([3], np.nan_to_num(rows), labels)
    assert coded(model) is not model
    columns = model._preprocessor
    SPOILT[name](columns, columns.named_transformers_["encoder"])
    assert coded(model) is model


def test_models_answer_with_codes_once_they_are_loaded_and_warmed_up() -> None:
    store, member, manifest, files = stored("hist_gradient_boosting")
    for model in (fetch(store, member, spec("hist_gradient_boosting").feature_types), load(files, manifest)):
        assert type(model.estimator._preprocessor) is Codes  # type: ignore[attr-defined]
