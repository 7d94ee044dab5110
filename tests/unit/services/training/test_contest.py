"""Challengers against the champion, message by message."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from schemas.pooling import Floats, Task, Weights
from services.training.domain.blend import Blend
from services.training.domain.contest import Contest
from services.training.domain.gate import Gate
from services.training.domain.judged import Judged

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")


def message(task: Task, skills: dict[int, float], seed: int, rows: int = 100) -> Judged:
    """Members that are right with that probability, or in regression miss by little with it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows).astype(float)
    right = np.stack([rng.random(rows) < skill for skill in skills.values()], axis=1)
    outputs = said(task, labels, right)
    members = np.tile(list(skills), rows)
    return Judged(np.arange(rows + 1) * len(skills), members, outputs.ravel(), labels)


def said(task: Task, labels: Floats, right: np.ndarray) -> Floats:
    hit = np.where(right, labels[:, None], 1 - labels[:, None])
    if task == "regression":
        return np.where(right, labels[:, None], labels[:, None] + 3)
    return 0.2 + 0.6 * (np.stack([1 - hit, hit], axis=2) if task == "multiclass" else hit)


def through_json(contest: Contest) -> Weights:
    written = Blend("binary").checkpoint(model="m", epoch=1, number=1, pool=1, **contest.identity())
    return msgspec.json.decode(msgspec.json.encode(written), type=Weights)


def rounds(contest: Contest, task: Task, skills: dict[int, float], most: int = 40) -> dict[int, str]:
    for seed in range(most):
        if found := contest.fold(message(task, skills, seed), 1.0):
            return dict(found)
    return {}


@pytest.mark.parametrize("task", TASKS)
def test_the_better_is_promoted_and_the_worse_rejected(task: Task) -> None:
    contest = Contest(task, Gate(), 1)
    contest.add(2)
    assert rounds(contest, task, {1: 0.6, 2: 0.8}) == {2: "promoted"}
    contest.promote(2)
    contest.add(3)
    assert rounds(contest, task, {2: 0.8, 3: 0.6}) == {3: "rejected"}


def test_rows_that_only_one_of_them_scored_do_not_count() -> None:
    contest = Contest("binary", Gate(), 1)
    contest.add(2)
    for skills in ({1: 0.1}, {2: 0.9}, {2: 0.9, 3: 0.1}):
        contest.fold(message("binary", skills, 0), 0.0)
    assert contest.trials[2].rows == 0


def test_a_regression_waits_until_the_usual_residual_is_known() -> None:
    contest = Contest("regression", Gate(), 1)
    contest.add(2)
    contest.fold(message("regression", {1: 0.1, 2: 0.9}, 0), 0.0)
    assert contest.trials[2].rows == 0


def test_after_a_promotion_the_others_begin_anew_with_the_whole_alpha() -> None:
    contest = Contest("binary", Gate(), 1)
    for member in (2, 3, 4):
        contest.add(member)
    contest.fold(message("binary", {1: 0.5, 2: 0.6, 3: 0.7, 4: 0.5}, 0), 0.0)
    contest.promote(3)
    assert contest.champion == 3
    assert {member: (trial.number, trial.rows) for member, trial in contest.trials.items()} == {2: (1, 0), 4: (2, 0)}


def test_it_goes_on_from_a_checkpoint() -> None:
    whole, cut = Contest("binary", Gate(), 1), Contest("binary", Gate(), 1)
    for each in (whole, cut):
        each.add(2)
    for seed in range(3):
        whole.fold(message("binary", {1: 0.6, 2: 0.65}, seed), 0.0)
        cut.fold(message("binary", {1: 0.6, 2: 0.65}, seed), 0.0)
        cut = Contest("binary", Gate(), 1, through_json(cut))
    assert cut.identity() == whole.identity()
    assert Contest("binary", Gate(), 2, through_json(cut)).trials == {}
