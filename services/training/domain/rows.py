"""The labelled rows that a controller remembers, and the cuts that do not depend on how partitions interleave.

Each message of `examples` says which time its partition has passed. A row's *order* is its label time, or, where the
row came later than that, the time its partition had passed before, less the lateness. So `order <= cut-off` holds for
exactly the rows that lie before the first message of each partition that has passed the cut-off, whose label time is
not above it: a set that anyone can make again from the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas import batch as b
from schemas.spec import FeatureType

Int64 = npt.NDArray[np.int64]

PARTITION, OFFSET, ORDER = "_partition", "_offset", "_order"
BEGINNING = -(1 << 62)
POSITION_COLUMNS = (PARTITION, OFFSET)
KEPT = (b.SOURCE, b.POSITION, b.ROW, b.TIME, b.LABEL, b.LABEL_TIME)


def remembered(
    batch: pa.RecordBatch, features: Sequence[str], partition: int, offset: int | Int64, passed: int | Int64
) -> pa.RecordBatch:
    """The columns of an `examples` batch that count, with place and order.

    Args:
        batch: The message's rows, or those of several.
        features: Names of the features.
        partition: Partition of the message.
        offset: Offset of the message, or of each row's.
        passed: Time that its partition had passed before it, less the lateness.
    """
    order = np.maximum(times(batch), passed)
    columns = {name: batch.column(name) for name in (*KEPT, *features)}
    columns |= {
        PARTITION: pa.array(np.full(len(order), partition, np.int32)),
        OFFSET: pa.array(np.broadcast_to(np.int64(offset), len(order))),
        ORDER: pa.array(order, pa.int64()),
    }
    columns |= {name: _given(batch, name, pa.scalar(0).cast(kind)) for name, kind in b.REVISED}
    return pa.record_batch(columns)


def _given(batch: pa.RecordBatch, name: str, value: pa.Scalar) -> pa.Array:
    """A column, or a value where the batch has none: only examples whose labels are revised have these columns."""
    if name in batch.schema.names:
        return pc.fill_null(batch.column(name), value)
    return pa.repeat(value, batch.num_rows)


def times(rows: pa.RecordBatch) -> Int64:
    """Label time of each row, epoch milliseconds."""
    return rows.column(b.LABEL_TIME).cast(pa.int64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def event_times(rows: pa.RecordBatch) -> Int64:
    """Event time of each row, epoch milliseconds."""
    return rows.column(b.TIME).cast(pa.int64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def numbers(rows: pa.RecordBatch, name: str) -> npt.NDArray[np.int64]:
    """A column of integers."""
    return rows.column(name).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


Known = dict[tuple[int, int], set[int]]
"""Examples that were seen: per source and revision the order values of their rows."""


def unseen(rows: pa.RecordBatch, known: Known) -> pa.RecordBatch:
    """The examples that are not known yet; they are from now on. The first copy of an example counts."""
    keep = novel(rows, known)
    return rows if keep.all() else rows.filter(pa.array(keep))


def novel(rows: pa.RecordBatch, known: Known) -> npt.NDArray[np.bool_]:
    """Whether each example is not known yet; all are from now on."""
    sources, orders, revisions = b.sources(rows), b.orders(rows), numbers(rows, b.REVISION)
    keep = np.ones(rows.num_rows, bool)
    for revision in np.unique(revisions).tolist():
        for source in np.unique(sources[revisions == revision]).tolist():
            places = np.flatnonzero((sources == source) & (revisions == revision))
            keep[places] = _first_time(orders[places].tolist(), known.setdefault((source, revision), set()))
    return keep


def _first_time(orders: list[int], known: set[int]) -> list[bool] | bool:
    fresh = set(orders)
    if len(fresh) == len(orders) and known.isdisjoint(fresh):  # nearly always
        known |= fresh
        return True
    keep = []
    for order in orders:
        keep.append(order not in known)
        known.add(order)
    return keep


def sorted_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows by label time, source, position and row."""
    places = np.lexsort((b.orders(rows), b.sources(rows), times(rows)))
    return rows.take(pa.array(places))


def newest(
    rows: pa.RecordBatch, cutoff: int, most: int, since: int = BEGINNING, *, corrected: bool = True
) -> pa.RecordBatch:
    """The newest rows up to a cut-off, sorted.

    Args:
        rows: What is remembered.
        cutoff: Highest order that counts.
        most: Most rows.
        since: Least label time that counts.
        corrected: Whether a correction replaces what it corrects; an earlier cut-off may still need both.
    """
    within = (numbers(rows, ORDER) <= cutoff) & (times(rows) >= since)
    chosen = rows.filter(pa.array(within))
    chosen = sorted_rows(current(chosen) if corrected else chosen)
    return chosen.slice(max(0, chosen.num_rows - most))


def current(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Of each event the example with the highest revision."""
    if not pc.any(rows.column(b.CORRECTION), min_count=0).as_py():
        return rows
    keys = b.sources(rows), b.orders(rows)
    places = np.lexsort((numbers(rows, b.REVISION), *keys[::-1]))
    last = np.ones(len(places), bool)
    last[:-1] = np.any([key[places][1:] != key[places][:-1] for key in keys], axis=0)
    return rows.take(pa.array(np.sort(places[last])))


def spans(chosen: pa.RecordBatch) -> dict[int, tuple[int, int]]:
    """Per partition the offsets [from, to) in which rows lie.

    Of the rows that lie there those of a dataset are told by label time: whatever had come before the last of them and
    is not labelled later was there at the cut-off, too.
    """
    partition, offset = numbers(chosen, PARTITION), numbers(chosen, OFFSET)
    return {
        int(each): (int(offset[partition == each].min()), int(offset[partition == each].max()) + 1)
        for each in np.unique(partition)
    }


def content_digest(rows: pa.RecordBatch, features: Mapping[str, FeatureType]) -> str:
    """SHA-256 over identity, label and features of sorted rows, whatever pieces they came in."""
    state = hashlib.sha256()
    for name in (b.SOURCE, b.POSITION, b.ROW, b.LABEL):
        values = numbers(rows, name)  # the index of a class, or the value in regression
        state.update(values.astype("<f8" if values.dtype.kind == "f" else "<i8").tobytes())
    state.update(times(rows).astype("<i8").tobytes())
    for name, kind in features.items():
        state.update(_bytes(rows.column(name), kind))
    return state.hexdigest()


def _bytes(column: pa.Array, kind: FeatureType) -> bytes:
    if kind == "number":
        values = column.to_numpy(zero_copy_only=False).astype("<f8")
        return np.where(np.isnan(values), np.nan, values).tobytes()
    return repr(column.to_pylist()).encode()
