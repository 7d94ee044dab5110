"""Shiryaev-Roberts e-detectors in parallel: one chain per stream and alternative, in log space.

R <- (fresh + R) * q(pane) / p(pane), where p is what the null predicts and q what an alternative predicts, both made
before the pane was seen. If each ratio has a mean of at most 1 under the null, the mean of R after t panes is at most
the sum of everything fresh, t with 1 per pane; hence R, or any weighted mean of such R however dependent they are,
reaches A for the first time after A panes on average or later. No correction for the number of streams is needed.

Source: J. Shin, A. Ramdas, A. Rinaldo, E-detectors: a nonparametric framework for sequential change detection,
New England Journal of Statistics in Data Science, 2023.

The same products without the fresh ones are a CUSUM, and where that last began to grow is the most likely start of the
change that the alternative describes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CLIP = 60.0
"""Most that one pane may say, in natural logarithm: a mistake in one pane stays finite."""
HIGHEST = 600.0
"""Bound of the logarithm of R: no alarm needs more, and its exponential is finite."""
NEVER = -1


@dataclass(frozen=True, slots=True, eq=False)
class Chains:
    """The chains' state, each array of shape (alternatives, rows). Kept in 32 bits: half a checkpoint.

    Attributes:
        log: Logarithm of R.
        cusum: Logarithm of the greatest product of ratios that end with the newest pane.
        start: Pane with which that product begins; below 0 before the first.
    """

    log: npt.NDArray[np.float32]
    cusum: npt.NDArray[np.float32]
    start: npt.NDArray[np.int64]

    @classmethod
    def fresh(cls, alternatives: int, rows: int) -> Chains:
        """Chains that have seen nothing."""
        shape = alternatives, rows
        return cls(np.full(shape, -np.inf, np.float32), np.zeros(shape, np.float32), np.full(shape, NEVER, np.int64))

    def moved(self, ratios: Floats, fresh: Floats, pane: int) -> Chains:
        """The chains behind a pane.

        Args:
            ratios: Logarithm of q / p, shape (alternatives, rows).
            fresh: What each row's chains begin anew with; 0 where a row has not moved, shape (rows,).
            pane: Index of the pane.
        """
        ratios = np.clip(ratios, -CLIP, CLIP)
        with np.errstate(divide="ignore"):
            log = np.minimum(np.logaddexp(np.log(fresh), self.log) + ratios, HIGHEST)
        grown = np.minimum(np.maximum(self.cusum, 0) + ratios, HIGHEST)
        begun = (self.cusum <= 0) & (fresh > 0)
        still = fresh <= 0
        return Chains(
            np.where(still, self.log, log).astype(np.float32),
            np.where(still, self.cusum, grown).astype(np.float32),
            np.where(begun, pane, self.start),
        )

    def statistic(self, weights: Floats) -> float:
        """Logarithm of the weighted mean of all R.

        Args:
            weights: Logarithms of weights whose sum is 1, shape (alternatives, rows).
        """
        return float(np.logaddexp.reduce((self.log + weights).ravel())) if weights.size else -np.inf
