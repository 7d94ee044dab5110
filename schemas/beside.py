"""The online member beside the pool's: in the columns of scored rows it is the last member, with the version 0."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from schemas.pooling import Floats

ONLINE = 0
"""Version of the online member in `_members`."""


def apart(members: pa.ListArray, outputs: pa.ListArray, width: int) -> tuple[pa.ListArray, pa.ListArray, Floats]:
    """The columns without the online member, and its outputs, shape (rows, K), NaN where it gave none.

    Args:
        members: The column `_members`.
        outputs: The column `_outputs`.
        width: K.
    """
    lengths = members.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    flat = members.flatten().to_numpy(zero_copy_only=False)
    values = outputs.flatten().to_numpy(zero_copy_only=False).astype(float).reshape(-1, width)
    parents = np.repeat(np.arange(len(lengths)), lengths)
    beside, online = flat == ONLINE, np.full((len(lengths), width), np.nan)
    online[parents[beside]] = values[beside]
    kept = lengths - np.bincount(parents[beside], minlength=len(lengths))
    offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)
    of_pool = pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat[~beside].astype(np.int32)))
    told = pa.ListArray.from_arrays(pa.array(offsets * np.int32(width)), pa.array(values[~beside].ravel()))
    return of_pool, told, online
