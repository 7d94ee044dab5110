"""Messages of every shape, and what the reader makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from schemas import batch as b
from schemas.pipeline import parse
from services.ingestion.domain.forms import Part, event_form
from services.ingestion.domain.reading import Read, Reader

Headers = Sequence[tuple[str, Any]]

OFFSET, TAKEN = 7, 5_000
"""Position of a message that stands alone, and when the broker took it."""

ARROW: Headers = [("content-type", b"application/vnd.apache.arrow.stream")]
LINES: Headers = [("content-type", b"application/x-ndjson")]
STRUCTURED: Headers = [("content-type", b"application/cloudevents+json")]
BINARY: Headers = [("ce_specversion", b"1.0"), ("ce_id", b"i"), ("ce_source", b"s"), ("ce_type", b"t")]

PIPELINE = """
pipeline: shop
task: binary
events:
{roles}
  fields:
{fields}
labels: {{id: order, {known}field: back, type: boolean, horizon: 1h}}
features: {{n: n}}
"""

ONE = "    n: {type: number}"
ALL = """\
    n: {type: number, nullable: true, min: -10, max: 1.0e+9}
    whole: {type: integer, nullable: true, min: -100}
    flag: {type: boolean, nullable: true}
    kind: {type: category, nullable: true, values: [red, blue]}
    words: {type: text, nullable: true, max_length: 5}
    moment: {type: timestamp, nullable: true}
    must: {type: integer}"""


def reader(fields: str = ONE, roles: str = "") -> Reader:
    known = "time: known, " if "time:" in roles else ""
    return Reader(event_form(parse(PIPELINE.format(fields=fields, roles=roles, known=known))))


def read(value: bytes | None, headers: Headers = (), by: Reader | None = None) -> Read:
    """What one message holds."""
    return (by or reader()).read([(0, [message(OFFSET, value, headers)])])


def message(offset: int, value: bytes | None, headers: Headers = ()) -> Part:
    return Part(offset, TAKEN, b"key", value, list(headers))


def reasons(found: Read) -> list[tuple[int, str]]:
    return [(each.row, str(each.reason.code)) for each in found.refused]


def column(found: Read, name: str) -> list[object]:
    return list(found.batch.column(name).to_pylist())


def times(found: Read, name: str = b.TIME) -> list[object]:
    """Epoch milliseconds."""
    return list(found.batch.column(name).cast(pa.int64()).to_pylist())


def event(**attributes: object) -> bytes:
    """A structured CloudEvent; attributes that are None are left out."""
    told = {"specversion": "1.0", "id": "i", "source": "s", "type": "t", "data": {"n": 1}} | attributes
    return json.dumps({name: value for name, value in told.items() if value is not None}).encode()


def stream(*batches: pa.RecordBatch | pa.Table, compression: str | None = None) -> bytes:
    """An Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for each in batches:
            writer.write(each)
    return bytes(sink.getvalue())


def table(**columns: pa.Array) -> pa.Table:
    return pa.table(columns)
