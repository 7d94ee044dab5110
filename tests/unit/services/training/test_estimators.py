"""Every estimator of the list does its tasks on rows with holes and categories; those of other packages are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import BayesianRidge

from runtime.artefact import ModelRefused
from runtime.errors import WrongSetup
from runtime.metrics import Metrics
from runtime.model import load as load_model
from runtime.model import save
from runtime.store import Store
from schemas import batch as b
from schemas.answers import answer
from schemas.artefact import MODEL, WARMUP, Manifest
from schemas.messages import Cause
from schemas.pipeline import Pipeline, parse
from schemas.task import BINARY, ESTIMATORS, Target
from services.training.domain.announcements import Candidate, directory, manifest_of
from services.training.domain.check import judge, losses
from services.training.domain.estimators import NotInstalled, Recipe, Refused
from services.training.domain.fitting import Fit, blind, fit, labels_of, learnable, parts, scarce
from services.training.domain.rows import content_digest, remembered
from services.training.domain.taking import Taken
from services.training.fits import InCaller
from services.training.fitter import Fitter
from tests.unit.services.training.loop import labelled

SEVERAL = Target("multiclass", ("low", "middle", "high", "never"))
NUMBER = Target("regression")
TARGETS = {"binary": BINARY, "multiclass": SEVERAL, "regression": NUMBER}
ALL = [(TARGETS[task], name) for task, names in ESTIMATORS.items() for name in names]
ROWS = 400


class Unstorable(BayesianRidge):  # type: ignore[misc]  # it has no types
    """An estimator of a package that nobody has called safe."""


PIPELINE = """
pipeline: shop
task: TASK
events: {id: id, fields: {x: {type: number, nullable: true}, z: {type: number}, colour: {type: category}}}
labels: {id: id, field: good, type: KIND, horizon: 24h}
features: {x: x, z: z, colour: colour}
model: {estimator: ESTIMATOR}
"""
KINDS = {
    "binary": "boolean",
    "multiclass": f"category, values: [{', '.join(SEVERAL.names)}]",
    "regression": "number",
}


def spec(target: Target, estimator: str) -> Pipeline:
    words = {"TASK": target.task, "KIND": KINDS[target.task], "ESTIMATOR": estimator}
    text = PIPELINE
    for old, new in words.items():
        text = text.replace(old, new)
    return parse(text)


TYPES = spec(BINARY, "sgd").feature_types


def dataset(target: Target, count: int = ROWS) -> pa.RecordBatch:
    """Rows whose label follows x; in regression far away from 0, in units of thousands."""
    rows = labelled(0, count)
    x = np.nan_to_num(rows.column("x").to_numpy(zero_copy_only=False))
    told: dict[str, Any] = {
        "binary": (x > 0).astype(np.int8),
        "multiclass": np.digitize(x, [-0.6, 0.6]).astype(np.int8),
        "regression": 1e6 + 2e3 * x,
    }
    return rows.set_column(rows.schema.get_field_index(b.LABEL), b.LABEL, pa.array(told[target.task]))


def fitted(target: Target, estimator: str, rows: pa.RecordBatch | None = None) -> Fit:
    rows = dataset(target) if rows is None else rows
    metric = "rmse" if target.is_regression else "log_loss"
    return fit(Recipe(estimator, {}, target), rows, TYPES, 1, metric, None)


def answers(made: Fit, target: Target) -> npt.NDArray[np.float64]:
    """What the estimator says of the rows that were held out."""
    return answer(made.estimator, made.encoding.matrix(made.held_out), target)


def stored(made: Fit, pipeline: Pipeline) -> tuple[dict[str, bytes], Manifest]:
    """The files of an artefact and its manifest."""
    store, cause = Store("memory://"), Cause(kind="first", id="c")
    taken = Taken(remembered(dataset(pipeline.target), tuple(TYPES), 0, 0, 0))
    manifest = manifest_of(pipeline, Candidate(1, cause, 1, taken, made), {})
    text = save(store, directory(manifest), made.estimator, made.warm_up, manifest)
    files = {name: store.get(f"{directory(manifest)}/{name}") for name in (MODEL, WARMUP)}
    return files, Manifest.model_validate_json(text)


@pytest.mark.parametrize(("target", "estimator"), ALL, ids=lambda each: getattr(each, "task", each))
def test_each_estimator_of_the_list_learns_and_answers_again_when_it_was_stored(target: Target, estimator: str) -> None:
    made = fitted(target, estimator)
    assert made.verdict.accepted, made.verdict
    model = load_model(*stored(made, spec(target, estimator)))
    np.testing.assert_array_equal(model.score(made.held_out), answers(made, target))
    strange = made.held_out.set_column(
        made.held_out.schema.get_field_index("colour"), "colour", pa.array(["never seen"] * made.held_out.num_rows)
    )
    assert np.isfinite(model.score(strange)).all()


@pytest.mark.parametrize(("target", "estimator"), ALL, ids=lambda each: getattr(each, "task", each))
def test_the_same_rows_and_seed_give_the_same_model(target: Target, estimator: str) -> None:
    one, other = fitted(target, estimator), fitted(target, estimator)
    np.testing.assert_array_equal(one.outputs, other.outputs)
    np.testing.assert_array_equal(answers(one, target), answers(other, target))


def strange(rows: pa.RecordBatch, count: int) -> pa.RecordBatch:
    """The same with so many of the newest rows where none was before, and of the other label than is to be expected."""
    x = np.nan_to_num(rows.column("x").to_numpy(zero_copy_only=False))
    labels = rows.column(b.LABEL).to_numpy(zero_copy_only=False).copy()
    x[len(x) - count :], labels[len(x) - count :] = 100.0, 0
    moved = rows.set_column(rows.schema.get_field_index("x"), "x", pa.array(x))
    return moved.set_column(rows.schema.get_field_index(b.LABEL), b.LABEL, pa.array(labels))


def test_what_labels_will_weigh_has_learnt_from_the_newest_rows_and_its_check_has_not() -> None:
    rows = strange(dataset(BINARY), 20)
    labels = labels_of(parts(rows)[1])
    made = fit(Recipe("random_forest", {}, BINARY), rows, TYPES, 1, "log_loss", "several")
    checked, served = (np.mean((each >= 0.5) == labels) for each in (made.outputs, answers(made, BINARY)))
    assert made.verdict.metrics["accuracy"] == pytest.approx(checked)
    assert served > checked + 0.2


def test_what_rules_alone_has_not_seen_the_rows_that_the_next_one_is_compared_on() -> None:
    rows = dataset(BINARY)
    ruling = fitted(BINARY, "logistic_regression")
    made = fit(
        Recipe("logistic_regression", {}, BINARY),
        rows,
        TYPES,
        1,
        "log_loss",
        lambda held: answer(ruling.estimator, ruling.encoding.matrix(held), BINARY) * 0.5 + 0.25,
    )
    assert made.verdict.accepted
    assert not made.learnt
    np.testing.assert_array_equal(answers(made, BINARY), made.outputs)


def test_nor_has_the_first_one_in_a_pool_of_one_seat() -> None:
    rows, recipe = dataset(BINARY), Recipe("logistic_regression", {}, BINARY)
    alone, first = (fit(recipe, rows, TYPES, 1, "log_loss", rival) for rival in ("alone", None))
    assert alone.verdict == first.verdict
    assert (alone.learnt, first.learnt) == (False, True)
    np.testing.assert_array_equal(answers(alone, BINARY), alone.outputs)
    assert np.any(answers(first, BINARY) != first.outputs)


def test_what_may_not_serve_is_not_fitted_again() -> None:
    made = fit(Recipe("logistic_regression", {}, BINARY), strange(dataset(BINARY), 80), TYPES, 1, "log_loss", "several")
    assert (made.verdict.accepted, made.learnt) == (False, False)


def test_a_class_without_rows_is_not_learnt_and_not_impossible() -> None:
    made = fitted(SEVERAL, "hist_gradient_boosting")
    assert made.outputs.shape == (80, 4)
    np.testing.assert_allclose(made.outputs.sum(axis=1), 1.0)
    assert np.all(made.outputs[:, 3] > 0)


def test_rows_of_a_class_with_hardly_any_are_left_out_of_the_fit() -> None:
    labels = np.array([0] * 20 + [1] * 9 + [2] * 10, np.int8)
    assert learnable(labels, SEVERAL).sum() == 30
    assert learnable(labels, BINARY).all()


def test_several_classes_need_two_to_begin_with_and_numbers_two_values() -> None:
    rows = dataset(SEVERAL)
    assert scarce(rows, SEVERAL) == ""
    place = rows.schema.get_field_index(b.LABEL)
    one = rows.set_column(place, b.LABEL, pa.array(np.full(ROWS, 3, np.int8)))
    assert scarce(one, SEVERAL) == "one class only"
    same = rows.set_column(place, b.LABEL, pa.array(np.full(ROWS, 3.5)))
    assert scarce(same, NUMBER) == "all labels are the same"
    assert scarce(dataset(NUMBER), NUMBER) == ""


@pytest.mark.parametrize(
    ("estimator", "says"),
    [
        ("no_such_package:Class", "cannot be imported"),
        ("sklearn.linear_model:NoSuchClass", "cannot be imported"),
        ("math:sqrt", "is no estimator"),
    ],
)
def test_an_estimator_that_is_not_there_stops_training_at_the_start(estimator: str, says: str) -> None:
    with pytest.raises(NotInstalled, match=says):
        Recipe(estimator, {}, NUMBER).check()
    with pytest.raises(WrongSetup, match=r"model\.estimator of pipeline\.yaml"):
        Fitter(spec(NUMBER, f"'{estimator}'"), Store("memory://"), InCaller(Metrics()))


def test_an_estimator_of_another_package_is_fitted_with_the_same_preprocessing() -> None:
    made = fitted(NUMBER, "sklearn.linear_model:BayesianRidge")
    assert made.verdict.accepted
    assert made.encoding.fill.keys() == TYPES.keys()


def test_a_package_that_nobody_called_safe_is_named_before_anything_is_fitted() -> None:
    pipeline, store = spec(NUMBER, f"'{__name__}:Unstorable'"), Store("memory://")
    named = f"{__name__}.Unstorable"
    with pytest.raises(WrongSetup, match=r"Unstorable.*HEADRACE_TRUSTED_TYPES"):
        Fitter(pipeline, store, InCaller(Metrics()))
    Fitter(pipeline, store, InCaller(Metrics()), [named])


def test_a_model_of_such_a_package_is_loaded_where_an_operator_trusts_it_and_nowhere_else() -> None:
    name = f"{__name__}:Unstorable"
    made = fitted(NUMBER, name)
    files, manifest = stored(made, spec(NUMBER, f"'{name}'"))
    with pytest.raises(ModelRefused, match=r"Unstorable.*HEADRACE_TRUSTED_TYPES"):
        load_model(files, manifest)
    model = load_model(files, manifest, [f"{__name__}.Unstorable"])
    np.testing.assert_array_equal(model.score(made.held_out), answers(made, NUMBER))


def test_a_model_whose_manifest_says_another_task_is_refused() -> None:
    files, manifest = stored(fitted(BINARY, "sgd"), spec(BINARY, "sgd"))
    for forged in (
        manifest.model_copy(update={"task": "regression", "classes": ()}),
        manifest.model_copy(update={"task": "multiclass", "classes": ("a", "b", "c")}),
    ):
        with pytest.raises(ModelRefused):
            load_model(files, forged)


def test_a_classifier_without_probabilities_is_refused() -> None:
    with pytest.raises(Refused, match="it gives no probabilities"):
        Recipe("sgd", {"loss": "hinge"}, BINARY).check()


def test_the_digest_of_a_dataset_tells_numbers_apart_that_differ_behind_the_point() -> None:
    rows = dataset(NUMBER)
    place = rows.schema.get_field_index(b.LABEL)
    values = rows.column(b.LABEL).to_numpy().copy()
    values[7] += 0.25
    assert content_digest(rows, TYPES) != content_digest(rows.set_column(place, b.LABEL, pa.array(values)), TYPES)


def test_a_metric_is_told_as_people_know_it() -> None:
    labels, outputs = np.array([1.0, 2.0, 3.0, 6.0]), np.array([1.0, 2.0, 3.0, 4.0])
    verdict = judge("mae", 3.0, labels, outputs, outputs + 1.0, NUMBER)
    assert verdict.accepted
    assert verdict.metrics["rmse"] == 1.0
    assert verdict.metrics["mae"] == 0.5
    assert verdict.metrics["r2"] == pytest.approx(1.0 - 1.0 / np.var(labels))
    assert verdict.metrics["mae_ruling"] == 1.0
    assert not judge("rmse", 3.0, labels, np.full(4, 3.0), None, NUMBER).accepted


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2))
def test_rmse_and_r2_compare_alike(rows: list[tuple[float, float]]) -> None:
    outputs, labels = (np.array(each) for each in zip(*rows, strict=True))
    np.testing.assert_array_equal(losses("rmse", outputs, labels, NUMBER), losses("r2", outputs, labels, NUMBER))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50))
@settings(max_examples=30)
def test_who_knows_the_labels_alone_gives_every_class_a_chance(labels: list[int]) -> None:
    found = blind(np.array(labels, np.int8), SEVERAL)
    assert found.shape == (4,)
    assert found.min() > 0
    assert found.sum() == pytest.approx(1.0)
