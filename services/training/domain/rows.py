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

from schemas import batch as b
from schemas.artefact import Dataset
from schemas.spec import FeatureType

Int64 = npt.NDArray[np.int64]

PARTITION, OFFSET, ORDER = "_partition", "_offset", "_order"
BEGINNING = -(1 << 62)
POSITION_COLUMNS = (PARTITION, OFFSET)
KEPT = (b.SOURCE, b.POSITION, b.ROW, b.LABEL, b.LABEL_TIME)


def remembered(
    batch: pa.RecordBatch, features: Sequence[str], partition: int, offset: int, passed: int
) -> pa.RecordBatch:
    """The columns of an `examples` batch that count, with place and order.

    Args:
        batch: The message's rows.
        features: Names of the features.
        partition: Partition of the message.
        offset: Offset of the message.
        passed: Time that its partition had passed before it, less the lateness.
    """
    rows = batch.select([*KEPT, *features])
    order = np.maximum(times(batch), passed)
    rows = rows.append_column(PARTITION, pa.array(np.full(len(order), partition, np.int32)))
    rows = rows.append_column(OFFSET, pa.array(np.full(len(order), offset, np.int64)))
    return rows.append_column(ORDER, pa.array(order, pa.int64()))


def times(rows: pa.RecordBatch) -> Int64:
    """Label time of each row, epoch milliseconds."""
    return rows.column(b.LABEL_TIME).cast(pa.int64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def numbers(rows: pa.RecordBatch, name: str) -> npt.NDArray[np.int64]:
    """A column of integers."""
    return rows.column(name).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


Known = dict[int, set[int]]
"""Events that were seen: per source the order values of their rows."""


def unseen(rows: pa.RecordBatch, known: Known) -> pa.RecordBatch:
    """The rows of events that are not known yet; they are from now on. The first example of an event counts."""
    sources, orders = b.sources(rows), b.orders(rows)
    keep = np.ones(rows.num_rows, bool)
    for source in np.unique(sources).tolist():
        places = np.flatnonzero(sources == source)
        keep[places] = _first_time(orders[places].tolist(), known.setdefault(source, set()))
    return rows if keep.all() else rows.filter(pa.array(keep))


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


def newest(rows: pa.RecordBatch, cutoff: int, most: int, since: int = BEGINNING) -> pa.RecordBatch:
    """The newest rows up to a cut-off, sorted.

    Args:
        rows: What is remembered.
        cutoff: Highest order that counts.
        most: Most rows.
        since: Least label time that counts.
    """
    within = (numbers(rows, ORDER) <= cutoff) & (times(rows) >= since)
    chosen = sorted_rows(rows.filter(pa.array(within)))
    return chosen.slice(max(0, chosen.num_rows - most))


def again(rows: pa.RecordBatch, dataset: Dataset) -> pa.RecordBatch:
    """The dataset's rows, sorted, from rows that were read again.

    Args:
        rows: Rows with place; those of other places do no harm.
        dataset: What the manifest says.
    """
    partition, offset = numbers(rows, PARTITION), numbers(rows, OFFSET)
    within = np.zeros(rows.num_rows, bool)
    for each, (start, stop) in dataset.positions.items():
        within |= (partition == each) & (offset >= start) & (offset < stop)
    within &= times(rows) <= dataset.label_cutoff
    chosen = sorted_rows(unseen(rows.filter(pa.array(within)), {}))
    return chosen.slice(max(0, chosen.num_rows - dataset.rows))


def content_digest(rows: pa.RecordBatch, features: Mapping[str, FeatureType]) -> str:
    """SHA-256 over identity, label and features of sorted rows, whatever pieces they came in."""
    state = hashlib.sha256()
    for name in (b.SOURCE, b.POSITION, b.ROW, b.LABEL):
        state.update(numbers(rows, name).astype("<i8").tobytes())
    state.update(times(rows).astype("<i8").tobytes())
    for name, kind in features.items():
        state.update(_bytes(rows.column(name), kind))
    return state.hexdigest()


def _bytes(column: pa.Array, kind: FeatureType) -> bytes:
    if kind == "number":
        values = column.to_numpy(zero_copy_only=False).astype("<f8")
        return np.where(np.isnan(values), np.nan, values).tobytes()
    return repr(column.to_pylist()).encode()
