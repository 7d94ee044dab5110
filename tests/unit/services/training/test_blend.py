"""Laws of the weights fold."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.pooling import Floats, Task, Weights, mix
from services.training.domain.blend import ENTRY, JUDGED_ENOUGH, Blend
from services.training.domain.judged import Judged

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
WIDTH: dict[Task, int] = {"binary": 1, "multiclass": 3, "regression": 1}


def outputs_of(task: Task, labels: Floats, members: int, rng: np.random.Generator) -> Floats:
    """Members that know something; the first knows most."""
    noise = rng.normal(size=(len(labels), members, WIDTH[task])) * np.arange(1, members + 1)[:, None]
    if task == "regression":
        values: Floats = labels[:, None, None] + noise
        return values
    if task == "binary":
        chances: Floats = 1 / (1 + np.exp(-(noise + 2 * labels[:, None, None] - 1)))
        return chances
    raised = np.exp(noise + 2.0 * (np.arange(3) == labels[:, None, None]))
    shares: Floats = raised / raised.sum(axis=2, keepdims=True)
    return shares


def labels_of(task: Task, rows: int, rng: np.random.Generator) -> Floats:
    return rng.normal(size=rows) * 10 if task == "regression" else rng.integers(0, 2, rows).astype(float)


def message(members: list[int], outputs: Floats, labels: Floats, online: Floats | None = None) -> Judged:
    """Rows that the same members scored."""
    return Judged(
        np.arange(len(labels) + 1) * len(members), np.tile(members, len(labels)), outputs.ravel(), labels, online
    )


def stream(task: Task, seed: int, rows: int = 60, members: tuple[int, ...] = (1, 2, 3)) -> Judged:
    rng = np.random.default_rng(seed)
    labels = labels_of(task, rows, rng)
    online = None if task == "regression" else rng.dirichlet(np.ones(3), rows)[:, : WIDTH[task]]
    return message(list(members), outputs_of(task, labels, len(members), rng), labels, online)


def pool(task: Task, members: tuple[int, ...] = (1, 2, 3)) -> Blend:
    blend = Blend(task)
    for member in members:
        blend.add(member)
    return blend


def said(blend: Blend) -> Weights:
    return blend.checkpoint(model="m", epoch=1, number=1, pool=1)


def through_json(weights: Weights) -> Weights:
    return msgspec.json.decode(msgspec.json.encode(weights), type=Weights)


wild = st.floats(allow_nan=True, allow_infinity=True)
chance = st.one_of(st.floats(0, 1), st.just(math.nan))


@pytest.mark.parametrize("task", TASKS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_weights_are_positive_and_sum_to_one_whatever_the_members_say(task: Task, data: st.DataObject) -> None:
    awake = data.draw(st.lists(st.sampled_from([1, 2, 3, 9]), unique=True, min_size=1))
    rows, width = data.draw(st.integers(1, 8)), WIDTH[task]
    size = rows * len(awake) * width
    kind = wild if task == "regression" else chance
    outputs = np.array(data.draw(st.lists(kind, min_size=size, max_size=size)))
    labels = np.array([float(each % 2) for each in range(rows)])
    blend = pool(task)
    blend.fold(stream(task, 1))
    blend.fold(message(awake, outputs, labels))
    weights = blend.weights()
    assert all(each > 0 for each in weights.values())
    assert sum(weights.values()) == pytest.approx(1)
    assert all(map(math.isfinite, blend.checkpoint(model="m", epoch=1, number=1, pool=1).calibrator.parameters))


@pytest.mark.parametrize("task", TASKS)
@given(seed=st.integers(0, 1000), awake=st.sets(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_sleepers_never_move_and_those_awake_keep_their_joint_weight(task: Task, seed: int, awake: set[int]) -> None:
    blend = pool(task, (1, 2, 3, 4))
    blend.fold(stream(task, seed + 1, members=(1, 2, 3, 4)))
    before = blend.weights()
    blend.fold(stream(task, seed, members=tuple(sorted(awake))))
    after = blend.weights()
    assert all(after[each] == pytest.approx(before[each], rel=1e-12) for each in before.keys() - awake)
    assert sum(after[each] for each in awake) == pytest.approx(sum(before[each] for each in awake))


@pytest.mark.parametrize("task", TASKS)
@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_fold_that_goes_on_from_its_checkpoint_comes_to_the_same_bits(task: Task, seed: int) -> None:
    whole, half = pool(task), pool(task)
    for each in range(3):
        whole.fold(stream(task, seed + each))
        half.fold(stream(task, seed + each))
        half = Blend(task, through_json(said(half)))
    assert said(half) == said(whole)


@pytest.mark.parametrize("task", TASKS)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 59))
@settings(max_examples=10, deadline=None)
def test_where_messages_are_cut_changes_nothing_but_rounding(task: Task, seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    labels = labels_of(task, 60, rng)
    outputs = outputs_of(task, labels, 3, rng)
    whole, cutted = pool(task), pool(task)
    whole.fold(message([1, 2, 3], outputs, labels))
    cutted.fold(message([1, 2, 3], outputs[:cut], labels[:cut]))
    cutted.fold(message([1, 2, 3], outputs[cut:], labels[cut:]))
    assert said(cutted).log_weights == pytest.approx(said(whole).log_weights, abs=1e-9)
    assert said(cutted).calibrator.parameters == pytest.approx(said(whole).calibrator.parameters, abs=1e-7)
    assert said(cutted).labels == said(whole).labels


@pytest.mark.parametrize("task", TASKS)
@given(seed=st.integers(0, 1000), order=st.permutations([0, 1, 2]))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_members_in_a_row_changes_no_bit(task: Task, seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    labels = labels_of(task, 30, rng)
    outputs = outputs_of(task, labels, 3, rng)
    one, other = pool(task), pool(task)
    one.fold(message([1, 2, 3], outputs, labels))
    other.fold(message([each + 1 for each in order], outputs[:, order], labels))
    assert said(other) == said(one)


@given(
    rows=st.lists(
        st.tuples(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.floats(-1e30, 1e30)), min_size=1, max_size=60
    )
)
@settings(max_examples=200, deadline=None)
def test_the_calibrator_of_a_regression_never_diverges(rows: list[tuple[float, float, float]]) -> None:
    blend = pool("regression", (1, 2))
    values = np.array(rows)
    blend.fold(message([1, 2], values[:, :2, None], values[:, 2]))
    for calibrator in (said(blend).calibrator, *said(blend).lines):
        assert all(map(math.isfinite, calibrator.parameters))
    assert np.isfinite(served(blend, values[:, :2])).all()
    assert through_json(said(blend)) == said(blend)


def served(blend: Blend, outputs: Floats) -> Floats:
    """What serving answers by the blend's checkpoint; outputs of shape (rows, members)."""
    weights, members = said(blend), tuple(blend.members)
    by = weights.weights(members), weights.calibrator, None, weights.straight(members)
    return mix("regression", outputs[:, :, None], *by)


