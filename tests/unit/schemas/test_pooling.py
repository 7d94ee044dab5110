"""What serving makes of a pool's outputs."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.pooling import FLOOR, IDENTITY, Calibrator, Task, Trial, Weights, chosen, mix

chances = st.floats(0, 1)


def plain(task: Task) -> Calibrator:
    return Calibrator(IDENTITY[task])


@given(st.lists(chances, min_size=1, max_size=5))
def test_one_member_is_its_own_mixture_but_never_quite_sure(given: list[float]) -> None:
    outputs = np.array(given)[:, None, None]
    assert mix("binary", outputs, np.ones(1), plain("binary")) == pytest.approx(np.clip(given, FLOOR, 1 - FLOOR))
    assert mix("regression", outputs * 1e6, np.ones(1), plain("regression")) == pytest.approx(np.array(given) * 1e6)


def test_the_mixture_of_probabilities_is_the_logarithmic_opinion_pool() -> None:
    outputs = np.array([[0.9, 0.3]])[:, :, None]
    logit = 0.75 * math.log(9) + 0.25 * math.log(3 / 7)
    assert mix("binary", outputs, np.array([3.0, 1.0]), plain("binary")) == pytest.approx([1 / (1 + math.exp(-logit))])


def test_two_classes_are_the_same_as_one_probability() -> None:
    second = np.random.default_rng(0).random((50, 3, 1))
    weights = np.array([0.2, 0.3, 0.5])
    both = mix("multiclass", np.concatenate([1 - second, second], axis=2), weights, plain("multiclass"))
    assert both[:, 1] == pytest.approx(mix("binary", second, weights, plain("binary")))
    assert both.sum(axis=1) == pytest.approx(np.ones(50))


def test_a_regression_is_the_weighted_mean_and_the_line_on_top() -> None:
    outputs = np.array([[1.0, 3.0], [2.0, 2.0]])[:, :, None]
    assert mix("regression", outputs, np.array([1.0, 1.0]), Calibrator((2.0, 1.0))) == pytest.approx([5.0, 5.0])


def test_each_member_of_a_regression_goes_through_its_own_line_before_the_mean() -> None:
    outputs, lines = np.array([[1.0, 3.0], [math.nan, 2.0]])[:, :, None], np.array([[2.0, 1.0], [1.0, -1.0]])
    given = mix("regression", outputs, np.array([1.0, 1.0]), plain("regression"), lines=lines)
    assert given == pytest.approx([2.5, 1.0])


def test_the_level_of_a_member_of_two_classes_is_added_to_its_logit_and_makes_nobody_surer_than_may_be() -> None:
    outputs, lines = np.array([[0.5, 0.5], [0.99, 0.99]])[:, :, None], np.array([[1.0, 1.0], [1.0, 3.0]])
    given = mix("binary", outputs, np.array([0.5, 0.5]), plain("binary"), lines=lines)
    most = math.log(1 / FLOOR - 1)
    logits = [2.0, (min(math.log(99) + 1, most) + most) / 2]
    assert given == pytest.approx([1 / (1 + math.exp(-each)) for each in logits])


def test_a_line_is_looked_up_by_member_and_is_none_of_whom_it_does_not_know() -> None:
    identity = {"model": "m", "epoch": 1, "number": 1, "pool": 1, "members": (1, 2), "log_weights": (-1.0, -1.0)}
    made = {**identity, "labels": (0, 0), "calibrator": plain("regression")}
    lines = (Calibrator((2.0, 1.0)), Calibrator((0.5,)))
    known = msgspec.convert({**msgspec.to_builtins(made), "lines": msgspec.to_builtins(lines)}, Weights)
    found = known.straight((2, 7, 1))
    assert found is not None
    assert found.tolist() == [[0.5, 0.0], [1.0, 0.0], [2.0, 1.0]]
    assert msgspec.convert(msgspec.to_builtins(made), Weights).straight((1, 2)) is None
    fresh = {**msgspec.to_builtins(made), "lines": msgspec.to_builtins((Calibrator((1.0,)),) * 2)}
    assert msgspec.convert(fresh, Weights).straight((1, 2)) is None


def test_levels_of_several_classes_are_added_to_their_logarithms() -> None:
    outputs, lines = np.array([[[0.2, 0.3, 0.5]]]), np.array([[1.0, math.log(5.0), 0.0, -math.log(5.0)]])
    given = mix("multiclass", outputs, np.ones(1), plain("multiclass"), lines=lines)
    assert given[0] == pytest.approx(np.array([1.0, 0.3, 0.1]) / 1.4)


def test_a_member_without_a_finite_output_does_not_count_in_its_row() -> None:
    outputs = np.array([[1.0, math.nan], [math.nan, 3.0], [math.inf, math.nan], [1.0, 3.0]])[:, :, None]
    given = mix("regression", outputs, np.array([1.0, 1.0]), plain("regression"))
    assert given[[0, 1, 3]].tolist() == [1.0, 3.0, 2.0]
    assert math.isnan(given[2])


def test_without_any_output_there_is_no_prediction() -> None:
    nothing = np.full((1, 2, 3), math.nan)
    assert np.isnan(chosen("multiclass", mix("multiclass", nothing, np.ones(2), plain("multiclass")))).all()
    assert np.isnan(chosen("binary", mix("binary", nothing[:, :, :1], np.ones(2), plain("binary")))).all()


def test_rows_that_the_online_member_did_not_score_have_the_mixture_alone() -> None:
    outputs, calibrator = np.full((2, 1, 1), 0.7), Calibrator((1.0, 0.5, 0.0))
    given = mix("binary", outputs, np.ones(1), calibrator, np.array([[math.nan], [0.9]]))
    assert given[0] == pytest.approx(0.7)
    assert given[1] > 0.8


def test_the_likeliest_class_is_chosen() -> None:
    assert chosen("multiclass", np.array([[0.2, 0.5, 0.3]])).tolist() == [1.0]
    assert chosen("binary", np.array([0.5, 0.49])).tolist() == [1.0, 0.0]
    assert chosen("regression", np.array([4.5])).tolist() == [4.5]


def test_a_checkpoint_survives_json_bit_by_bit() -> None:
    weights = Weights(
        model="m",
        epoch=1,
        number=7,
        pool=3,
        members=(1, 4),
        log_weights=(-0.1, math.log(0.1 / 3)),
        labels=(100, 5),
        calibrator=Calibrator((1.0, 0.1, 0.2), (0.05,) * 6),
        trials={4: Trial(1, 10, (0.1,) * 6, (-0.1,) * 6)},
        covers={0: 10, 3: 2},
    )
    assert msgspec.json.decode(msgspec.json.encode(weights), type=Weights) == weights


def test_weights_of_members_are_looked_up_and_sum_to_one() -> None:
    weights = Weights(
        model="m",
        epoch=1,
        number=1,
        pool=1,
        members=(1, 2, 3),
        log_weights=(math.log(0.5), math.log(0.3), math.log(0.2)),
        labels=(0, 0, 0),
        calibrator=plain("binary"),
    )
    assert weights.weights((3, 1, 8)) == pytest.approx([2 / 7, 5 / 7, 0.0])
    assert weights.weights((8, 9)).tolist() == [0.0, 0.0]
