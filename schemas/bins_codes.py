"""From the values of a column to the numbers of their bins, whole columns at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Codes = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64] | npt.NDArray[np.float32]

RANKS = 17
"""Sixteen bins at order statistics, and missing."""

LEADING = 30
OTHER, NEW, NO_CATEGORY = LEADING, LEADING + 1, LEADING + 2
CATEGORIES = LEADING + 3
"""Thirty values, other known ones, never seen ones, and missing."""

OCTAVES = 32
"""Powers of two with a bin of their own, per sign; what is beyond them falls into the outermost."""
ZERO, NO_MAGNITUDE = OCTAVES, 2 * OCTAVES + 1
MAGNITUDES = 2 * OCTAVES + 2

EXPONENTS = 2_048
"""Exponents of a 64-bit float, that of zero first, that of infinity last."""
BIAS = 1_023
BELOW_EXPONENT = 52

ALONE = 1 << 17
"""Multiplications for which OpenBLAS wakes no thread: half its limit."""


@dataclass(frozen=True, slots=True)
class Known:
    """The categories that have a bin or a part in one; see `Stream`."""

    values: tuple[str, ...]
    leading: int
    once: int
    closed: bool


def numbers(column: pa.Array | npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """A column as floats, NaN where there is none."""
    if isinstance(column, np.ndarray):
        return column.astype(np.float64, copy=False)
    column = column if column.type == pa.float64() else column.cast(pa.float64())
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def padded(edges: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    """The edges of several streams, shape (streams, 15); nothing lies above those that are not used."""
    matrix = np.full((len(edges), RANKS - 2), np.inf)
    for row, each in zip(matrix, edges, strict=True):
        row[: len(each)] = each
    return matrix


def ranks(values: Values, edges: npt.NDArray[np.float64]) -> Codes:
    """Bin of each value: the number of edges below it; 16 for NaN.

    Fifteen comparisons of everything with one edge are three times as fast as a binary search per value.

    Args:
        values: Shape (streams, rows).
        edges: Shape (streams, 15), ascending.
    """
    found = np.zeros(values.shape, np.uint8)
    above = np.empty(values.shape, bool)
    for edge in edges.T.astype(values.dtype):
        np.greater(values, edge[:, None], out=above)
        found += above.view(np.uint8)
    np.not_equal(values, values, out=above)
    found += above.view(np.uint8) * np.uint8(RANKS - 1)
    return found


def product(left: Values, right: Values) -> Values:
    """The matrix product, in pieces that the linear algebra library computes alone.

    It shares what is larger among threads, and where the cores have other work, as they do here, these wait for each
    other a hundred times as long as they compute.
    """
    found = np.empty((left.shape[0], right.shape[1]), left.dtype)
    step = max(1, ALONE // max(1, left.size))
    for start in range(0, right.shape[1], step):
        np.matmul(left, right[:, start : start + step], out=found[:, start : start + step])
    return found


def octaves(lowest: Sequence[int]) -> Codes:
    """Bin of each (sign, exponent) as the top twelve bits of a float say them, shape (streams, 4096)."""
    exponent = np.arange(EXPONENTS) - BIAS
    table = np.empty((len(lowest), 2, EXPONENTS), np.uint8)
    for (positive, negative), low in zip(table, lowest, strict=True):
        step = np.clip(exponent - low, 0, OCTAVES - 1)
        positive[:], negative[:] = ZERO + 1 + step, ZERO - 1 - step
    table[:, :, 0] = ZERO
    return table.reshape(len(lowest), 2 * EXPONENTS)


def magnitudes(values: npt.NDArray[np.float64], table: Codes) -> Codes:
    """Bin of each value's sign and power of two; of NaN, missing. Below 2^-1022 a value counts as zero.

    Args:
        values: Shape (streams, rows).
        table: See `octaves`.
    """
    index = (values.view(np.uint64) >> np.uint64(BELOW_EXPONENT)).astype(np.intp)
    index += (np.arange(len(values)) * 2 * EXPONENTS)[:, None]
    found = table.ravel().take(index)
    found[np.isnan(values)] = NO_MAGNITUDE
    return found


def categories(column: pa.Array | npt.NDArray[Any], known: Known) -> Codes:
    """Bin of each category."""
    texts = column if isinstance(column, pa.Array) else pa.array(column.tolist(), pa.string())
    texts = texts if texts.type == pa.string() else texts.cast(pa.string())
    new = NEW if known.closed else OTHER
    table = np.full(len(known.values) + 2, OTHER, np.uint8)
    table[: known.leading] = np.arange(known.leading)
    table[len(known.values) - known.once :] = new
    table[-1] = NO_CATEGORY
    found = pc.fill_null(pc.index_in(texts, value_set=pa.array(known.values, pa.string())), len(known.values))
    index = np.where(texts.is_null().to_numpy(zero_copy_only=False), len(known.values) + 1, found.to_numpy())
    return table.take(index)


def classes(column: pa.Array | npt.NDArray[Any], count: int) -> npt.NDArray[np.intp]:
    """The class of each row, which is its index; what is none of them is missing."""
    values = numbers(column)
    return np.where((values >= 0) & (values < count), values, count).astype(np.intp)
