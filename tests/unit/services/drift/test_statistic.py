"""The parts of the statistic obey their laws: ratios have mean one, chains are Shiryaev-Roberts, CUSUM knows starts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln
from scipy.stats import dirichlet_multinomial

from schemas.bins import LABEL, LOSS, Bins, Kind, Stream
from schemas.quantities import rate
from schemas.reference import Reference
from services.drift.domain.chains import Chains
from services.drift.domain.counts_detector import (
    ALTERNATIVES,
    Detector,
    Learnt,
    alternatives,
    log_dirichlet_multinomial,
)
from services.drift.domain.door import FATES
from services.drift.domain.families import SHARES, budget
from services.drift.domain.judge import Judge
from services.drift.domain.monitor import Monitor
from services.drift.domain.pane_counts import PaneCounts
from services.drift.domain.standing import WITNESSED, Rules
from services.drift.domain.strata import concentrations
from services.drift.domain.whitening import excess
from services.drift.domain.witness import Errors

RULES = Rules(60_000, 1_000, rate("1 per 30d"))
KINDS: tuple[Kind, ...] = ("numeric", "score", "loss", "category", "classes")


@given(st.integers(0, 1_000))
def test_the_predictive_is_scipys_dirichlet_multinomial(seed: int) -> None:
    random = np.random.default_rng(seed)
    concentration, counts = random.gamma(2, 3, 5), random.integers(0, 6, 5).astype(float)
    coefficient = gammaln(counts.sum() + 1) - gammaln(counts + 1).sum()
    known = dirichlet_multinomial.logpmf(counts, concentration, counts.sum())
    assert log_dirichlet_multinomial(concentration[None], counts[None])[0] + coefficient == pytest.approx(known)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KINDS))
def test_no_alternative_predicts_one_row_more_than_once(seed: int, kind: Kind) -> None:
    """Sum over all cells of p(cell) * q(cell) / p(cell) is 1: each alternative is a distribution."""
    random = np.random.default_rng(seed)
    prior = random.gamma(5, 20, (1, 1, 33 if kind == "category" else 17))
    detector, learnt = Detector.of(prior, [kind]), Learnt.nothing(1, 1, prior.shape[-1])
    for _ in range(3):
        learnt.behind(random.integers(0, 3, prior.shape[1:]).astype(float), 0)
    null = prior[0, 0] + learnt.absorbed[0, 0]
    each_cell = np.eye(prior.shape[-1])
    ratios = np.array([detector.ratios(learnt, cell[None], 0)[:, 0] for cell in each_cell])
    means = (null / null.sum()) @ np.exp(ratios)
    assert means.shape == (ALTERNATIVES,)
    assert np.allclose(means, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_alternatives_sum_to_one(kind: Kind) -> None:
    assert alternatives(kind).sum() == pytest.approx(1)
    assert alternatives(kind).min() >= 0


def test_chains_are_shiryaev_roberts_sums() -> None:
    random = np.random.default_rng(0)
    ratios = random.normal(0, 1, 30)
    chains = Chains.fresh(1, 1)
    for pane, each in enumerate(ratios):
        chains = chains.moved(np.array([[each]]), np.ones(1), pane)
    products = [ratios[start:].sum() for start in range(30)]
    assert chains.log[0, 0] == pytest.approx(np.logaddexp.reduce(products), abs=1e-4)
    assert chains.cusum[0, 0] == pytest.approx(max(products), abs=1e-4)
    assert chains.start[0, 0] == int(np.argmax(products))


def test_a_row_that_does_not_move_keeps_everything() -> None:
    chains = Chains.fresh(1, 2).moved(np.array([[0.5, 0.5]]), np.ones(2), 3)
    then = chains.moved(np.array([[0.0, 1.0]]), np.array([0.0, 1.0]), 4)
    assert then.log[0, 0] == chains.log[0, 0]
    assert then.start.tolist() == [[3, 3]]
    assert then.log[0, 1] > chains.log[0, 1]


def test_no_pane_overflows() -> None:
    chains = Chains.fresh(1, 1)
    with np.errstate(over="raise", invalid="raise"):
        for pane in range(50):
            chains = chains.moved(np.array([[1e6]]), np.ones(1), pane)
    assert np.isfinite(np.exp(chains.log.astype(float))).all()


def test_exchangeable_rows_have_no_excess_and_a_wave_has() -> None:
    random = np.random.default_rng(1)
    rows = np.full(640, 25.0)
    noise = random.normal(size=640) * 5
    assert excess(noise, rows) < 1.5
    assert excess(noise + 3 * np.sin(np.arange(640) / 20), rows) > 2
    assert excess(noise[:5], rows[:5]) == 0


def test_a_fall_of_the_loss_is_no_alarm_and_a_rise_is() -> None:
    counts = np.zeros((1, 17), np.int32)
    counts[0, :2] = 4_000, 1_000
    reference = Reference.of(Bins((Stream(LOSS, "concept", "loss", edges=(0.0, 1.0)),)), counts)
    monitor = Monitor(reference, "concept", RULES.threshold("concept"))
    rises = []
    for wrong in (2, 10):
        pane = np.zeros(17, np.int32)
        pane[:2] = 25 - wrong, wrong
        monitor.restart()
        rises.append([monitor.judge(pane, i).alarm for i in range(200)])
    assert not any(rises[0])
    assert rises[1].index(True) < 10


def test_strata_that_are_alike_borrow_and_different_ones_do_not() -> None:
    random = np.random.default_rng(0)
    alike = random.multinomial(400, np.full(16, 1 / 16), 24)
    steep = np.exp(-((np.arange(16)[None] - np.linspace(0, 15, 24)[:, None]) ** 2) / 8)
    different = np.array([random.multinomial(400, row / row.sum()) for row in steep])
    counts = np.zeros((24, 2, 17))
    counts[:, 0, :16], counts[:, 1, :16] = alike, different
    found = concentrations(counts, np.ones((2, 17), bool), np.ones(2, bool))
    assert found.sum(-1)[:, 0] == pytest.approx(np.full(24, 700), rel=0.01)
    assert found.sum(-1)[:, 1].max() < 410


def test_the_budget_is_in_panes_or_in_rows() -> None:
    assert budget(rate("1 per 30d"), 60_000) == 43_200
    assert budget(rate("2 per 1000000 rows"), 60_000) == 500_000
    assert sum(SHARES.values()) == pytest.approx(1)


def test_a_family_has_its_share_of_the_budget_and_the_counts_of_concept_half_of_it() -> None:
    assert RULES.threshold("features") == pytest.approx(43_200 / SHARES["features"])
    assert RULES.threshold("concept") == pytest.approx(43_200 / (SHARES["concept"] * WITNESSED))


def test_a_quiet_family_does_not_hide_anothers_alarm() -> None:
    counts = np.zeros((1, 17 + 3), np.int32)
    counts[0, :2], counts[0, 17:] = (4_000, 1_000), (2_500, 2_500, 0)
    streams = Stream(LOSS, "concept", "loss", edges=(0.0, 1.0)), Stream(LABEL, "label", "classes", values=("no", "yes"))
    judge = Judge(RULES, {1: Reference.of(Bins(streams), counts)}.get)
    worse = np.zeros((1, 20), np.int32)
    worse[0, :2], worse[0, 17:] = (13, 12), (13, 12, 0)
    quality, nothing = np.zeros((1, len(FATES)), np.int64), np.empty(0)
    found = [
        moved.opened.family
        for pane in range(10)
        for moved in judge.labels(PaneCounts(pane, 1, (0,), worse, quality), Errors(nothing.astype(np.int64), nothing))
        if moved.opened is not None
    ]
    assert found == ["concept"]
