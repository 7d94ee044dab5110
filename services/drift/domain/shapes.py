"""Histograms compared: what is new in them, and whether it is an old one in another unit or of another column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.bins import Stream
from schemas.bins_codes import OCTAVES, ZERO
from services.drift.domain.counts_detector import PRIOR, normal_scores

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SEEN = 3.0
"""Rows that a bin must make one expect, to say how many of the old ones are left."""
LEAST_OCTAVES, LEAST_SPREADS = 4.0, 2.2
"""A unit moves a histogram by that many powers of two and by that many of its standard deviations, at least."""
WIDER = 0.4
"""Powers of two by which a unit may change the width, besides chance."""
STEP = 0.25
LIKE = 0.15
"""Distance of distributions that count as the same, besides chance."""
STUCK, STUCK_ROWS, USUAL, COMMON = 0.97, 25, 0.005, 3
FEWEST = 15


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One stream before and after.

    Attributes:
        stream: Which.
        before: Reference rows per cell, as they are to be expected at the time of the rows after.
        after: Rows per cell behind the probable start.
        likeness: How many rows are worth one as evidence, where they resemble their neighbours; see `likeness`.
    """

    stream: Stream
    before: Floats
    after: Floats
    likeness: float = 1.0

    @property
    def rows(self) -> float:
        """Rows after."""
        return float(self.after.sum())

    @property
    def usual(self) -> Floats:
        """Chances before."""
        prior = self.before + PRIOR / len(self.before)
        return prior / prior.sum()  # type: ignore[no-any-return]

    @property
    def surprise(self) -> Floats:
        """What each cell adds to the evidence that it has changed, in natural logarithm; their sum is not negative."""
        expected = self.usual * self.rows
        return np.where(self.after > 0, self.after * np.log(np.maximum(self.after, 1) / expected), 0)

    @property
    def evidence(self) -> float:
        """Logarithm of the likelihood ratio of the rows after: their own chances to the usual ones."""
        return float(self.surprise.sum())

    @property
    def contrast(self) -> float:
        """Logarithm of the likelihood ratio of the rows before and after: chances of their own each, to common ones.

        Unlike the evidence it allows for a reference of few rows: where nothing has changed it does not grow with the
        rows after. So stretches of different lengths can be compared by it.
        """
        return _likelihood(self.before) + _likelihood(self.after) - _likelihood(self.before + self.after)

    @property
    def effect(self) -> float:
        """Shift in standard deviations of ordered bins, total variation of others."""
        share = self.after / max(self.rows, 1)
        if self.stream.kind in ("category", "classes"):
            return float(np.abs(share - self.usual).sum() / 2)
        scores = normal_scores(self.usual)
        known = 1 - np.array([self.usual[-1], share[-1]])
        means = np.array([self.usual @ scores, share @ scores]) / np.maximum(known, 1e-9)
        spread = np.sqrt(max(float(self.usual @ scores**2), 1e-9))
        return float((means[1] - means[0]) / spread)

    @property
    def fresh(self) -> Floats:
        """Rows after that are not as before: without as many of the old distribution as every bin allows for."""
        return newcomers(self.usual, self.after)


def _likelihood(counts: Floats) -> float:
    """Logarithm of the likelihood of counts under the chances that suit them best."""
    held = counts[counts > 0]
    return float(held @ np.log(held / held.sum()))


def newcomers(usual: Floats, after: Floats) -> Floats:
    """What is left of counts when as much of the usual ones is taken away as those bins allow that have lost most."""
    expected = usual * after.sum()
    well = np.flatnonzero(expected >= SEEN)
    order = well[np.argsort(after[well] / expected[well], kind="stable")]
    mass = np.cumsum(usual[order])
    chosen = order[: int(np.searchsorted(mass, mass[-1] / 2)) + 1] if len(order) else order
    kept = min(1.0, after[chosen].sum() / max(expected[chosen].sum(), SEEN))
    return np.maximum(after - kept * expected, 0)  # type: ignore[no-any-return]


def distance(first: Floats, second: Floats) -> float:
    """Greatest difference of two cumulative distributions."""
    return float(np.abs(np.cumsum(first / first.sum()) - np.cumsum(second / second.sum())).max())


def alike(rows: float) -> float:
    """Distance up to which so many rows pass for a sample of a distribution."""
    return LIKE + 1 / float(np.sqrt(rows))


def octaves(counts: Floats) -> Floats:
    """Magnitudes without signs, zero and missing left out, shape (32,)."""
    return counts[ZERO + 1 : ZERO + 1 + OCTAVES] + counts[ZERO - 1 :: -1]


def moved(counts: Floats, by: float) -> Floats:
    """A histogram of powers of two, so many of them higher; what is beyond the last bin falls into it."""
    whole = int(np.floor(by))
    found = np.zeros(len(counts))
    for step, part in ((whole, 1 - (by - whole)), (whole + 1, by - whole)):
        np.add.at(found, np.clip(np.arange(len(counts)) + step, 0, len(counts) - 1), counts * part)
    return found


