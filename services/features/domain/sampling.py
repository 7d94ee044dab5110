"""Which rows are computed again: chosen by hash, so that every process and every restart chooses the same ones.

Rows by their identity. For windows entities, because a window needs all rows of its entity: each for a stretch of event
time, so that every one has its turn.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b

Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST = np.uint64(31)


def mixed(values: Hashes) -> Hashes:
    """The values scattered over 64 bits (splitmix64)."""
    out: Hashes = values + _STEP
    for shift, factor in _FACTORS:
        out = (out ^ (out >> shift)) * factor
    scattered: Hashes = out ^ (out >> _LAST)
    return scattered


def of_rows(rows: pa.RecordBatch) -> Hashes:
    """Hash of each row's identity."""
    return mixed(b.orders(rows).view(np.uint64) ^ mixed(b.sources(rows).astype(np.uint64)))


def of_texts(texts: pa.Array) -> Hashes:
    """Hash of each text."""
    binary = texts.cast(pa.large_binary())
    _, offsets, data = binary.buffers()
    ends = np.frombuffer(offsets, np.int64)[binary.offset : binary.offset + len(binary) + 1]
    letters = np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]
    ends, lengths = ends - ends[0], np.diff(ends)
    place = np.arange(len(letters)) - np.repeat(ends[:-1], lengths)
    weights = mixed(np.arange(lengths.max(initial=0), dtype=np.uint64))
    sums = np.zeros(len(letters) + 1, np.uint64)
    np.cumsum((letters + np.uint64(1)) * weights[place], out=sums[1:])
    return mixed(sums[ends[1:]] - sums[ends[:-1]])


def in_turn(hashes: Hashes, stretches: npt.NDArray[np.int64]) -> Hashes:
    """Hash of each entity for one of its stretches of time."""
    return mixed(hashes ^ mixed(stretches.view(np.uint64)))


def chosen(hashes: Hashes, share: float) -> Mask:
    """Which of them are among the share, above 0 and up to 1."""
    return hashes <= np.uint64(min(int(share * 2**64), 2**64 - 1))
