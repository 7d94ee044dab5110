"""What a label adds to a scored row: the columns that make it an example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b

_FROM_LABEL = {b.LABEL: b.LABEL, b.LABEL_TIME: b.TIME, b.LABEL_SOURCE: b.SOURCE, b.LABEL_POSITION: b.POSITION}


def with_labels(rows: pa.Table, labels: pa.Table) -> pa.Table:
    """Rows with their labels, which come in the same order."""
    for name, _ in b.LABELLED:
        rows = rows.append_column(name, labels.column(_FROM_LABEL[name]))
    return rows


def without_label(rows: pa.Table, absent: pa.Scalar, horizon: int) -> pa.Table:
    """Rows that no label came for, with what that means, known `horizon` milliseconds after the row."""
    values = {
        b.LABEL: pa.repeat(absent, rows.num_rows),
        b.LABEL_TIME: pa.array(times(rows) + horizon).cast(pa.timestamp("ms", "UTC")),
    }
    for name, kind in b.LABELLED:
        rows = rows.append_column(name, values[name] if name in values else pa.nulls(rows.num_rows, kind))
    return rows


def with_revisions(rows: pa.Table, labels: pa.Table | None, *, correction: bool = False) -> pa.Table:
    """Examples with the revision of their labels; None: there are no labels."""
    revisions = pa.nulls(rows.num_rows, pa.int64()) if labels is None else labels.column(b.REVISION)
    values = {b.REVISION: revisions, b.CORRECTION: pa.array(np.full(rows.num_rows, correction))}
    for name, kind in b.REVISED:
        rows = rows.append_column(pa.field(name, kind), values[name])
    return rows


def arrange(examples: Sequence[pa.Table]) -> pa.RecordBatch:
    """The examples as one batch, ascending by (label time, source, position, row)."""
    table = pa.concat_tables(examples, promote_options="default").combine_chunks()
    batch = table.to_batches()[0]
    order = np.lexsort((b.orders(batch), b.sources(batch), times(batch, b.LABEL_TIME)))
    return batch if (order[1:] > order[:-1]).all() else batch.take(pa.array(order))


def times(batch: pa.RecordBatch | pa.Table, column: str = b.TIME) -> npt.NDArray[np.int64]:
    """A column of times in epoch milliseconds."""
    return batch.column(column).cast(pa.int64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
