"""What a run has come to: its examples, counted raw, beside those of services that nobody disturbed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from headrace.following import Follower
from runtime.ports import Message
from schemas import batch as b
from tests.e2e.orders import examples
from tests.e2e.running import Running, until

SCORES = (b.PREDICTION, b.OUTPUTS)
"""Their last bit depends on the number of rows that a model scores at once, which is that of a batch."""


class Examples:
    """The examples as they grow."""

    def __init__(self, system: Running) -> None:
        self._system, self._follower = system, Follower(system.log)
        self._found: list[Message] = []
        self.count = 0

    def read(self) -> int:
        """How many there are by now, copies included."""
        new = list(self._follower.new("examples"))
        self._found += new
        self.count += sum(b.decode(each.value).num_rows for each in new)
        return self.count

    def wait(self, count: int) -> None:
        """Until there are so many."""
        system = self._system
        until(f"{count} examples", lambda: self.read() >= count, 120, lambda: f"{self.count}\n{system.problems()}")

    def all(self, count: int) -> pa.RecordBatch:
        """Every one, with what comes when there are so many and all services have finished."""
        self.wait(count)
        self._system.stop()
        self.read()
        return examples(self._found)


def assert_same(found: pa.RecordBatch, expected: pa.RecordBatch, count: int) -> None:
    """That so many events have one example each, and that it is the expected one."""
    ids = found.column(b.EVENT_ID)
    lost, twice = count - len(ids.unique()), len(ids) - len(ids.unique())
    print(f"{lost} lost, {twice} twice")
    assert (lost, twice) == (0, 0)
    assert found.schema == expected.schema
    ours, theirs = (pl.DataFrame(pa.Table.from_batches([each])).sort(b.EVENT_ID) for each in (found, expected))
    different = {name: int(_bits(ours[name]).ne_missing(_bits(theirs[name])).sum()) for name in ours.columns}
    assert {name: count for name, count in different.items() if count and name not in SCORES} == {}
    for one, other in zip(_scores(ours), _scores(theirs), strict=True):
        assert np.allclose(one, other, rtol=1e-12, atol=0, equal_nan=True)


def _bits(values: pl.Series) -> pl.Series:
    """Numbers as their bits, which are equal for the very same number only."""
    return pl.Series(values.to_numpy().view(np.int64)) if values.dtype == pl.Float64 else values


def _scores(rows: pl.DataFrame) -> Iterator[np.ndarray]:
    yield from (rows[b.PREDICTION].to_numpy(), rows[b.OUTPUTS].explode().to_numpy())
