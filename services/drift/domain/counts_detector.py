"""The likelihood ratios of counts: what the null predicts for a pane, and what seventeen alternatives predict.

The null is the Dirichlet-multinomial with the reference counts, a prior of one half per bin and everything since then:
with bins at order statistics that is the very law of the counts, whatever the feature's distribution, as long as rows
are exchangeable. Where they are not (autocorrelated rows), it promises nothing: see `whitening`.

Fourteen alternatives are fixed tilts of the null's mean and cost nothing to learn; three learn, with different
forgetting, what has come lately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ndtri

from schemas.bins import Kind
from schemas.bins_codes import NEW, OTHER

Floats = npt.NDArray[np.float64]

PRIOR = 0.5
UNREACHED = 1e-9
"""Prior of a cell that no row can fall into."""

LOCATIONS, SCALES, MISSING = (0.2, 0.5, 1.0), (0.15, 0.35, 0.6), (0.8, 1.6)
TILTS = 2 * len(LOCATIONS) + 2 * len(SCALES) + len(MISSING)
STRONGEST = 6.0
"""Bound of a tilt: a bin of the outermost ranks says no more."""

KEPT: Floats = np.array([0.8, 0.95, 0.99])
"""Share of what a learning alternative knows that it keeps from pane to pane."""
TIED: Floats = np.array([40.0, 80.0, 160.0])
"""Rows of the null's mean that it is mixed with."""
ALTERNATIVES = TILTS + len(KEPT)

SHARES = (0.3, 0.2, 0.2, 0.3)
"""Of the weight: locations, scales, missing, learning."""


def log_dirichlet_multinomial(concentration: Floats, counts: Floats) -> Floats:
    """Logarithm of the chance of counts, without the multinomial coefficient: it is the same in p and q.

    Args:
        concentration: Above 0, shape (..., rows, cells).
        counts: Shape (rows, cells).
    """
    total, rows = concentration.sum(-1), counts.sum(-1)
    met = counts > 0  # the others add nothing, and are the most
    some = concentration[..., met]
    grown = np.zeros(concentration.shape)
    grown[..., met] = gammaln(some + counts[met]) - gammaln(some)
    found: Floats = gammaln(total) - gammaln(total + rows) + grown.sum(-1)
    return found


def normal_scores(mean: Floats) -> Floats:
    """Of each ordered cell the normal quantile of the middle of its mass, the last cell (missing) apart: 0.

    Args:
        mean: Chances, shape (..., cells).
    """
    known = mean[..., :-1]
    total = np.maximum(known.sum(-1, keepdims=True), UNREACHED)
    middle = (np.cumsum(known, -1) - known / 2) / total
    scores = np.where(known > UNREACHED, ndtri(np.clip(middle, 1e-4, 1 - 1e-4)), 0)
    return np.concatenate((scores, np.zeros_like(mean[..., :1])), -1)


def tilts(kind: Kind, mean: Floats) -> Floats:
    """Logarithms of the fixed tilts, shape (14, cells): of place, width and missing share, or of single categories."""
    if kind in ("category", "classes"):
        return _category_tilts(kind, mean)
    scores, missing = normal_scores(mean), np.zeros(len(mean))
    missing[-1] = 1
    squares = np.where(missing > 0, 0, scores**2 - 1)
    found = [sign * size * scores for size in LOCATIONS for sign in (1, -1)]
    found += [sign * size * squares for size in SCALES for sign in (1, -1)]
    found += [size * missing for size in MISSING]
    return np.clip(found, -STRONGEST, STRONGEST)


def _category_tilts(kind: Kind, mean: Floats) -> Floats:
    """Four cells doubled or halved; new and other categories, or the same four, more frequent; missing as well."""
    found, double = np.zeros((TILTS, len(mean))), np.log(2)
    cells = np.resize(np.flatnonzero(mean[:-1] > 2 * UNREACHED), 4).tolist()
    steps = [(cell, sign * double) for cell in cells for sign in (1, -1)]
    if kind == "category":
        steps += [(NEW, 1.0), (NEW, 2.0), (OTHER, double), (OTHER, -double)]
    else:
        steps += [(cell, 2 * double) for cell in cells]
    for row, (cell, size) in enumerate(steps):
        found[row, cell] = size
    found[len(steps) :, -1] = MISSING
    return found


