"""The monitor: fast where the error rises, silent where it does not."""

import numpy as np
import pytest

from services.drift.domain.concept import Change, Concept


def run(losses: np.ndarray, chunk: int) -> list[tuple[int, Change]]:
    concept, found, start = Concept(), [], 0
    values, times = losses.astype(float), np.arange(len(losses)) * 10
    while start < len(values):
        count, change = concept.update(values[start : start + chunk], times[start : start + chunk])
        start += count
        if change is not None:
            found.append((start, change))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_rise_from_a_fifth_to_a_half_is_found_within_a_few_hundred_rows(seed: int) -> None:
    random = np.random.default_rng(seed)
    losses = np.concatenate([random.random(5_000) < 0.2, random.random(3_000) < 0.5])

    (row, change), *_ = run(losses, 1_000)

    assert 5_000 < row <= 5_400
    assert change.rise > 0
    assert change.rows_before + change.rows_after == row
    assert change.start == (row - change.rows_after) * 10
    assert abs(change.rows_before - 5_000) < 100
    assert change.error_before == pytest.approx(losses[: change.rows_before].mean())
    assert change.error_after == pytest.approx(losses[change.rows_before : row].mean())


def test_a_hundred_thousand_rows_without_a_change_raise_no_alarm() -> None:
    assert run(np.random.default_rng(11).random(100_000) < 0.3, 4_000) == []


def test_a_fall_is_a_change_but_no_rise() -> None:
    random = np.random.default_rng(2)
    (_, change), *_ = run(np.concatenate([random.random(3_000) < 0.5, random.random(3_000) < 0.1]), 500)
    assert change.rise < 0


def test_changes_do_not_depend_on_how_the_rows_are_cut() -> None:
    random = np.random.default_rng(5)
    losses = random.random(20_000) < np.repeat([0.1, 0.4, 0.2, 0.5], 5_000)
    assert run(losses, 1) == run(losses, 777) == run(losses, 20_000) != []


def test_the_start_of_a_change_too_long_ago_is_the_oldest_remembered_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.drift.domain.concept.REMEMBERED", 64)
    random = np.random.default_rng(1)
    losses = np.concatenate([random.random(5_000) < 0.2, random.random(3_000) < 0.5])

    (row, change), *_ = run(losses, 50)
    assert 0 < change.rows_after < 64
    assert change.start == (row - change.rows_after) * 10
