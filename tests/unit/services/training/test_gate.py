"""The gate: what it promises, and its benchmark."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import gate as bench
from services.training.domain.gate import Gate, begun, losses

GATE = Gate(max_rows=2_000)


def signs(rng: np.random.Generator, rows: int, better: float, worse: float) -> np.ndarray:
    chance = rng.random(rows)
    return np.where(chance < better, 1.0, np.where(chance < better + worse, -1.0, 0.0))


def test_the_levels_of_all_challengers_sum_to_alpha() -> None:
    levels = [math.exp(-GATE.enough(number)) for number in range(1, 100_000)]
    assert sum(levels) == pytest.approx(GATE.alpha, rel=1e-4)


def test_a_better_challenger_is_promoted_and_a_worse_one_rejected_long_before_the_end() -> None:
    rng = np.random.default_rng(0)
    differences = signs(rng, 2_000, 0.1, 0.02)
    won, lost = GATE.judge(begun(1), differences), GATE.judge(begun(1), -differences)
    assert GATE.verdict(won) == "promoted"
    assert GATE.verdict(lost) == "rejected"
    assert won.rows == lost.rows < 500


def test_who_proves_nothing_is_rejected_after_the_most_rows() -> None:
    trial = GATE.judge(begun(1), np.zeros(1_999))
    assert GATE.verdict(trial) == "undecided"
    trial = GATE.judge(trial, np.ones(500) * 0.001)
    assert trial.rows == GATE.max_rows
    assert GATE.verdict(trial) == "rejected"


def test_a_verdict_stands_whatever_comes_later() -> None:
    won = GATE.judge(begun(1), np.ones(100))
    assert GATE.judge(won, -np.ones(1_000)) == won


@given(seed=st.integers(0, 1_000), cut=st.integers(0, 400), better=st.floats(0, 0.3), worse=st.floats(0, 0.3))
@settings(max_examples=50, deadline=None)
def test_where_the_rows_are_cut_changes_no_verdict(seed: int, cut: int, better: float, worse: float) -> None:
    differences = signs(np.random.default_rng(seed), 400, better, worse)
    whole = GATE.judge(begun(2), differences)
    parts = GATE.judge(GATE.judge(begun(2), differences[:cut]), differences[cut:])
    assert parts.rows == whole.rows
    assert parts.better == pytest.approx(whole.better, abs=1e-9)
    assert GATE.verdict(parts) == GATE.verdict(whole)


def test_later_challengers_need_more_evidence() -> None:
    differences = np.ones(200)
    assert GATE.judge(begun(1), differences).rows < GATE.judge(begun(5), differences).rows


def test_losses_are_bounded_and_no_prediction_is_the_worst() -> None:
    labels = np.array([1.0, 0.0, 1.0])
    assert losses("binary", np.array([0.7, 0.7, math.nan]), labels, 0.0).tolist() == [0, 1, 1]
    assert losses("regression", np.array([1.0, 2.0, math.nan]), labels, 1.0).tolist() == [0, 0.5, 1]
    assert losses("multiclass", np.array([[0.1, 0.9], [0.4, 0.6], [math.nan] * 2]), labels, 0.0).tolist() == [0, 1, 1]


def test_the_benchmark_finds_what_the_gate_finds() -> None:
    class Same(bench.Alike):
        def rows(self) -> np.ndarray:
            rows = super().rows()
            seen.append(rows)
            return rows

    seen: list[np.ndarray] = []
    gate = Gate(max_rows=750)
    after = bench.promoted_after(gate, 1, Same(np.random.default_rng(3), 20, 0.05))
    trials = [gate.judge(begun(1), each) for each in np.concatenate(seen).T]
    expected = [each.rows if gate.verdict(each) == "promoted" else bench.NEVER for each in trials]
    assert after.tolist() == expected
    assert len(set(expected)) > 2


def test_a_small_run_of_the_benchmark_keeps_its_promises() -> None:
    found = bench.figures(200, 1_000)
    assert found["wrong_promotions"] <= found["alpha"]
    assert 100 < found["median_rows_five_points"] < 400
    assert found["median_rows_ten_points"] < found["median_rows_five_points"]


def test_the_nulls_of_the_benchmark_have_no_mean_but_a_memory() -> None:
    source = bench.Blocks(np.random.default_rng(0), 2_000)
    blocks = [source.rows() for _ in range(20)]
    assert abs(np.mean(blocks)) < 0.003
    gains = np.array([each.sum(axis=0) for each in blocks])
    spread = np.abs(gains[1:])
    assert spread[gains[:-1] > 0].mean() > 1.5 * spread[gains[:-1] < 0].mean()


def test_the_benchmark_says_what_it_measures() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gate", "--help"], check=True, capture_output=True, text=True
    )
    assert "wrong_promotions" in done.stdout