def alternatives(kind: Kind) -> Floats:
    """Weights of the alternatives, their sum is 1, shape (17,). A loss is judged for being higher only."""
    sizes = 2 * len(LOCATIONS), 2 * len(SCALES), len(MISSING), len(KEPT)
    parts = [np.full(size, share / size) for size, share in zip(sizes, SHARES, strict=True)]
    if kind == "loss":
        parts[0][1::2], parts[1][:], parts[2][:] = 0, 0, 0
    if kind == "score":
        parts[2][:] = 0  # a score is never missing
    return _weighted(parts)


def alternatives_of_errors() -> Floats:
    """The same for ranks of forecasts' errors: place alone, for a change of width is a change of place of its score.

    Where the size of errors comes in waves, as it does, the others would take every wave for a change.
    """
    return _weighted([np.ones(2 * len(LOCATIONS)), np.zeros(ALTERNATIVES - 2 * len(LOCATIONS))])


def _weighted(parts: Sequence[Floats]) -> Floats:
    found = np.concatenate(parts)
    found /= found.sum()
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """What was seen since the reference, for each stratum.

    Attributes:
        absorbed: Counts, shape (strata, rows, cells).
        lately: Decayed counts, shape (strata, learning alternatives, rows, cells).
    """

    absorbed: npt.NDArray[np.int64]
    lately: npt.NDArray[np.float32]

    @classmethod
    def nothing(cls, strata: int, rows: int, cells: int) -> Learnt:
        """Behind a reference."""
        return cls(np.zeros((strata, rows, cells), np.int64), np.zeros((strata, len(KEPT), rows, cells), np.float32))

    def behind(self, counts: Floats, stratum: int) -> None:
        """Take in the counts of a pane, shape (rows, cells); rows without any keep what they know."""
        moved = counts.sum(-1, keepdims=True) > 0
        faded = self.lately[stratum]
        faded[...] = np.where(moved, KEPT[:, None, None] * faded + counts, faded)
        self.absorbed[stratum] += counts.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """The ratios of several streams' counts at once; all padded to the same number of cells.

    Attributes:
        prior: Concentration of the null at the reference, shape (strata, rows, cells).
        tilted: Logarithms of the tilts, shape (strata, 14, rows, cells).
        rising: Rows of which only a rise counts, shape (rows,).
        scores: Normal scores of the cells, shape (strata, rows, cells).
        powers: Exponentials of the tilts.
    """

    prior: Floats
    tilted: Floats
    rising: npt.NDArray[np.bool_]
    scores: Floats
    powers: Floats

    @classmethod
    def of(cls, prior: Floats, kinds: Sequence[Kind]) -> Detector:
        """The detector of streams of these kinds around a null."""
        mean = prior / prior.sum(-1, keepdims=True)
        found = [tilts(kind, row) for each in mean for kind, row in zip(kinds, each, strict=True)]
        tilted = np.array(found).reshape(*prior.shape[:2], TILTS, prior.shape[2]).swapaxes(1, 2).copy()
        rising = np.array([each == "loss" for each in kinds], bool)
        return cls(prior, tilted, rising, normal_scores(mean), np.exp(tilted))

    def ratios(self, learnt: Learnt, counts: Floats, stratum: int) -> Floats:
        """Logarithms of q / p, shape (alternatives, rows).

        Args:
            learnt: What was seen before this pane.
            counts: Shape (rows, cells).
            stratum: Of the pane.
        """
        null = self.prior[stratum] + learnt.absorbed[stratum]
        mean = null / null.sum(-1, keepdims=True)
        lately = TIED[:, None, None] * mean + learnt.lately[stratum]
        expected, learning = np.split(log_dirichlet_multinomial(np.concatenate((null[None], lately)), counts), [1])
        sums = np.einsum("jrc,rc->jr", self.powers[stratum], mean)
        fixed = np.einsum("jrc,rc->jr", self.tilted[stratum], counts) - counts.sum(-1) * np.log(sums)
        fixed += np.einsum("rc,rc->r", np.log(mean), counts) - expected
        learning = learning - expected
        if self.rising.any():
            learning = np.where(self._fallen(mean, learnt.lately[stratum], stratum), 0, learning)
        return np.concatenate((fixed, learning))

    def _fallen(self, mean: Floats, lately: npt.NDArray[np.float32], stratum: int) -> npt.NDArray[np.bool_]:
        """Where a rise alone counts and what came lately is no rise, shape (learning alternatives, rows)."""
        usual = mean * lately.sum(-1, keepdims=True)
        risen = np.einsum("rc,krc->kr", self.scores[stratum], lately - usual)
        fallen: npt.NDArray[np.bool_] = self.rising & (risen <= 0)
        return fallen
