"""Batches as bytes."""

import numpy as np
import pyarrow as pa
import pytest

from schemas import batch as b

ROWS = 7
WHOLE = pa.RecordBatch.from_pydict(
    {
        "number": pa.array(np.arange(ROWS) / 3),
        "text": pa.array(["a", None, "", "ä", "long enough for a buffer of its own", "b", "c"]),
        "list": pa.array([[1, 2], None, [], [3], [4], [5], [6]], pa.list_(pa.int32())),
        "moment": pa.array(range(ROWS), pa.timestamp("ms", "UTC")),
        "nothing": pa.nulls(ROWS, pa.string()),
    }
)


@pytest.mark.parametrize(("start", "rows"), [(0, ROWS), (0, 0), (2, 3), (6, 1)])
def test_a_batch_is_written_as_arrow_writes_a_stream_of_one(start: int, rows: int) -> None:
    batch = WHOLE.slice(start, rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    assert b.encode(batch) == sink.getvalue().to_pybytes()
    assert b.decode(b.encode(batch)).equals(batch)