def rmse(answers: Floats, labels: Floats) -> float:
    return float(np.sqrt(np.square(answers - labels).mean()))


def test_a_regression_finds_slope_and_shift_of_each_member() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=3_000) * 5 + 100
    labels = truth + rng.normal(size=3_000)
    blend = pool("regression", (1, 2))
    blend.fold(message([1, 2], np.stack([truth / 2, truth * 1.25 + 30], axis=1)[:, :, None], labels))
    for (slope, constant), of_100 in zip([each.parameters for each in said(blend).lines], (50, 155), strict=True):
        assert slope * of_100 + constant == pytest.approx(100, abs=0.3)
    assert [each.parameters[0] for each in said(blend).lines] == pytest.approx([2.0, 0.8], abs=0.05)


def test_members_of_other_levels_answer_well_while_their_weights_move() -> None:
    rng = np.random.default_rng(5)
    truth, rows = rng.normal(size=4_000) * 20 + 100, 100
    noise = rng.normal(size=(4_000, 2)) * np.where(np.arange(4_000)[:, None] // 500 % 2 == [0, 1], 1, 8)
    outputs = np.stack([truth / 2, truth * 2], axis=1) + noise
    blend, errors = pool("regression", (1, 2)), []
    for start in range(0, 4_000, rows):
        span = slice(start, start + rows)
        errors.append(rmse(served(blend, outputs[span]), truth[span]))
        blend.fold(message([1, 2], outputs[span, :, None], truth[span]))
    assert np.mean(errors[20:]) < 6
    assert min(rmse(outputs[:, each], truth) for each in (0, 1)) > 50


def test_one_wild_label_moves_neither_weights_nor_lines_far() -> None:
    rng = np.random.default_rng(4)
    told = rng.normal(size=(1_000, 2)) * 5 + 100
    labels = told.mean(axis=1) + rng.normal(size=1_000)
    blend = pool("regression", (1, 2))
    blend.fold(message([1, 2], told[:, :, None], labels))
    before, weights = rmse(served(blend, told), labels), blend.weights()
    blend.fold(message([1, 2], told[:1, :, None], np.array([1e9])))
    assert blend.weights() == pytest.approx(weights, abs=0.1)
    assert rmse(served(blend, told), labels) < before + 0.2


def test_a_newcomer_of_a_regression_is_taken_at_its_word() -> None:
    blend = pool("regression", (1, 3))
    blend.fold(stream("regression", 1, rows=300, members=(1, 3)))
    before = said(blend).lines
    blend.add(2)
    assert [each.parameters for each in said(blend).lines] == [before[0].parameters, (1.0, 0.0), before[1].parameters]
    blend.remove(2)
    assert said(blend).lines == before


@pytest.mark.parametrize("task", TASKS)
def test_a_checkpoint_from_before_there_were_lines_goes_on_from_straight_ones(task: Task) -> None:
    blend = pool(task)
    blend.fold(stream(task, 2, rows=300))
    older = Blend(task, msgspec.structs.replace(said(blend), lines=()))
    assert {each.parameters for each in said(older).lines} == {(1.0, 0.0) if task == "regression" else (1.0,)}
    assert said(older).calibrator == said(blend).calibrator
    older.fold(stream(task, 3))
    assert all(each.state for each in said(older).lines)


def logits(rows: int, level: float, seed: int, factor: float = 1.0) -> tuple[Floats, Floats]:
    """Logits of a member, and labels that are likelier by a level than it thinks."""
    rng = np.random.default_rng(seed)
    told = rng.normal(size=rows) * 1.5
    return told, (rng.random(rows) < 1 / (1 + np.exp(-(factor * told + level)))).astype(float)


def chances(told: Floats) -> Floats:
    return (1 / (1 + np.exp(-told)))[:, None, None]


def test_members_of_several_classes_get_the_level_of_each() -> None:
    rng = np.random.default_rng(10)
    told = rng.normal(size=(20_000, 2, 3))
    truth = np.exp(told[:, 0] + [1.0, 0.0, -1.0])
    labels = (rng.random((20_000, 1)) > np.cumsum(truth / truth.sum(axis=1, keepdims=True), axis=1)).sum(axis=1)
    raised = np.exp(told)
    blend = pool("multiclass", (1, 2))
    blend.fold(message([1, 2], raised / raised.sum(axis=2, keepdims=True), labels.astype(float)))
    _, *levels = said(blend).lines[0].parameters
    assert np.diff(levels) == pytest.approx([-1.0, -1.0], abs=0.25)


@pytest.mark.parametrize("level", [-1.0, 0.0, 1.5])
def test_a_member_of_two_classes_gets_the_level_of_its_labels(level: float) -> None:
    told, labels = logits(20_000, level, 6)
    blend = pool("binary", (1,))
    blend.fold(message([1], chances(told), labels))
    ((factor, found),) = [each.parameters for each in said(blend).lines]
    assert factor == 1.0
    assert found == pytest.approx(level, abs=0.25)


def test_a_wrong_level_takes_no_weight_from_the_member_that_knows_more() -> None:
    told, labels = logits(3_000, 0.0, 7)
    blind = np.random.default_rng(8).normal(size=3_000) * 0.2
    blend = pool("binary", (1, 2))
    blend.fold(message([1, 2], np.concatenate([chances(told - 2.0), chances(blind)], axis=1), labels))
    assert blend.weights()[1] > 0.6


def test_a_member_that_slept_through_a_world_of_opposites_says_the_same_when_it_wakes() -> None:
    told, labels = logits(3_000, 0.0, 9, factor=2.0)
    blend = pool("binary", (1,))
    blend.fold(message([1], chances(told), 1 - labels))
    ((factor, level),) = [each.parameters for each in said(blend).lines]
    assert factor == 1.0
    assert abs(level) < 0.3


def test_the_calibrator_of_a_regression_falls_back_to_the_mixture_where_it_was_not_better() -> None:
    blend = pool("regression", (1,))
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(4_000) % 40 < 20, 1.0, -1.0) * 0.5 + rng.normal(size=4_000)
    blend.fold(message([1], rng.normal(size=(4_000, 1, 1)) * 1e-9, labels))
    for kept in (said(blend).calibrator, *said(blend).lines):
        assert kept.parameters == (1.0, 0.0)
        assert kept.state


