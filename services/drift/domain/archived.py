"""Whether the world has been like this before: recent counts under an archived reference, beside the current one.

An archived reference has bins of its own, so its counts are first told in the current bins: of a number by its
distribution function, which is interpolated between the archived edges on the scale of normal scores; of a category by
name. Scores are left out, because their axes differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from schemas.bins import RANKED, Counts, Family, Stream
from schemas.bins_codes import NEW, NO_CATEGORY, OTHER, RANKS
from schemas.reference import Reference
from services.drift.domain.counts_detector import PRIOR, log_dirichlet_multinomial

Floats = npt.NDArray[np.float64]

TOLD_ROWS = 500.0
"""Rows that a retold distribution is worth at most: it is interpolated."""


def likeness(
    current: Reference, archived: Reference, family: Family, counts: Counts, dependence: Mapping[int, float]
) -> float:
    """By how much better an archived reference foretells counts, as a logarithm; minus infinity for no common stream.

    The mean over streams of p(counts | archived) / p(counts | current), but no more than their product: one stream that
    looks like old times is not enough where others look like neither. Old times are back where this reaches the
    logarithm of the A of the family's alarms.

    Args:
        current: In whose bins the counts are.
        archived: Another anchor's.
        family: Whose streams are compared.
        counts: Since the start of the change, over all panes, shape (cells,).
        dependence: By stream, the variance ratio by which its evidence is divided.
    """
    known = {each.key: index for index, each in enumerate(archived.bins.streams)}
    found = []
    for index, stream in enumerate(current.bins.streams):
        if stream.family != family or stream.kind not in _RETOLD or stream.key not in known:
            continue
        here, there = current.bins.at(index), archived.bins.at(known[stream.key])
        told = _RETOLD[stream.kind](archived.bins.streams[known[stream.key]], archived.pooled[there], stream)
        recent = counts[here].astype(float)
        ratio = _logarithm(told, recent) - _logarithm(current.pooled[here].astype(float), recent)
        found.append(ratio / max(1.0, dependence.get(index, 1.0)))
    return min(float(np.logaddexp.reduce(found) - np.log(len(found))), sum(found)) if found else -np.inf


def _logarithm(reference: Floats, counts: Floats) -> float:
    return float(log_dirichlet_multinomial((reference + PRIOR)[None], counts[None])[0])


def _ranked(old: Stream, counts: npt.NDArray[np.int64], new: Stream) -> Floats:
    """Rows of the old reference in each of the new stream's bins."""
    rows, told = counts[:-1].sum(), np.zeros(RANKS)
    told[-1] = counts[-1]
    if rows and old.edges and new.edges:
        below = np.cumsum(counts[: len(old.edges)]) / rows
        scores = ndtri(np.clip(below, 0.5 / rows, 1 - 0.5 / rows))
        chances = np.diff(np.concatenate(([0], ndtr(_line(np.array(new.edges), np.array(old.edges), scores)), [1])))
        told[: len(chances)] = rows * np.maximum(chances, 0)
    else:
        told[0] = rows
    return _worth(told)


def _line(at: Floats, places: Floats, values: Floats) -> Floats:
    """Linear between the places, and as steep as over all of them outside."""
    with np.errstate(over="ignore"):  # of places that are one it is infinite
        steepness = (values[-1] - values[0]) / max(places[-1] - places[0], np.finfo(float).tiny)
    outside = at - np.clip(at, places[0], places[-1])
    return np.interp(at, places, values) + outside * min(steepness, np.finfo(float).max)  # type: ignore[no-any-return]


def _category(old: Stream, counts: npt.NDArray[np.int64], new: Stream) -> Floats:
    places = {each: place if place < new.leading else OTHER for place, each in enumerate(new.values)}
    told = np.zeros(NO_CATEGORY + 1)
    told[[OTHER, NEW, NO_CATEGORY]] = counts[[OTHER, NEW, NO_CATEGORY]]
    for each, rows in zip(old.values[: old.leading], counts[: old.leading].tolist(), strict=True):
        told[places.get(each, NEW if new.closed else OTHER)] += rows
    return _worth(told)


def _classes(old: Stream, counts: npt.NDArray[np.int64], new: Stream) -> Floats:
    known = dict(zip(old.values, counts[:-1].tolist(), strict=True))
    return _worth(np.array([*(known.get(each, 0) for each in new.values), counts[-1]], float))


def _worth(told: Floats) -> Floats:
    return told * min(1.0, TOLD_ROWS / max(told.sum(), 1.0))  # type: ignore[no-any-return]


_RETOLD: Mapping[str, Callable[[Stream, npt.NDArray[np.int64], Stream], Floats]] = {
    **{kind: _ranked for kind in RANKED if kind != "score"},
    "category": _category,
    "classes": _classes,
}
