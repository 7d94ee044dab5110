"""Streams whose rows depend on each other: how much they do, and what is left of their panes when that is taken away.

Autocorrelated rows make the counts of a pane vary more than the law of exchangeable rows allows, and a detector that
believes in that law alarms for nothing. `dependence` measures by how much more. For streams beyond a bound a pane is
summed up in a few scores (place, width, missing share; shares of the leading categories), an autoregression of order
two foretells each, and the errors of the forecast are ranked among those of the reference panes. The ranks are one
count per pane in sixteen bins at order statistics, and are judged like any other counts: no error has to be Gaussian,
and no pane can say more than its rank.

What this does not mend: dependence that an autoregression over panes does not describe. Where errors of the reference
still vary too much over long blocks, their ratios are tempered by that; a season needs strata.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from schemas.bins import Kind
from schemas.bins_codes import RANKS, padded, ranks
from schemas.bins_learning import edges
from services.drift.domain.counts_detector import normal_scores

Floats = npt.NDArray[np.float64]

DEPENDENT = 1.5
"""Variance ratio from which rows do not count as exchangeable."""
SURE = 0.9
"""The ratio is a lower bound with this confidence, so that many streams are seldom called dependent by chance."""
LONGEST, FEWEST = 64, 16
"""Panes of the longest block, and fewest blocks that say something."""
SCORES, MISSING_SHARE = 4, 2
"""Most scores of a stream; of ordered cells the place, the width and the missing share."""
ORDER = 2
FEWEST_PANES = 32
"""Panes with rows below which no autoregression is fitted."""
FLAT = 1e-3
"""Spread of a score over the reference's rows below which it says nothing."""


SHARE_ROWS = 1.0
"""Rows per pane that fall into a cell on average, for its share to be a score: ranks of rare events are ties."""


def pane_scores(kind: Kind, mean: Floats, rows: float) -> Floats:
    """What a row adds to each score, mean 0 and variance 1 under the null; unused scores are 0. Shape (4, cells).

    Args:
        kind: Of the stream.
        mean: Chances of its cells.
        rows: Of a pane, usually.
    """
    found = np.zeros((SCORES, len(mean)))
    if kind in ("category", "classes"):
        size = min(SCORES, len(mean))
        found[np.arange(size), np.arange(size)] = mean[:size] * rows >= SHARE_ROWS
    else:
        found[0] = normal_scores(mean)
        found[1] = found[0] ** 2
        found[MISSING_SHARE, -1] = mean[-1] * rows >= SHARE_ROWS
    centred = found - (found @ mean)[:, None]
    spread = np.sqrt((centred**2) @ mean)
    return np.where(spread[:, None] > FLAT, centred / np.maximum(spread, FLAT)[:, None], 0)


