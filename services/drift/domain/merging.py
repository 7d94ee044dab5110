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
from schemas.bins import Column
from schemas.predictions import THRESHOLD, log_losses
from services.drift.domain.lanes import Lanes
from services.drift.domain.panes import COUNTS, LABEL, MEMBER, OUTPUT, times

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
    """Joined rows in merged order, arrays of equal length; of the members of one row the newest comes first.

    Attributes:
        keys: Label time in milliseconds, source, position, row.
        member: Who answered.
        output: Probability that it gave the second class.
        label: Index of the class that came true.
    """

    keys: tuple[Ints, Ints, Ints, Ints]
    member: Ints
    output: Floats
    label: Ints

    @classmethod
    def merged(cls, batches: Sequence[pa.RecordBatch]) -> Rows:
        """The rows of batches of counts, put in order."""
        rows = pa.concat_batches([*batches, pa.RecordBatch.from_pylist([], COUNTS)])
        keys = [times(rows), *(_ints(rows, name) for name in (b.SOURCE, b.POSITION, b.ROW))]
        member = _ints(rows, MEMBER)
        order = np.lexsort((-member, *keys[::-1]))
        time, source, position, row = (key[order] for key in keys)
        output = rows.column(OUTPUT).to_numpy()
        return cls((time, source, position, row), member[order], output[order], _ints(rows, LABEL)[order])

    def __len__(self) -> int:
        return len(self.member)

    @property
    def loss(self) -> Floats:
        """1 where the likelier class was the wrong one, else 0."""
        wrong: Floats = ((self.output >= THRESHOLD) != (self.label == 1)).astype(np.float64)
        return wrong

    @property
    def columns(self) -> dict[str, Column]:
        """What of the rows is counted with an anchor's bins: the label, and the loss that its reference knows."""
        return {LABEL_STREAM: self.label, LOSS_STREAM: log_losses(self.output, self.label == 1)}

    def __getitem__(self, chosen: slice | npt.NDArray[np.bool_]) -> Rows:
        time, source, position, row = (key[chosen] for key in self.keys)
        return Rows((time, source, position, row), self.member[chosen], self.output[chosen], self.label[chosen])

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
