"""Which internal partition a row goes to. Fixed for the life of a log: the same key, the same partition, for ever."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def route(keys: pa.StringArray, partitions: int) -> npt.NDArray[np.int64]:
    """crc32(key) mod partitions, shape (rows,)."""
    coded = keys.dictionary_encode()
    distinct = np.fromiter(map(crc32, coded.dictionary.cast(pa.binary()).to_pylist()), np.int64, len(coded.dictionary))
    return (distinct % partitions)[coded.indices.to_numpy()]  # type: ignore[no-any-return]


def shares(batch: pa.RecordBatch, to: npt.NDArray[np.int64], partitions: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Each partition that gets rows, with its rows in their old order."""
    narrow = to.astype(np.min_scalar_type(partitions))  # numpy sorts 16 bits and fewer by counting
    order = np.argsort(narrow, kind="stable")
    ends = np.searchsorted(narrow[order], np.arange(partitions + 1)).tolist()
    moved = pc.take(batch, pa.array(order), boundscheck=False)
    for partition in range(partitions):
        start, stop = ends[partition], ends[partition + 1]
        if stop > start:
            yield partition, moved.slice(start, stop - start)
