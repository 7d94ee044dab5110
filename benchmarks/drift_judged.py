"""The service's own judge, fed with panes of a benchmark: the episodes that it opens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from schemas.bins import Counts
from schemas.quantities import MILLISECONDS, Rate
from schemas.reference import Reference
from services.drift.domain.door import FATES
from services.drift.domain.evidence import Episode
from services.drift.domain.judge import Judge
from services.drift.domain.pane_counts import PaneCounts
from services.drift.domain.standing import Rules
from services.drift.domain.witness import Errors

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MEMBER, SETTLE, ALLOWED_PANES = 1, 1_000, 43_200
SECOND = 20_000
"""Rows behind a change that was found, in which it must not be found again."""


def rules(pane: int = MILLISECONDS["m"]) -> Rules:
    """One false alarm allowed in 43,200 panes of that length, over all families."""
    return Rules(pane, SETTLE, Rate(count=1, per_ms=ALLOWED_PANES * pane))


def episodes(
    reference: Reference,
    counts: Counts,
    losses: Floats | None = None,
    quality: Ints | None = None,
    *,
    by: Rules | None = None,
    first: int = 0,
) -> Iterator[Episode]:
    """What a judge of all families opens, in order.

    Args:
        reference: Of the member that answers.
        counts: Of consecutive panes, shape (panes, cells); event time and label time are the same here.
        losses: 1 where the answer was wrong, shape (panes, rows); None where labels never come.
        quality: What became of the rows at the door, shape (panes, FATES); None where nobody counted.
        by: The rules; those of panes of a minute if left out.
        first: Index of the first pane.
    """
    by = by or rules()
    judge = Judge(by, {MEMBER: reference}.get)
    nothing = np.zeros(len(FATES), np.int64)
    for index, each in enumerate(counts):
        fates = nothing if quality is None else quality[index]
        pane = PaneCounts(first + index, MEMBER, (0,), each[None], fates[None])
        moved = judge.events(pane)
        if losses is not None:
            rows = losses.shape[1]
            times = pane.pane * by.pane + (1 + np.arange(rows)) * (by.pane // rows) - 1
            moved += judge.labels(pane, Errors(times, losses[index]))
        yield from (each.opened for each in moved if each.opened is not None)


def found(opened: Sequence[Episode], pane: int, change: int) -> tuple[float | None, int]:
    """Rows from a change until the first alarm behind it was certain, None for none; and episodes that follow too soon.

    Args:
        opened: Episodes, in order, of panes of a minute.
        pane: Rows of a pane.
        change: Rows in front of the change.
    """
    behind = [at for at in (certain(each, pane) - change for each in opened) if at > 0]
    return (float(behind[0]) if behind else None), sum(at <= behind[0] + SECOND for at in behind[1:])


def certain(episode: Episode, pane: int) -> int:
    """Rows until an episode was certain: of counts whole panes, of ADWIN up to the row that told."""
    return (episode.at + 1) * pane // MILLISECONDS["m"]
