"""What a monitor knows beyond its reference, and its bytes: enough to go on as if nothing had happened.

20 features and 20 scores take 25 kB, 60 kB where all of them depend on the past, and 14 kB more for each stratum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.batch import BatchError, decode, encode
from services.drift.domain.chains import Chains
from services.drift.domain.counts_detector import Learnt

Array = npt.NDArray[Any]


class BadStateError(ValueError):
    """The bytes are not the state of a monitor with this reference."""


@dataclass(slots=True)
class State:
    """The state.

    Attributes:
        counted: Counts since the reference.
        ranked: Forecasts' errors since the reference.
        past: Newest values of the scores that are foretold, shape (2, forecasts).
        chains: The e-detectors.
    """

    counted: Learnt
    ranked: Learnt
    past: npt.NDArray[np.float64]
    chains: Chains

    def arrays(self) -> dict[str, Array]:
        """Everything, by name."""
        return {
            "counted": self.counted.absorbed,
            "counted_lately": self.counted.lately,
            "ranked": self.ranked.absorbed,
            "ranked_lately": self.ranked.lately,
            "past": self.past,
            "log": self.chains.log,
            "cusum": self.chains.cusum,
            "start": self.chains.start,
        }

    def to_bytes(self) -> bytes:
        """An Arrow stream of one row."""
        return encode(pa.record_batch({name: pa.array([each.ravel()]) for name, each in self.arrays().items()}))

    def resumed(self, value: bytes) -> State:
        """The state that bytes hold, of the shapes of this one.

        Raises:
            BadStateError: They hold another one.
        """
        try:
            batch = decode(value)
            batch.validate(full=True)
        except (BatchError, pa.ArrowException, OSError) as error:
            raise BadStateError(f"the monitor's state is not an Arrow stream: {error}") from error
        found = {name: _array(batch, name, like) for name, like in self.arrays().items()}
        return State(
            Learnt(found["counted"], found["counted_lately"]),
            Learnt(found["ranked"], found["ranked_lately"]),
            found["past"],
            Chains(found["log"], found["cusum"], found["start"]),
        )


def _array(batch: pa.RecordBatch, name: str, like: Array) -> Array:
    if name not in batch.schema.names or batch.num_rows != 1:
        raise BadStateError(f"the monitor's state has no {name}")
    flat = batch.column(name).flatten().to_numpy(zero_copy_only=False)
    if flat.dtype != like.dtype or flat.size != like.size:
        raise BadStateError(f"{name} of the monitor's state has {flat.size} {flat.dtype}, not {like.size} {like.dtype}")
    copied: Array = flat.reshape(like.shape).copy()
    return copied
