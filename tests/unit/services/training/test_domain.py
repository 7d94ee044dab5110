from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from schemas import batch as b
from schemas.messages import Cause
from services.training.domain.check import judge, judge_one_of_several, losses
from services.training.domain.estimators import Recipe, Refused
from services.training.domain.fitting import fit, parts, scarce
from services.training.domain.rows import ORDER, POSITION_COLUMNS, newest, remembered, unseen
from services.training.domain.triggers import Budget, Trigger
from services.training.domain.window import Window
from tests.unit.services.training.loop import STEP, dataset, labelled, spec

TYPES = spec().feature_types
NAMES = list(TYPES)


def given(labels: np.ndarray, sharp: float) -> np.ndarray:
    """Outputs that are right with this confidence."""
    return np.where(labels == 1, sharp, 1.0 - sharp)


LABELS = (np.arange(200) % 2).astype(np.int8)


def test_a_row_costs_minus_the_log_of_the_probability_that_its_class_was_given() -> None:
    found = losses("log_loss", np.array([0.9, 0.9, 0.0]), np.array([1, 0, 1], np.int8))
    np.testing.assert_allclose(found, -np.log([0.9, 0.1, 1e-6]))


def test_a_fit_that_knows_no_more_than_the_class_frequencies_is_rejected() -> None:
    verdict = judge("log_loss", 0.5, LABELS, np.full(200, 0.5), None)
    assert not verdict.accepted
    assert "does not beat the class frequencies" in verdict.reason


def test_one_of_several_members_may_be_too_sure_of_itself_but_not_wrong_more_often_than_not() -> None:
    sure = given(LABELS, 1.0)
    sure[:60] = 1.0 - sure[:60]
    assert not judge("log_loss", 0.5, LABELS, sure, None).accepted
    verdict = judge_one_of_several(0.5, LABELS, sure)
    assert verdict.accepted
    assert verdict.reason.endswith(
        "does not beat the class frequencies' 0.6931, but it is right in 70.0%: labels decide"
    )
    assert not judge_one_of_several(0.5, LABELS, 1.0 - sure).accepted
    assert not judge_one_of_several(0.5, LABELS, np.full(200, np.nan)).accepted


def test_a_fit_as_good_as_the_model_in_service_is_accepted_and_a_clearly_worse_one_is_not() -> None:
    ruling = given(LABELS, 0.8)
    assert judge("log_loss", 0.5, LABELS, ruling, ruling).accepted
    assert judge("log_loss", 0.5, LABELS, given(LABELS, 0.9), ruling).accepted
    assert not judge("log_loss", 0.5, LABELS, given(LABELS, 0.7), ruling).accepted


def test_a_fit_may_be_worse_by_chance_but_not_by_more_than_one_standard_error() -> None:
    ruling = given(LABELS, 0.8)
    ruling[:10] = 1.0 - ruling[:10]
    for mended, spoilt, accepted in ((5, 7, True), (0, 4, False)):
        outputs = ruling.copy()
        changed = [*range(mended), *range(10, 10 + spoilt)]
        outputs[changed] = 1.0 - outputs[changed]
        verdict = judge("accuracy", 0.5, LABELS, outputs, ruling)
        assert (verdict.metrics["worse_by"] <= verdict.metrics["worse_by_error"]) == accepted == verdict.accepted


def test_the_newest_fifth_is_held_out() -> None:
    older, held_out = parts(labelled(0, 101))
    assert (older.num_rows, held_out.num_rows) == (80, 21)
    assert held_out.column(b.POSITION)[0].as_py() == 80


@pytest.mark.parametrize(("ones", "why"), [(0, "one class only"), (9, "only 9 rows of one class"), (10, "")])
def test_rows_with_hardly_any_of_a_class_are_not_fitted(ones: int, why: str) -> None:
    rows = labelled(0, 200, label=0)
    labels = np.zeros(200, np.int8)
    labels[:ones] = 1
    column = rows.schema.get_field_index("_label")
    assert scarce(rows.set_column(column, "_label", pa.array(labels))).startswith(why)
    assert bool(scarce(rows.set_column(column, "_label", pa.array(labels)))) == bool(why)


@pytest.mark.parametrize("estimator", ["logistic_regression", "hist_gradient_boosting"])
@pytest.mark.parametrize(
    "strange", ["all missing", "nearly all missing", "constant", "huge", "many categories", "no category"]
)
def test_no_column_of_values_breaks_a_fit(estimator: str, strange: str) -> None:
    rows = labelled(0, 1200)
    count = rows.num_rows
    columns = {
        "all missing": ("x", pa.nulls(count, pa.float64())),
        "nearly all missing": ("x", pa.array([1.0 if i < 2 else None for i in range(count)])),
        "constant": ("x", pa.array(np.full(count, 7.0))),
        "huge": ("z", pa.array(np.where(np.arange(count) % 2, 1e308, -np.inf))),
        "many categories": ("colour", pa.array([f"c{i % 500}" for i in range(count)])),
        "no category": ("colour", pa.nulls(count, pa.string())),
    }
    name, values = columns[strange]
    rows = rows.set_column(rows.schema.get_field_index(name), name, values)
    made = fit(Recipe(estimator, {}), rows, TYPES, 1, "log_loss", None)
    assert np.isfinite(made.verdict.metrics["log_loss"])


def test_a_fit_that_does_not_converge_says_so_and_is_judged_all_the_same() -> None:
    made = fit(Recipe("logistic_regression", {"max_iter": 1}), labelled(0, 200), TYPES, 1, "log_loss", None)
    assert made.verdict.metrics["converged"] == 0.0


