"""Rows and refusals of one partition, cut into messages so that order values ascend along each source.

Readers keep the highest order value per source and drop what is at or below it. A refusal counts as a row there, so it
must not travel before a row that comes before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from schemas import batch as b

Refusal = tuple[int, b.Reject]
"""Source, and what was refused there."""

MOST_REFUSALS = 10_000
"""Refusals that one message tells: they travel in a header, and a message has a limit of bytes."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one message holds.

    Attributes:
        rows: The rows.
        lasts: Source: highest order value among rows and refusals.
        rejects: Source: the refusals.
    """

    rows: pa.RecordBatch
    lasts: dict[int, int]
    rejects: dict[int, list[b.Reject]] = field(default_factory=dict)


def cut(rows: pa.RecordBatch, refusals: Sequence[Refusal]) -> list[Piece]:
    """The messages of one partition; a single one without rows where there are only refusals.

    Args:
        rows: Ascending by (source, position).
        refusals: Ascending by (source, position).
    """
    if len(refusals) > MOST_REFUSALS:
        half = len(refusals) // 2
        until = _rows_before(rows, refusals[half])
        return [*cut(rows.slice(0, until), refusals[:half]), *cut(rows.slice(until), refusals[half:])]
    pieces = [Piece(piece, _lasts(piece)) for piece in b.cut(rows)]
    ends = [max(piece.lasts.items(), default=(-1, -1)) for piece in pieces]
    for source, reject in refusals:
        order = _order(reject)
        holder = next((i for i, end in enumerate(ends) if end >= (source, order)), len(pieces) - 1)
        pieces[holder].rejects.setdefault(source, []).append(reject)
        pieces[holder].lasts[source] = max(order, pieces[holder].lasts.get(source, -1))
    return pieces


def _rows_before(rows: pa.RecordBatch, refusal: Refusal) -> int:
    source, order = refusal[0], _order(refusal[1])
    sources, orders = b.sources(rows), b.orders(rows)
    return int(np.count_nonzero((sources < source) | (sources == source) & (orders < order)))


def _order(reject: b.Reject) -> int:
    return reject[0] << b.ROW_BITS | reject[1]


def _lasts(rows: pa.RecordBatch) -> dict[int, int]:
    if not rows.num_rows:
        return {}
    source = b.sources(rows)
    ends = np.append(np.flatnonzero(np.diff(source)), rows.num_rows - 1)
    return dict(zip(source[ends].tolist(), b.orders(rows, ends).tolist(), strict=True))


class Chain:
    """What this writer sent to each partition, so that a reader sees at once when a message is missing."""

    def __init__(self) -> None:
        self._wrote: dict[int, dict[int, int]] = {}

    def follow(self, partition: int, lasts: dict[int, int]) -> dict[int, int]:
        """Order value per source before this message, left out where this writer has sent nothing yet; it moves on."""
        wrote = self._wrote.setdefault(partition, {})
        after = {source: wrote[source] for source in lasts if source in wrote}
        wrote.update(lasts)
        return after

    def forget(self, source: int) -> None:
        """Begin anew with a source that was gained or lost."""
        for wrote in self._wrote.values():
            wrote.pop(source, None)
