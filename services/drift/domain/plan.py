"""How the streams of a family are judged, decided once from their reference.

A stream whose rows are exchangeable is judged by its counts, one whose rows depend on each other by the errors of
forecasts of its panes, and one with too few reference rows for either not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.bins import RANKED, Bins, Family, Stream
from schemas.bins_codes import LEADING, NEW, OTHER, RANKS
from schemas.reference import Reference
from services.drift.domain.counts_detector import ALTERNATIVES, PRIOR, Detector, alternatives, alternatives_of_errors
from services.drift.domain.strata import CYCLES, concentrations
from services.drift.domain.whitening import DEPENDENT, SCORES, Whitening, dependence, forecast, pane_scores

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

FEWEST_ROWS = 1_000
"""Effective reference rows of a stream that is judged: rows by their variance ratio where they are dependent."""
SCORE_WEIGHT = 0.5
"""Weight of a principal component, where that of a feature is 1: a change of one feature moves many of them."""
NOTHING = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a monitor computes with; nothing in it changes.

    Attributes:
        streams: Indices of the family's streams among the bins'.
        layout: From flat counts to theirs.
        visited: Which strata are judged, shape (strata,).
        dependence: Variance ratio of each stream, shape (streams,); see `whitening`.
        plain: Rows of the layout that are judged by counts.
        counts: Their detector.
        whitening: The forecasts of the others.
        errors: The detector of the ranks of their errors.
        rows: Row of the layout of each chain: the plain ones, then one for each forecast.
        weights: Logarithms of the chains' weights, which sum to 1, shape (alternatives, rows).
    """

    streams: tuple[int, ...]
    layout: Layout
    visited: npt.NDArray[np.bool_]
    dependence: Floats
    plain: Places
    counts: Detector
    whitening: Whitening
    errors: Detector
    rows: Places
    weights: Floats

    @classmethod
    def of(cls, reference: Reference, family: Family, known: Floats | None = None) -> Plan:
        """The plan for a family.

        Args:
            reference: What is normal.
            family: Whose streams.
            known: Variance ratios from elsewhere, for a reference of few panes; the greater ones count.
        """
        found = enumerate(reference.bins.streams)
        indices = tuple(index for index, each in found if each.family == family and each.judged)
        streams = [reference.bins.streams[index] for index in indices]
        layout = Layout.of(reference.bins, indices)
        counts = layout.told(reference.counts)
        null = concentrations(counts, layout.reachable, np.array([each.kind in RANKED for each in streams], bool))
        past = _Past.of(reference, layout, streams, null)
        ratios = past.dependence(streams)
        ratios = ratios if known is None else np.maximum(ratios, known)
        dependent = ratios > DEPENDENT
        enough = counts.sum((0, 2)) / np.where(dependent, ratios, 1) >= FEWEST_ROWS
        plain, whitening = np.flatnonzero(enough & ~dependent), past.whitening(np.flatnonzero(enough & dependent))
        rows = np.concatenate((plain, whitening.streams))
        return cls(
            indices,
            layout,
            reference.visits >= (CYCLES if len(reference.visits) > 1 else 0),
            ratios,
            plain,
            Detector.of(null[:, plain], [streams[each].kind for each in plain]),
            whitening,
            Detector.of(whitening.counts[None] + PRIOR, ["score"] * len(whitening.streams)),
            rows,
            _weights(streams, rows, len(plain)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """From flat counts to those of some streams, padded to one width; the last bin, missing, stays the last.

    Attributes:
        places: Cell of each bin, that behind the last one for padding, shape (streams, cells).
        reachable: Which bins a row can fall into, shape (streams, cells).
    """

    places: Places
    reachable: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, bins: Bins, indices: Sequence[int]) -> Layout:
        """The layout of the streams with those indices."""
        width = max([RANKS, *(bins.streams[each].width for each in indices)])
        places = np.full((len(indices), width), bins.cells, np.intp)
        reached = np.zeros(places.shape, bool)
        for row, index in enumerate(indices):
            stream = bins.streams[index]
            here = np.append(np.arange(stream.width - 1), width - 1)
            places[row, here] = np.arange(bins.offsets[index], bins.offsets[index + 1])
            reached[row, here] = reachable(stream)
        return cls(places, reached)

    def told(self, counts: npt.NDArray[np.integer]) -> Floats:
        """Shape (..., cells of all streams) to (..., streams, cells of the widest)."""
        padded = np.concatenate((counts, np.zeros_like(counts[..., :1])), -1)
        return padded[..., self.places].astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Past:
    """The reference's panes, summed up in scores.

    Attributes:
        scores: What a row adds, shape (strata, streams, scores, cells).
        sums: Over the rows of each pane, shape (panes, streams, scores).
        rows: Shape (panes, streams).
    """

    scores: Floats
    sums: Floats
    rows: Floats

    @classmethod
    def of(cls, reference: Reference, layout: Layout, streams: Sequence[Stream], null: Floats) -> _Past:
        panes = layout.told(reference.panes)
        rows = panes.sum(-1)
        usual = rows.sum(0) / np.maximum((rows > 0).sum(0), 1)
        means = null / null.sum(-1, keepdims=True)
        kinds = [each.kind for each in streams]
        found = [pane_scores(*each) for mean in means for each in zip(kinds, mean, usual, strict=True)]
        scores = np.array(found).reshape(*null.shape[:2], SCORES, null.shape[2])
        sums = np.empty((len(panes), len(streams), SCORES))
        for stratum in np.unique(reference.strata).tolist():
            here = reference.strata == stratum
            sums[here] = np.einsum("skc,psc->psk", scores[stratum], panes[here])
        return cls(scores, sums, rows)

    def _used(self, stream: int) -> list[int]:
        return np.flatnonzero(self.scores[:, stream].any((0, 2))).tolist()

    def dependence(self, streams: Sequence[Stream]) -> Floats:
        found = [
            dependence(each.kind, self._used(row), self.sums[:, row], self.rows[:, row])
            for row, each in enumerate(streams)
        ]
        return np.array(found, np.float64)

    def whitening(self, streams: Places) -> Whitening:
        """Forecasts of all scores of these streams that can be foretold."""
        pairs = [(row, score) for row in streams.tolist() for score in self._used(row)]
        found = [forecast(row, score, self.sums[:, row, score], self.rows[:, row]) for row, score in pairs]
        return Whitening.of([each for each in found if each is not None], self.scores)


def reachable(stream: Stream) -> npt.NDArray[np.bool_]:
    """Which bins a row can fall into, shape (width,)."""
    found = np.ones(stream.width, bool)
    if stream.kind == "category":
        found[stream.leading : LEADING] = False
        found[NEW] = stream.closed
        found[OTHER] = len(stream.values) > stream.leading or not stream.closed
    elif stream.kind != "classes":
        found[len(stream.edges) + 1 : RANKS - 1] = False
        found[RANKS - 1] = stream.kind != "score"
    return found


def _weights(streams: Sequence[Stream], rows: Places, plain: int) -> Floats:
    """Logarithms of the weights of all chains; a stream's weight is shared by its forecasts."""
    kinds = [streams[each].kind for each in rows]
    size = np.array([SCORE_WEIGHT if each == "score" else 1.0 for each in kinds])
    size /= np.bincount(rows, minlength=len(streams))[rows]
    shares = [alternatives(each) for each in kinds[:plain]] + [alternatives_of_errors()] * (len(rows) - plain)
    weights = np.array(shares).reshape(-1, ALTERNATIVES).T * size
    logarithms: Floats = np.log(np.maximum(weights / max(weights.sum(), NOTHING), NOTHING))
    return logarithms
