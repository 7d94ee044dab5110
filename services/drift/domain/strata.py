"""The null of each stratum: its own reference counts, and as much of all the others' as their likeness warrants.

A mixture of strata whose places differ is wider than any of them, in the same way in every stratum, and a chain that
runs through all of them would take the true width for a change. So what is mixed is tilted until its width is that
within strata.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.drift.domain.counts_detector import PRIOR, UNREACHED, log_dirichlet_multinomial, normal_scores

Floats = npt.NDArray[np.float64]

BORROWED: Floats = np.array([1.0, 3.0, 10.0, 30.0, 100.0, 300.0])
"""Rows of the pooled mean that a stratum may begin with: few enough that it soon shows what is its own."""

CYCLES = 2
"""Visits of a stratum that its reference needs."""

STEPS, LONGEST_STEP = 12, 0.5
"""Of Newton's method."""
RIDGE = 1e-3
"""Keeps place and width of a stratum in one bin finite."""


def concentrations(counts: Floats, reachable: npt.NDArray[np.bool_], ordered: npt.NDArray[np.bool_]) -> Floats:
    """What the Dirichlet-multinomial null begins with, shape (strata, streams, cells).

    With several strata each stream borrows the number of rows under which the strata's counts are likeliest: many where
    they are alike, hardly any where they differ.

    Args:
        counts: Reference counts, shape (strata, streams, cells).
        reachable: Which cells a row can fall into, shape (streams, cells).
        ordered: Streams whose cells have an order, shape (streams,).
    """
    prior = np.where(reachable, PRIOR, UNREACHED)
    pooled = counts.sum(0) + prior
    if len(counts) == 1:
        return np.expand_dims(pooled, 0)
    mean: Floats = pooled / pooled.sum(-1, keepdims=True)
    likely = [log_dirichlet_multinomial(np.broadcast_to(rows * mean, counts.shape), counts).sum(0) for rows in BORROWED]
    borrowed: Floats = BORROWED[np.argmax(likely, axis=0)]
    mixed = counts + borrowed[:, None] * mean
    scores = normal_scores(mean[ordered])[:, :-1]
    mixed[:, ordered, :-1] = _narrowed(mixed[:, ordered, :-1], counts[:, ordered, :-1], borrowed[ordered], scores)
    return mixed


def _narrowed(mixed: Floats, own: Floats, borrowed: Floats, scores: Floats) -> Floats:
    """Concentrations with the same sums and mean scores, but the width within strata, what is missing aside."""
    base = mixed / mixed.sum(-1, keepdims=True)
    rows = own.sum(-1)
    place, width = _moments(base, scores)[0], _moments(own / np.maximum(rows, 1)[..., None], scores)[1]
    within = (rows * width).sum(0) / np.maximum(rows.sum(0), 1)
    width = (rows * width + borrowed * within) / (rows + borrowed)
    tilt = np.zeros((*place.shape, 2))
    features = np.stack((scores, scores**2))
    target = np.stack((place, width + place**2), -1)
    for _ in range(STEPS):
        mean = _tilted(base, tilt, features)
        now = np.einsum("ksc,hsc->hsk", features, mean)
        squares = np.einsum("ksc,lsc,hsc->hskl", features, features, mean)
        spread = squares - now[..., :, None] * now[..., None, :] + RIDGE * np.eye(len(features))
        step = np.linalg.solve(spread, (target - now - RIDGE * tilt)[..., None])[..., 0]
        tilt += np.clip(step, -LONGEST_STEP, LONGEST_STEP)
    found: Floats = _tilted(base, tilt, features) * mixed.sum(-1, keepdims=True)
    return found


def _moments(mean: Floats, scores: Floats) -> tuple[Floats, Floats]:
    place = np.einsum("hsc,sc->hs", mean, scores)
    return place, np.einsum("hsc,sc->hs", mean, scores**2) - place**2


def _tilted(base: Floats, tilt: Floats, features: Floats) -> Floats:
    found = base * np.exp(np.einsum("hsk,ksc->hsc", tilt, features))
    return found / found.sum(-1, keepdims=True)  # type: ignore[no-any-return]
