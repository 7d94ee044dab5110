"""An Arrow IPC stream from outside as one record batch, in bounded memory and time whatever its bytes claim.

Nothing is decompressed, decoded or looked at cell by cell before its size is known: a message of a few hundred bytes
may claim terabytes, in compressed buffers, in dictionaries and in views that all show the same long text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.reasons import Reason, Rejection

MAX_ROWS = 1 << 17
"""Most rows of a message: a row that is refused costs a dead letter, and a thousand bytes may claim a million rows."""

MAX_BYTES = 64 << 20
"""Most bytes of a message's columns once they are decompressed and decoded."""

_DICTIONARY, _RECORDS, _V5 = 2, 3, 4
_VIEW = 16


def read(value: bytes | None, refuse: Callable[[pa.Schema], Rejection | None]) -> pa.RecordBatch | Rejection:
    """The rows of all batches of a stream, dictionaries and views as plain columns; or why there are none.

    Args:
        value: The stream.
        refuse: Says what is wrong with the columns, before anything of them is read.
    """
    try:
        return _read(pa.py_buffer(value or b""), refuse)
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return Rejection(Reason.UNDECODABLE_BATCH, "$", f"not an Arrow IPC stream: {first}"[:500])


def _read(value: pa.Buffer, refuse: Callable[[pa.Schema], Rejection | None]) -> pa.RecordBatch | Rejection:
    batches, rows = [], 0
    with pa.ipc.open_stream(value) as reader:
        schema = reader.schema
        if (reason := refuse(schema)) is not None:
            return reason
        if (claimed := _claimed(value)) > MAX_BYTES:
            return _too_large(claimed)
        for batch in reader:
            rows += batch.num_rows
            if rows > MAX_ROWS:
                return Rejection(Reason.TOO_LARGE, "$", f"{rows} rows; at most {MAX_ROWS} go into one message")
            batches.append(batch)
    if len(batches) == 1 and not any(map(_stands_for_more, schema.types)):
        batches[0].validate(full=True)
        return batches[0]
    table = pa.Table.from_batches(batches, schema)
    table.validate()
    if (shown := sum(map(_shown, batches))) > MAX_BYTES:
        return _too_large(shown)
    table.validate(full=True)
    return _plain(table)


def _stands_for_more(kind: pa.DataType) -> bool:
    """Whether cells of this type may show one text many times."""
    return bool(pa.types.is_dictionary(kind) or pa.types.is_string_view(kind))


def _plain(table: pa.Table) -> pa.RecordBatch:
    """One batch, without types that would take what other rows hold along when a row is cut out."""
    if table.num_rows == 0:
        return pa.RecordBatch.from_pylist([], schema=table.schema)
    batch = table.combine_chunks().to_batches()[0]
    columns = {field.name: _decoded(column) for field, column in zip(batch.schema, batch.columns, strict=True)}
    return pa.RecordBatch.from_pydict(columns)


def _decoded(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def _too_large(size: int) -> Rejection:
    text = f"the columns take {size} bytes; at most {MAX_BYTES} are accepted: send fewer rows per message"
    return Rejection(Reason.TOO_LARGE, "$", text)


def _shown(batch: pa.RecordBatch) -> int:
    """Bytes of text that dictionaries and views stand for."""
    return sum(_shown_by(column) for column in batch.columns)


def _shown_by(column: pa.Array) -> int:
    if pa.types.is_string_view(column.type):
        views = column.buffers()[1]
        start, stop = column.offset * _VIEW, (column.offset + len(column)) * _VIEW
        return int(np.frombuffer(views, np.uint32, (stop - start) // 4, start)[::4].sum()) if len(column) else 0
    if not pa.types.is_dictionary(column.type):
        return 0
    values = column.dictionary
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return len(column) * 8
    return pc.sum(pc.binary_length(values).cast(pa.int64()).take(column.indices)).as_py() or 0


# --- what compressed buffers claim, read from the messages' metadata (FlatBuffers) --------------


def _claimed(stream: pa.Buffer) -> int:
    """Bytes that the compressed buffers of a stream say they hold."""
    messages = pa.ipc.MessageReader.open_stream(stream)
    return sum(_claimed_by(memoryview(each.metadata), memoryview(each.body)) for each in messages)


def _claimed_by(metadata: memoryview, body: memoryview) -> int:
    root = _target(metadata, 0)
    kind, header = metadata[_member(metadata, root, 1)], _target(metadata, _member(metadata, root, 2))
    if kind == _DICTIONARY:
        header = _target(metadata, _member(metadata, header, 1))
    elif kind != _RECORDS:
        return 0
    version, custom = _member(metadata, root, 0), _member(metadata, root, 4)
    # Before version 5 a batch said in its own key-values that it was compressed.
    old = custom and (not version or metadata[version] < _V5)
    if not (_member(metadata, header, 3) or old):
        return 0
    buffers = _target(metadata, _member(metadata, header, 2))
    count = _number("<I", metadata, buffers)
    spans = np.frombuffer(metadata, "<i8", 2 * count, buffers + 4).reshape(-1, 2).tolist()
    return sum(max(_number("<q", body, offset), 0) for offset, length in spans if length)


def _member(table: memoryview, at: int, index: int) -> int:
    """Where a member of the table at a place is; 0 for an absent one."""
    members = at - _number("<i", table, at)
    slot = 4 + 2 * index
    offset = _number("<H", table, members + slot) if slot < _number("<H", table, members) else 0
    return at + offset if offset else 0


def _target(table: memoryview, at: int) -> int:
    return at + _number("<I", table, at)


def _number(form: str, source: memoryview, at: int) -> int:
    return int(struct.unpack_from(form, source, at)[0])
