"""How much rows resemble their neighbours, and so how many of them are worth one as evidence of bad data.

Where rows depend on each other, a stretch of them looks as no sample of the reference does, in many features at once:
a run of one class, a night, a season that the reference has not seen. One value only, or another feature's values, are
then no sign of a broken sensor. Two measures, of which the greater one counts: what the reference's own panes tell of a
feature, and what the other features tell of the rows in question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from schemas.reference import Reference
from services.drift.domain.shapes import STUCK, STUCK_ROWS, Shape
from services.drift.domain.whitening import DEPENDENT

Floats = npt.NDArray[np.float64]

FEWEST_OTHERS = 3
"""Numeric features whose median says something of rows."""


def lasting(reference: Reference | None) -> Floats | None:
    """Into how many stretches of 25 rows one value of each stream may fall: 1 where none ever did; None if unknown.

    Args:
        reference: With the panes in which it was counted, shape of the result (streams,).
    """
    if reference is None or not len(reference.panes):
        return None
    found = np.ones(len(reference.bins.streams))
    for index in range(len(found)):
        counts = reference.panes[:, reference.bins.at(index)].astype(np.int64)
        counts = counts[counts.sum(1) > 0]
        if len(counts):
            found[index] = _stays(_stretches(counts))
    return found


def _stretches(panes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Neighbouring panes together, so that they have rows enough; the last one may have fewer."""
    rows = panes.sum(1)
    begins = np.unique((np.cumsum(rows) - rows) // STUCK_ROWS, return_index=True)[1]
    return np.add.reduceat(panes, begins, axis=0)


def _stays(counts: npt.NDArray[np.int64]) -> float:
    """The mean length of a run, were each stretch within one bin or not by chance."""
    known = counts[:, :-1]
    still = (known.max(1) >= STUCK * known.sum(1)) & (known.sum(1) > 0)
    return 1 / (1 - float(still.sum()) / (len(counts) + 1))


def resemblance(sample: Sequence[Shape]) -> float:
    """By how much more than independent rows a sample differs from the reference in most features; 1 if by chance.

    The median over numeric features of (twice the contrast) / (degrees of freedom): what one feature alone does,
    a sensor that is stuck or in another unit, does not move it.
    """
    ratios = []
    for each in sample:
        if each.stream.kind == "numeric" and each.after[:-1].any():
            freedom = np.count_nonzero(each.before + each.after) - 1
            ratios += [2 * each.contrast / freedom] if freedom else []
    found = float(np.median(ratios)) if len(ratios) >= FEWEST_OTHERS else 1.0
    return found if found > DEPENDENT else 1.0


def weighed(samples: Sequence[Sequence[Shape]], stays: Floats | None) -> list[list[Shape]]:
    """The same samples, each shape with the rows that are worth one.

    Args:
        samples: The first one of all rows. A part of it that resembles itself more is a source with a level of its own.
        stays: See `lasting`.
    """
    most = resemblance(samples[0])
    found = []
    for sample in samples:
        worth = np.maximum(min(most, resemblance(sample)), 1.0 if stays is None else stays)
        each = np.broadcast_to(worth, len(sample))
        found.append([replace(shape, likeness=float(rows)) for shape, rows in zip(sample, each, strict=True)])
    return found
