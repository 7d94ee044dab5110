"""Worlds that were known once: whether one of them explains the newest rows better than the current reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from schemas.bins import Bins, Family
from schemas.reference import Reference
from services.drift.domain.archived import likeness

Ints = npt.NDArray[np.int64]


def recurring(
    current: Reference,
    known: Iterable[tuple[int, Reference]],
    after: Ints,
    family: Family,
    a: float,
    dependence: Mapping[int, float],
) -> int:
    """The member whose world is back; 0 where none is.

    Args:
        current: The reference in force, of one family.
        known: Members and their references.
        after: Rows behind the start of the change, shape (cells of the family,).
        family: Whose cells these are.
        a: Threshold of the family: by so much the likelihood must be better.
        dependence: See `likeness`.
    """
    counts = after.astype(np.int32)
    gains = [
        (likeness(current, reference, family, counts, dependence), member)
        for member, reference in known
        if fits(current.bins, reference, after, family)
    ]
    gain, member = max(gains, default=(-np.inf, 0))
    return member if gain >= np.log(a) else 0


def fits(bins: Bins, archived: Reference, after: Ints, family: Family) -> bool:
    """Whether no stream of an archived reference is foretold worse by it than by knowing nothing.

    A world that is merely nearer than the current one is no return.
    """
    known = {each.key: index for index, each in enumerate(archived.bins.streams)}
    for index, stream in enumerate(bins.streams):
        if stream.key in known and stream.kind in ("numeric", "category", "classes"):
            vague = pooled(Bins((stream,)), np.zeros(stream.width, np.int64))
            place = known[stream.key]
            own = pooled(Bins((archived.bins.streams[place],)), archived.pooled[archived.bins.at(place)])
            if likeness(vague, own, family, after[bins.at(index)].astype(np.int32), {}) < 0:
                return False
    return True


def pooled(bins: Bins, counts: Ints) -> Reference:
    """A reference as an archive keeps it: what was counted, and nothing of order or season."""
    empty = Reference.of(bins, np.empty((0, bins.cells), np.int32))
    return replace(empty, counts=counts[None], visits=np.ones(1, np.int64))