def test_overconfidence_is_repaired() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=5_000)
    labels = (rng.random(5_000) < 1 / (1 + np.exp(-truth))).astype(float)
    blend = pool("binary", (1,))
    blend.fold(message([1], (1 / (1 + np.exp(-4 * truth)))[:, None, None], labels))
    factor, _, constant = said(blend).calibrator.parameters
    assert factor == pytest.approx(0.25, abs=0.05)
    assert abs(constant) < 0.1


def test_the_online_member_is_trusted_where_it_knows_what_the_pool_does_not() -> None:
    rng = np.random.default_rng(0)
    for task in ("binary", "multiclass"):
        labels = labels_of(task, 3_000, rng)
        knows = outputs_of(task, labels, 1, rng)[:, 0]
        blend = pool(task, (1,))
        flat = np.full((3_000, 1, WIDTH[task]), 1 / 2 if task == "binary" else 1 / 3)
        blend.fold(message([1], flat, labels, knows))
        assert said(blend).calibrator.parameters[1] > 0.5


def test_an_absent_online_member_does_not_hold_the_calibrator_back() -> None:
    rng = np.random.default_rng(1)
    blend = pool("binary", (1,))
    for factor in (1.0, 0.25):
        truth = rng.normal(size=20_000) * 2
        labels = (rng.random(20_000) < 1 / (1 + np.exp(-factor * truth))).astype(float)
        blend.fold(message([1], (1 / (1 + np.exp(-truth)))[:, None, None], labels))
        assert said(blend).calibrator.parameters[0] == pytest.approx(factor, abs=0.08)


