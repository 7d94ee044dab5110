"""Outputs, labels and losses of each task: what is written into columns is read back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import batch as b
from schemas.answers import UNLEARNT, answer
from schemas.task import BINARY, Target, anchored, log_losses

SEVERAL = Target("multiclass", ("red", "green", "blue"))
NUMBER = Target("regression")


@given(st.data())
def test_the_anchors_output_of_a_scored_batch_is_the_first_members_however_many_there_are(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 4))
    numbers = st.floats(-1e9, 1e9)
    rows = data.draw(st.lists(st.none() | st.lists(st.lists(numbers, min_size=width, max_size=width), max_size=3)))
    members = [None if row is None else [7 - i for i in range(len(row))] for row in rows]
    outputs = [None if row is None else [number for each in row for number in each] for row in rows]
    batch = pa.RecordBatch.from_pydict(
        {
            b.MEMBERS: pa.array([None, *members], pa.list_(pa.int32())),
            b.OUTPUTS: pa.array([None, *outputs], pa.list_(pa.float64())),
        }
    ).slice(1)
    member, output = anchored(batch, width)
    assert member.tolist() == [7 if row else 0 for row in rows]
    expected = [row[0] if row else [np.nan] * width for row in rows]
    np.testing.assert_array_equal(output, np.array(expected).reshape(-1, width))


def test_the_likeliest_of_several_classes_is_the_prediction_and_none_where_an_output_is_no_number() -> None:
    outputs = np.array([[0.2, 0.5, 0.3], [np.nan, 0.5, 0.5], [0.4, 0.3, 0.3]])
    np.testing.assert_array_equal(SEVERAL.predictions(outputs), [1, np.nan, 0])


def test_of_two_classes_and_in_regression_the_output_is_the_prediction() -> None:
    outputs = np.array([0.2, 7.0])
    assert BINARY.predictions(outputs) is outputs
    assert NUMBER.predictions(outputs) is outputs


def test_a_loss_is_what_the_own_class_surprises_and_in_regression_the_error() -> None:
    outputs = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(SEVERAL.losses(outputs, np.array([2, 1])), -np.log([0.3, 1e-6]))
    np.testing.assert_allclose(NUMBER.losses(np.array([3.0, 1.0]), np.array([1.0, 4.5])), [2.0, 3.5])
    assert SEVERAL.losses(np.empty((0, 3)), np.empty(0)).shape == (0,)


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1))
def test_two_classes_cost_the_same_whether_told_by_one_number_or_by_two(rows: list[tuple[float, bool]]) -> None:
    second, label = np.array([p for p, _ in rows]), np.array([truth for _, truth in rows])
    both = np.column_stack((1.0 - second, second))
    pair = Target("multiclass", ("no", "yes"))
    np.testing.assert_array_equal(pair.losses(both, label), log_losses(second, label))


def test_a_wrong_class_is_wrong() -> None:
    assert SEVERAL.wrong(np.array([0.0, 2.0]), np.array([0, 1])).tolist() == [False, True]
    assert BINARY.wrong(np.array([0.5, 0.49]), np.array([1, 1])).tolist() == [False, True]


class Known:
    """Knows the first and the last of three classes."""

    classes_ = np.array([0, 2])

    def fit(self, matrix: np.ndarray, labels: np.ndarray) -> None:
        raise AssertionError(f"nobody asks it to learn {len(matrix)} rows and {len(labels)} labels")

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        return matrix[:, 0]

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        return np.column_stack((matrix[:, 0], 1.0 - matrix[:, 0]))


def test_a_class_that_was_not_learnt_gets_a_small_probability_and_all_add_up_to_one() -> None:
    found = answer(Known(), np.array([[0.25], [1.0]]), SEVERAL)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(found[:, 1], UNLEARNT)
    np.testing.assert_allclose(found[0, 2] / found[0, 0], 3.0)


@pytest.mark.parametrize(("target", "shape"), [(SEVERAL, (0, 3)), (BINARY, (0,)), (NUMBER, (0,))])
def test_no_rows_have_no_answers(target: Target, shape: tuple[int, ...]) -> None:
    assert answer(Known(), np.empty((0, 1)), target).shape == shape
