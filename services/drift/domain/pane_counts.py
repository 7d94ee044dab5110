"""What a closed pane of event time holds, added up over partitions: the judge's only food."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.bins import Bins, Counts, Family, Stream
from schemas.reference import Reference
from services.drift.domain.door import FATES

OK, LATE, DUPLICATE = FATES[0], *FATES[-2:]

QUALITY_BINS = Bins(tuple(Stream(each, "quality", "classes", values=("other", each)) for each in FATES[1:]))
"""Each reason against everything else: in one stream of all of them what never happens would have to be learnt to."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PaneCounts:
    """Counts of one pane.

    Attributes:
        pane: Its index: time // length.
        anchor: The newest anchor of the rows, whose bins they were counted with; 0 where there is none.
        sources: Where the rows came in: partitions of events, ascending.
        counts: Shape (sources, cells of the anchor's bins); (sources, 0) where nobody knows its bins.
        quality: Shape (sources, FATES).
    """

    pane: int
    anchor: int
    sources: tuple[int, ...]
    counts: Counts
    quality: Ints


def part(bins: Bins, family: Family) -> npt.NDArray[np.intp]:
    """The cells of a family, its magnitudes among them."""
    places = [np.arange(bins.cells)[bins.at(i)] for i, each in enumerate(bins.streams) if each.family == family]
    return np.concatenate([np.empty(0, np.intp), *places])


def restricted(reference: Reference, family: Family) -> Reference | None:
    """What a reference knows of one family; None where it knows nothing."""
    cells = part(reference.bins, family)
    if not len(cells):
        return None
    bins = Bins(tuple(each for each in reference.bins.streams if each.family == family), reference.bins.axes)
    return replace(reference, bins=bins, counts=reference.counts[:, cells], panes=reference.panes[:, cells])


def told(quality: Ints) -> Counts:
    """The cells of the quality of rows, shape (sources, cells).

    Args:
        quality: Shape (sources, FATES).
    """
    bad = quality[:, 1:]
    cells = np.stack((quality.sum(1, keepdims=True) - bad, bad, np.zeros_like(bad)), -1)
    return cells.reshape(len(quality), -1).astype(np.int32)
