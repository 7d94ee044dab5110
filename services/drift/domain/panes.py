"""Panes of label time: which rows are complete, and which came too late.

Decided message by message, so that batching never matters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas import batch as b
from schemas.task import BINARY, Target, anchored, shaped

MEMBER, LOSS, WRONG, LABEL = "member", "loss", "wrong", "label"
COUNTS = pa.schema(
    [
        (b.TIME, pa.timestamp("ms", "UTC")),
        (b.SOURCE, pa.int16()),
        (b.POSITION, pa.int64()),
        (b.ROW, pa.int32()),
        (MEMBER, pa.int32()),
        (LOSS, pa.float64()),
        (WRONG, pa.bool_()),
        (LABEL, pa.float64()),
    ]
)
"""Joined rows in drift-counts: `_time` is the label's, the identity the event's, the member the row's anchor; its loss,
whether it named another class (null in regression), and the label, a class by its index."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def times(batch: pa.RecordBatch) -> Ints:
    """Label time of each row of counts, milliseconds."""
    return batch.column(b.TIME).cast(pa.int64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def judged(examples: pa.RecordBatch, target: Target = BINARY) -> pa.RecordBatch:
    """What the anchor of each joined row got wrong; rows that it gave no output for are left out.

    Corrections change datasets, never monitors: the first label of an event judged its prediction.
    """
    if b.CORRECTION in examples.schema.names:
        examples = examples.filter(pc.invert(examples.column(b.CORRECTION)))
    member, outputs = anchored(examples, target.width)
    if not (known := np.isfinite(outputs).all(axis=1)).all():
        examples, member, outputs = examples.filter(pa.array(known)), member[known], outputs[known]
    labels, outputs = _numbers(examples.column(b.LABEL)), shaped(outputs, target.width)
    columns = [
        examples.column(b.LABEL_TIME),
        *(examples.column(name) for name in (b.SOURCE, b.POSITION, b.ROW)),
        pa.array(member),
        pa.array(target.losses(outputs, labels)),
        _wrong(target, outputs, labels),
        pa.array(labels, pa.float64()),
    ]
    typed = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(columns, COUNTS, strict=True)
    ]
    return pa.RecordBatch.from_arrays(typed, schema=COUNTS)


def _wrong(target: Target, outputs: Floats, labels: Floats) -> pa.Array:
    if target.is_regression:
        return pa.nulls(len(labels), pa.bool_())
    return pa.array(target.wrong(target.predictions(outputs), labels))


def _numbers(column: pa.Array) -> Floats:
    return column.to_numpy(zero_copy_only=False).astype(np.float64)  # type: ignore[no-any-return]


class OpenPanes:
    """Rows of one partition whose panes are not closed yet.

    Args:
        pane: Length of a pane in milliseconds.
        lateness: How far the watermark must have passed a pane's end, milliseconds.
        closed: Index of the last closed pane, None at the very beginning.
    """

    def __init__(self, pane: int, lateness: int, closed: int | None = None) -> None:
        self._pane, self._lateness = pane, lateness
        self.closed = closed
        self._rows: list[pa.RecordBatch] = []

    def add(self, rows: pa.RecordBatch) -> int:
        """Keep rows of open panes; the number of rows that came too late to be judged."""
        if self.closed is None:
            late = 0
        else:
            fits = times(rows) >= (self.closed + 1) * self._pane
            late = int(rows.num_rows - np.count_nonzero(fits))
            rows = rows.filter(pa.array(fits)) if late else rows
        if rows.num_rows:
            self._rows.append(rows)
        return late

    def close(self, watermark: int | None) -> tuple[tuple[int, int], pa.RecordBatch] | None:
        """First and last index of the panes that the watermark closes, and their rows; None while it closes none.

        Rows are in (time, source, position, row, member) order, each once however often it was added.
        """
        if watermark is None:
            return None
        newest = (watermark - self._lateness) // self._pane - 1
        if self.closed is not None and newest <= self.closed:
            return None
        rows = self._complete((newest + 1) * self._pane)
        first = self._first(rows, newest)
        self.closed = newest
        return (first, newest), rows

    def _first(self, rows: pa.RecordBatch, newest: int) -> int:
        if self.closed is not None:
            return self.closed + 1
        return int(times(rows)[0]) // self._pane if rows.num_rows else newest

    def _complete(self, end: int) -> pa.RecordBatch:
        if not self._rows:
            return pa.RecordBatch.from_pylist([], COUNTS)
        rows = pa.concat_batches(self._rows)
        done = times(rows) < end
        rest = rows.filter(pa.array(~done))
        self._rows = [rest] if rest.num_rows else []
        return _ordered(rows.filter(pa.array(done)))


def _ordered(rows: pa.RecordBatch) -> pa.RecordBatch:
    keys = [times(rows)]
    keys += [rows.column(name).to_numpy(zero_copy_only=False) for name in (b.SOURCE, b.POSITION, b.ROW, MEMBER)]
    order = np.lexsort(keys[::-1])
    new = np.zeros(rows.num_rows, bool)
    new[:1] = True
    for key in keys:
        ranked = key[order]
        new[1:] |= ranked[1:] != ranked[:-1]
    return rows.take(pa.array(order[new]))