@pytest.mark.parametrize("task", TASKS)
def test_the_best_member_comes_to_lead(task: Task) -> None:
    blend = pool(task)
    blend.fold(stream(task, 7, rows=400))
    assert blend.leader == 1
    assert blend.labels() == {1: 400, 2: 400, 3: 400}


def test_a_newcomer_enters_with_its_share_and_the_others_keep_their_proportions() -> None:
    blend = pool("binary", (1, 2))
    blend.fold(stream("binary", 3, members=(1, 2)))
    before = blend.weights()
    blend.add(5)
    after = blend.weights()
    assert after[5] == pytest.approx(ENTRY)
    assert after[1] / after[2] == pytest.approx(before[1] / before[2])
    blend.remove(5)
    assert blend.weights() == pytest.approx(before)


def harm(seed: int, rows: int = 2_000) -> float:
    """What a newcomer costs that knows nothing and is as sure as the member that knows: part of the rows.

    Each hundred is answered with what the labels before it taught.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, rows)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(float)
    told = 1 / (1 + np.exp(-np.stack([logits, rng.permutation(logits)], axis=1)))
    blend, wrong = pool("binary", (1, 2)), 0
    for start in range(0, rows, 100):
        here, weights = slice(start, start + 100), blend.weights()
        answers = mix("binary", told[here, :, None], np.array(list(weights.values())), said(blend).calibrator)
        wrong += int(((answers >= 0.5) != (labels[here] > 0)).sum())
        blend.fold(message([1, 2], told[here], labels[here]))
    return wrong / rows - float(((logits >= 0) != (labels > 0)).mean())


def test_a_newcomer_that_knows_nothing_costs_less_than_a_point_of_two_thousand_rows() -> None:
    assert np.mean([harm(seed) for seed in range(12)]) < 0.01


def test_of_two_that_say_the_same_the_lighter_leaves() -> None:
    rng = np.random.default_rng(0)
    labels = labels_of("binary", 200, rng)
    outputs = outputs_of("binary", labels, 4, rng)
    outputs[:, 2] = np.clip(outputs[:, 1] * 0.9, 0, 1)
    blend = pool("binary", (1, 2, 3, 4))
    blend.fold(message([1, 2, 3, 4], outputs, labels))
    lighter = min((2, 3), key=lambda each: blend.weights()[each])
    assert blend.redundant(()) == lighter
    assert blend.redundant((lighter,)) == 5 - lighter
    assert blend.redundant((1, 2, 3, 4)) is None


def test_a_regime_that_sleeps_stays_while_lighter_members_repeat_each_other() -> None:
    rng = np.random.default_rng(0)
    labels = labels_of("binary", 3_000, rng)
    sure = 0.05 + 0.8 * labels[:, None] + 0.1 * rng.random((3_000, 5))
    sure[:, 0] = 1 - sure[:, 0]
    blend = pool("binary", (1, 2, 3, 4, 5))
    blend.fold(message([1, 2, 3, 4, 5], sure, labels))
    weights = blend.weights()
    assert weights[1] == min(weights.values()) < 0.05
    assert blend.redundant(()) in {2, 3, 4, 5}


def test_who_was_hardly_judged_does_not_leave() -> None:
    blend = pool("binary", (1, 2))
    blend.fold(stream("binary", 3, rows=JUDGED_ENOUGH - 1, members=(1, 2)))
    assert blend.redundant(()) is None
    blend.fold(stream("binary", 4, rows=1, members=(1, 2)))
    assert blend.redundant(()) in {1, 2}


def test_rows_without_pool_label_or_known_member_say_nothing() -> None:
    columns = pa.array([None, [7], [1, 2], [], [1, 2]], pa.list_(pa.int32()))
    values = pa.array([None, [0.5], [0.9, 0.1], [], [0.9, 0.1]], pa.list_(pa.float64()))
    blend = pool("binary", (1, 2))
    blend.fold(Judged.of(columns, values, np.array([1, 1, 1, 1, math.nan])))
    assert blend.labels() == {1: 1, 2: 1}
    assert blend.leader == 1


def test_a_member_whose_output_is_not_finite_sleeps_through_that_row() -> None:
    blend = pool("binary", (1, 2))
    outputs = np.array([[0.9, math.nan], [0.9, 0.8]])[:, :, None]
    blend.fold(message([1, 2], outputs, np.array([1.0, 1.0])))
    assert blend.labels() == {1: 2, 2: 1}


@pytest.mark.parametrize("task", TASKS)
def test_served_through_its_checkpoint_a_pool_beats_its_mean_member(task: Task) -> None:
    blend, judged = pool(task), stream(task, 11, rows=600)
    blend.fold(judged)
    weights = said(blend)
    fresh = stream(task, 12, rows=600)
    outputs = fresh.outputs.reshape(600, 3, WIDTH[task])
    by = weights.weights((1, 2, 3)), weights.calibrator, fresh.online, weights.straight((1, 2, 3))
    answers = mix(task, outputs, *by)
    assert loss(task, answers, fresh.labels) < np.mean(
        [
            loss(task, outputs[:, each] if task == "multiclass" else outputs[:, each, 0], fresh.labels)
            for each in range(3)
        ]
    )


def loss(task: Task, answers: Floats, labels: Floats) -> float:
    if task == "regression":
        return float(np.square(answers - labels).mean())
    right: npt.NDArray[np.float64] = (
        np.where(labels > 0, answers, 1 - answers)
        if task == "binary"
        else answers[np.arange(len(labels)), labels.astype(int)]
    )
    return float(-np.log(right).mean())
