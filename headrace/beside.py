"""What the online member answered, as recorded: its snapshots follow from the order in which labels came."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.following import whole
from runtime.ports import LogReader
from schemas import batch as b
from schemas.beside import apart
from schemas.pooling import Floats

Row = tuple[int, int, int]


class Recorded:
    """Answers rows as the log says that they were answered; NaN for a row that it does not know.

    Args:
        log: The log.
        width: K, how many numbers an output has.
    """

    def __init__(self, log: LogReader, width: int) -> None:
        self._width, self._answers = width, dict[Row, list[float]]()
        for _, message in whole(log, "scored"):
            batch = b.decode(message.value)
            *_, online = apart(batch.column(b.MEMBERS), batch.column(b.OUTPUTS), width)
            self._answers.update(zip(_rows(batch), online.tolist(), strict=True))

    def score(self, batch: pa.RecordBatch) -> Floats:
        """Outputs, shape (rows, K)."""
        nothing = [float("nan")] * self._width
        told = [self._answers.get(row, nothing) for row in _rows(batch)]
        return np.array(told).reshape(batch.num_rows, self._width)


def _rows(batch: pa.RecordBatch) -> list[Row]:
    columns = (batch.column(name).to_pylist() for name in (b.SOURCE, b.POSITION, b.ROW))
    return list(zip(*columns, strict=True))