def excess(sums: Floats, rows: Floats) -> float:
    """Lower bound of the long-run variance of a score, in units of that of exchangeable rows.

    The greatest over blocks of 1 to 64 panes of (variance of a block's sum) / (its rows), each divided by what chance
    alone would hardly exceed.

    Args:
        sums: Sum of the standardised score over each pane's rows, shape (panes,).
        rows: Rows of each pane, above 0, shape (panes,).
    """
    sums = sums - rows * (sums.sum() / max(rows.sum(), 1))
    found, size = 0.0, 1
    while size <= LONGEST and (blocks := len(sums) // size) >= FEWEST:
        used = blocks * size
        squares = (sums[:used].reshape(blocks, size).sum(1) ** 2).sum()
        chance = chi2.ppf(SURE, blocks - 1) / (blocks - 1)
        found = max(found, float(squares / rows[:used].sum() / chance))
        size *= 2
    return found


def dependence(kind: Kind, used: list[int], sums: Floats, rows: Floats) -> float:
    """The greatest excess among the scores of a stream.

    Args:
        kind: Of the stream.
        used: Which scores say something.
        sums: Sums over each pane's rows, shape (panes, 4).
        rows: Rows of each pane, shape (panes,).
    """
    here = rows > 0
    if kind not in ("category", "classes"):
        used = [each for each in used if each < MISSING_SHARE]  # missing values may come in lumps
    return max((excess(sums[here, each], rows[here]) for each in used), default=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """How one score of one stream is foretold and its error ranked.

    Attributes:
        stream: Row of the stream among those of the monitor.
        score: Which of its scores.
        memory: Coefficients of the last two values.
        base: Variance of the error however many rows a pane has.
        per_row: Variance that falls with the rows of a pane.
        edges: Of the standardised errors' ranks.
        counts: Reference errors per rank, shape (17,).
        temper: By what the logarithm of a ratio is divided.
        last: The score's two newest values in the reference, newest first.
    """

    stream: int
    score: int
    memory: tuple[float, float]
    base: float
    per_row: float
    edges: tuple[float, ...]
    counts: Floats
    temper: float
    last: tuple[float, float]


def forecast(stream: int, score: int, sums: Floats, rows: Floats) -> Forecast | None:
    """Fitted on reference panes; None where there are too few.

    Args:
        stream: Row of the stream.
        score: Which score.
        sums: Of that score over each pane's rows, shape (panes,).
        rows: Shape (panes,).
    """
    here = rows > 0
    values, rows = sums[here] / rows[here], rows[here]
    if len(values) < FEWEST_PANES or values.var() == 0:
        return None
    past = np.stack([values[ORDER - 1 - lag : len(values) - 1 - lag] for lag in range(ORDER)], 1)
    memory = np.linalg.lstsq(past, values[ORDER:], rcond=None)[0]
    errors, rows = values[ORDER:] - past @ memory, rows[ORDER:]
    variance, typical = max(float(errors.var()), 1e-12), len(rows) / float((1 / rows).sum())
    per_row = min(1.0, variance * typical)
    base = max(variance - per_row / typical, 0.0)
    standard = errors / np.sqrt(base + per_row / rows)
    found = edges(standard)
    places = ranks(standard[None], padded([found]))[0].astype(np.intp)
    counts = np.bincount(places, minlength=RANKS).astype(float)
    mean = counts / counts.sum()
    again = pane_scores("score", mean, 1)[:1, places][0]
    temper = max(1.0, excess(again, np.ones(len(again))))
    first, second = memory.tolist()
    return Forecast(stream, score, (first, second), base, per_row, found, counts, temper, (values[-1], values[-2]))


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """All forecasts of a monitor, as arrays.

    Attributes:
        streams: Row of the stream of each forecast, shape (forecasts,).
        scores: What a row adds, shape (strata, forecasts, cells).
        memory: Shape (2, forecasts).
        base: Shape (forecasts,).
        per_row: Shape (forecasts,).
        edges: Shape (forecasts, 15).
        counts: Shape (forecasts, 17).
        temper: Shape (forecasts,).
        last: Shape (2, forecasts).
    """

    streams: npt.NDArray[np.intp]
    scores: Floats
    memory: Floats
    base: Floats
    per_row: Floats
    edges: Floats
    counts: Floats
    temper: Floats
    last: Floats

    @classmethod
    def of(cls, forecasts: list[Forecast], scores: Floats) -> Whitening:
        """The arrays.

        Args:
            forecasts: Of any streams.
            scores: Of all streams, shape (strata, streams, 4, cells).
        """
        streams = np.array([each.stream for each in forecasts], np.intp)
        which = np.array([each.score for each in forecasts], np.intp)
        return cls(
            streams,
            scores[:, streams, which],
            np.array([each.memory for each in forecasts]).reshape(-1, ORDER).T,
            np.array([each.base for each in forecasts]),
            np.array([each.per_row for each in forecasts]),
            padded([each.edges for each in forecasts]),
            np.array([each.counts for each in forecasts]).reshape(-1, RANKS),
            np.array([each.temper for each in forecasts]),
            np.array([each.last for each in forecasts]).reshape(-1, ORDER).T,
        )

    def errors(self, counts: Floats, stratum: int, past: Floats) -> tuple[Floats, Floats]:
        """Ranks of a pane's errors as counts, shape (forecasts, 17), and the values that are past behind it.

        Args:
            counts: Of all streams, shape (streams, cells).
            stratum: Of the pane.
            past: The two newest values of each score, shape (2, forecasts).
        """
        chosen = counts[self.streams]
        rows = chosen.sum(-1)
        here, some = rows > 0, np.maximum(rows, 1)
        values = np.einsum("fc,fc->f", self.scores[stratum], chosen) / some
        errors = (values - (self.memory * past).sum(0)) / np.sqrt(self.base + self.per_row / some)
        found = np.zeros((len(rows), RANKS))
        found[np.arange(len(rows)), ranks(errors[:, None], self.edges)[:, 0]] = here
        return found, np.where(here, np.stack((values, past[0])), past)