@pytest.mark.parametrize("params", [{"max_leafs": 3}, {"max_iter": "many"}, {"max_iter": -1}])
def test_wrong_parameters_are_found_without_data(params: dict[str, object]) -> None:
    with pytest.raises(Refused, match="hist_gradient_boosting: "):
        Recipe("hist_gradient_boosting", params).check()


def test_the_order_of_a_row_is_its_label_time_or_what_its_partition_had_passed() -> None:
    rows = remembered(labelled(5, 3), NAMES, 1, 40, passed=6 * STEP)
    assert rows.column(ORDER).to_pylist() == [6 * STEP, 6 * STEP, 7 * STEP]
    assert [rows.column(name)[0].as_py() for name in POSITION_COLUMNS] == [1, 40]


def test_the_first_copy_of_an_event_counts_within_and_across_messages() -> None:
    rows, known = remembered(labelled(0, 4), NAMES, 0, 0, passed=0), {}  # type: ignore[var-annotated]
    twice = pa.concat_batches([rows.slice(0, 2), rows.slice(1, 2)])
    assert unseen(twice, known).column(b.POSITION).to_pylist() == [0, 1, 2]
    assert unseen(rows, known).column(b.POSITION).to_pylist() == [3]


def corrected(rows: pa.RecordBatch, revision: int, after: int) -> pa.RecordBatch:
    """The rows with the opposite label, known so much later."""
    rows = rows.set_column(rows.schema.names.index(b.LABEL), b.LABEL, pc.subtract(1, rows.column(b.LABEL)).cast("int8"))
    moved = pc.add(rows.column(b.LABEL_TIME).cast(pa.int64()), after).cast(pa.timestamp("ms", "UTC"))
    rows = rows.set_column(rows.schema.names.index(b.LABEL_TIME), b.LABEL_TIME, moved)
    return revised(rows, revision, correction=True)


def revised(rows: pa.RecordBatch, revision: int, *, correction: bool = False) -> pa.RecordBatch:
    rows = rows.append_column(b.REVISION, pa.array(np.full(rows.num_rows, revision)))
    return rows.append_column(b.CORRECTION, pa.array(np.full(rows.num_rows, correction)))


def test_the_highest_revision_of_an_event_is_in_the_dataset_and_is_no_further_row() -> None:
    window, rows = Window(NAMES, 1, 40, 0), labelled(0, 30)
    window.add(0, 0, revised(rows, 1), 29 * STEP)
    window.add(0, 1, corrected(rows.slice(3, 1), 4, 30 * STEP), 40 * STEP)
    window.add(0, 2, corrected(rows.slice(3, 1), 4, 30 * STEP), 41 * STEP)
    assert window.ready(30) == 29 * STEP
    assert window.ready(31) is None
    before, after = dataset(window, 29 * STEP), dataset(window, 40 * STEP)
    assert before is not None
    assert after is not None
    assert before.num_rows == after.num_rows == 30
    labels = [
        dict(zip(*(rows.column(name).to_pylist() for name in (b.POSITION, b.LABEL)), strict=True))
        for rows in (before, after)
    ]
    assert {each for each in labels[0] if labels[0][each] != labels[1][each]} == {3}
    assert after.column(b.POSITION).to_pylist()[-1] == 3


def test_an_earlier_cut_gives_the_same_rows_when_the_window_was_trimmed() -> None:
    window = Window(NAMES, 1, 20, 0)
    for first in range(0, 60, 10):
        window.add(0, first, revised(labelled(first, 10), 0), (first + 9) * STEP)
    window.add(0, 60, corrected(labelled(50, 10), 1, 10 * STEP), 70 * STEP)
    before = dataset(window, 59 * STEP)
    assert window.trim()
    after = dataset(window, 59 * STEP)
    assert before is not None
    assert after is not None
    assert before.num_rows == after.num_rows == 20
    assert before.equals(after)
    newest_of_all = dataset(window, 70 * STEP - 1)
    assert newest_of_all is not None
    assert newest_of_all.num_rows == 20


def test_the_newest_rows_are_sorted_by_label_time_source_position_and_row() -> None:
    rows = remembered(labelled(0, 50), NAMES, 0, 0, passed=0)
    mixed = rows.take(pa.array(np.random.default_rng(1).permutation(50)))
    assert newest(mixed, 30 * STEP, 10).column(b.POSITION).to_pylist() == list(range(21, 31))


def test_a_window_knows_nothing_for_certain_before_every_partition_has_spoken() -> None:
    window = Window(NAMES, 2, 100, 0)
    window.add(0, 0, labelled(0, 30), 29 * STEP)
    assert window.frontier < 0
    window.add(1, 0, labelled(30, 5), 20 * STEP)
    assert window.frontier == 20 * STEP - 1
    assert window.ready(35) == 34 * STEP


def test_a_message_that_is_taken_twice_changes_nothing() -> None:
    window = Window(NAMES, 1, 100, 0)
    assert window.add(0, 3, labelled(0, 30), 29 * STEP).sum() == 30
    assert window.add(0, 3, labelled(0, 30), 29 * STEP).sum() == 0
    assert window.next == {0: 4}


def test_a_budget_counts_the_fits_of_its_stretch_and_rests_between_them() -> None:
    budget = Budget(cooldown=100, count=2, stretch=1000)
    trigger = Trigger(Cause(kind="drift", id="d"), ready=550)
    assert budget.due(trigger, []) == 550
    assert budget.due(trigger, [500]) == 600
    assert budget.due(Trigger(trigger.cause, 550, urgent=True), [500]) == 550
    assert not budget.spent(600, [500])
    assert budget.spent(600, [400, 500])
    assert not budget.spent(1400, [400, 500])
