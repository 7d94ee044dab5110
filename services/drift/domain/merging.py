"""The joined rows of all partitions in one order: (time, source, position, row), behind the pane that all have closed.

However partitions interleave and wherever messages were cut, the merged rows are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from schemas.bins import LABEL as LABEL_STREAM
from schemas.bins import LOSS as LOSS_STREAM
from schemas.bins import Bins, Column
from services.drift.domain.lanes import Lanes
from services.drift.domain.panes import LABEL, LOSS, MEMBER, WRONG, times

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
EXAMPLES = "examples"
"""What they are counted from."""


class Key(NamedTuple):
    """A row's place in the merged order."""

    time: int
    source: int
    position: int
    row: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Joined rows in merged order, arrays of equal length.

    Attributes:
        keys: Label time in milliseconds, source, position, row.
        member: The row's anchor.
        loss: What its output cost.
        wrong: 1 where it named another class than came true, 0 where that one; NaN in regression.
        label: Index of the class that came true, or the value.
    """

    keys: tuple[Ints, Ints, Ints, Ints]
    member: Ints
    loss: Floats
    wrong: Floats
    label: Floats

    @classmethod
    def none(cls) -> Rows:
        """No rows."""
        whole, real = np.empty(0, np.int64), np.empty(0)
        return cls((whole, whole, whole, whole), whole, real, real, real)

    @classmethod
    def merged(cls, batches: Sequence[pa.RecordBatch]) -> Rows:
        """The rows of batches of counts, put in order."""
        if not batches:
            return cls.none()
        rows = pa.concat_batches(batches)
        keys = [times(rows), *(_ints(rows, name) for name in (b.SOURCE, b.POSITION, b.ROW))]
        order = np.lexsort(keys[::-1])
        time, source, position, row = (key[order] for key in keys)
        loss, wrong, label = (_floats(rows, name)[order] for name in (LOSS, WRONG, LABEL))
        return cls((time, source, position, row), _ints(rows, MEMBER)[order], loss, wrong, label)

    def __len__(self) -> int:
        return len(self.member)

    @property
    def columns(self) -> dict[str, Column]:
        """What of the rows is counted with an anchor's bins: the label, and the loss that its reference knows."""
        return {LABEL_STREAM: self.label, LOSS_STREAM: self.loss}

    def errors(self, bins: Bins | None) -> Floats:
        """What the witness of concept drift hears, 0 to 1: whether the class was wrong, or how great the loss is.

        In regression it is the bin of the loss at the quantiles of the reference's losses, 1 for the last; without a
        reference 0.
        """
        if not np.isnan(self.wrong).any():
            return self.wrong
        edges = () if bins is None else bins.stream(LOSS_STREAM, "loss").edges
        return np.searchsorted(edges, self.loss, "left") / max(1, len(edges))

    def __getitem__(self, chosen: slice | npt.NDArray[np.bool_]) -> Rows:
        time, source, position, row = (key[chosen] for key in self.keys)
        loss, wrong, label = (each[chosen] for each in (self.loss, self.wrong, self.label))
        return Rows((time, source, position, row), self.member[chosen], loss, wrong, label)

    def key(self, index: int) -> Key:
        """Place of a row."""
        return Key(*(int(key[index]) for key in self.keys))

    def behind(self, after: Key) -> Rows:
        """The rows behind a place."""
        behind = np.zeros(len(self), bool)
        for key, value in zip(reversed(self.keys), reversed(after), strict=True):
            behind = (key > value) | ((key == value) & behind)
        return self[behind]


def _ints(rows: pa.RecordBatch, name: str) -> Ints:
    return rows.column(name).to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]


def _floats(rows: pa.RecordBatch, name: str) -> Floats:
    return rows.column(name).to_numpy(zero_copy_only=False).astype(np.float64)  # type: ignore[no-any-return]


class Merge(Lanes):
    """Joined rows of all partitions, by panes of label time.

    Args:
        partitions: How many there are.
        pane: Length of a pane in milliseconds.
    """

    def __init__(self, partitions: int, pane: int) -> None:
        super().__init__(EXAMPLES, partitions, lambda rows: times(rows) // pane)

    def settle(self) -> Rows:
        """The rows of the panes that all partitions have closed since, in order. `prune` when they are judged."""
        return Rows.merged(self._take())