def unit(magnitudes: Shape) -> float | None:
    """By how many powers of two a feature is larger than before, where that is all that has become of it.

    Only all rows of a sample tell: of a part that was picked for being new, a genuine change can look the same.
    """
    after = octaves(magnitudes.after)
    by = _shift(octaves(magnitudes.usual), after) if after.sum() >= FEWEST else None
    return by if by is not None and _same_sign(magnitudes, after.sum()) else None


def _shift(before: Floats, after: Floats) -> float | None:
    (middle, spread), (now, width) = _moments(before), _moments(after)
    by = now - middle
    chance = 2.5 * spread / float(np.sqrt(2 * after.sum()))
    if abs(by) < max(LEAST_OCTAVES, LEAST_SPREADS * spread) or abs(width - spread) > WIDER + chance:
        return None
    steps = by + np.arange(-1, 1 + STEP, STEP)
    found = min(steps.tolist(), key=lambda step: distance(after, moved(before, step)))
    return float(found) if distance(after, moved(before, found)) <= alike(after.sum()) else None


def _moments(counts: Floats) -> tuple[float, float]:
    """Mean and standard deviation, in bins."""
    share, place = counts / max(counts.sum(), 1e-9), np.arange(len(counts))
    mean = float(share @ place)
    return mean, float(np.sqrt(share @ (place - mean) ** 2))


def _same_sign(magnitudes: Shape, rows: float) -> bool:
    positive = [each[ZERO + 1 : -1].sum() / max(each[:-1].sum() - each[ZERO], 1e-9) for each in _both(magnitudes)]
    return bool(abs(positive[0] - positive[1]) <= LIKE + alike(rows))


def _both(magnitudes: Shape) -> tuple[Floats, Floats]:
    return magnitudes.usual, magnitudes.after


def stuck(ranks: Shape, magnitudes: Shape) -> bool:
    """Whether all rows, or all that is new in many, have one value only, though the feature has many.

    The outermost bins have no end: what fills one of them may as well have left the range. There the value must be 0,
    or of a usual size where sizes differ so much that a feature that has only moved would not have one size.
    """
    known = _moments(octaves(magnitudes.before))[1] >= 1
    for rows, sizes in ((ranks.after, magnitudes.after), (ranks.fresh, magnitudes.fresh)):
        cell, size = int(rows[:-1].argmax()), int(sizes[:-1].argmax())
        inside = 0 < cell < len(ranks.stream.edges) or size == ZERO or (known and magnitudes.usual[size] >= USUAL)
        # A value that many rows share may become that of nearly all; a bin of many values hardly will.
        rare = ranks.usual[cell] <= COMMON / len(rows)
        lone = rows[cell] >= max(STUCK_ROWS * ranks.likeness, STUCK * rows.sum()) and sizes[size] >= STUCK * sizes.sum()
        if inside and rare and lone:
            return True
    return False


def aligned(first: Shape, second: Shape) -> tuple[Floats, Floats, Floats, Floats]:
    """Magnitudes of two features over the same powers of two: before and after of the first, then of the second."""
    lowest = min(first.stream.lowest, second.stream.lowest)
    width = OCTAVES + abs(first.stream.lowest - second.stream.lowest)
    found = []
    for shape in (first, second):
        for counts in (shape.usual, shape.after):
            row = np.zeros(2 * width + 1)
            start = shape.stream.lowest - lowest
            row[width] = counts[ZERO]
            row[width + 1 + start : width + 1 + start + OCTAVES] = counts[ZERO + 1 : -1]
            row[width - start - OCTAVES : width - start] = counts[:ZERO]
            found.append(row)
    return found[0], found[1], found[2], found[3]


def placed(feature: Shape, other: Shape) -> bool:
    """Whether a feature's rows, or what is new in them, lie between its edges as the other's have, as far as they tell.

    Args:
        feature: Ranked.
        other: Ranked between other edges: at one of its own its distribution is known, elsewhere it has bounds.
    """
    edges, known = np.array(feature.stream.edges), np.append(0.0, np.cumsum(other.usual[:-1]) / other.usual[:-1].sum())
    known[len(other.stream.edges) + 1 :] = 1.0
    least = known[np.searchsorted(other.stream.edges, edges, "right")]
    most = known[np.searchsorted(other.stream.edges, edges, "left") + 1]
    for rows in (feature.after[:-1], feature.fresh[:-1]):
        if (size := rows.sum()) >= FEWEST * feature.likeness:
            share = np.cumsum(rows)[: len(edges)] / size
            if max((least - share).max(initial=0), (share - most).max(initial=0)) <= alike(size):
                return True
    return False


def swapped(first: Shape, second: Shape) -> bool:
    """Whether two features, told by their magnitudes, have changed places."""
    before, after, other_before, other_after = aligned(first, second)
    if min(after.sum(), other_after.sum()) < FEWEST:
        return False
    pairs = ((before, after, other_before), (other_before, other_after, before))
    return all(_became(*each) for each in pairs)


def _became(own: Floats, after: Floats, other: Floats) -> bool:
    """Whether the rows after, or what is new in them, are like the other's and not like their own."""
    candidates = [each for each in (after, newcomers(own / own.sum(), after)) if each.sum() >= FEWEST]
    gaps = [(distance(each, own), distance(each, other), alike(each.sum())) for each in candidates]
    return any(to_own > 2 * max(to_other, LIKE) and to_other <= bound for to_own, to_other, bound in gaps)
