"""Documents and batches of a poll to rows with identity, all of a poll as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from schemas.events import Rejection
from services.ingestion.domain import arrow
from services.ingestion.domain.batches import Batch, Group
from services.ingestion.domain.forms import Columns, Form, Part, Raw
from services.ingestion.domain.shapes import Envelope


@dataclass(frozen=True, slots=True)
class Refused:
    """What is no row, and why.

    Attributes:
        source: Partition that it came from.
        message: The message; of one that holds several rows, the row as if it had come alone.
        reason: What is wrong.
        row: Its number in the message.
    """

    source: int
    message: Raw
    reason: Rejection
    row: int = 0


@dataclass(slots=True)
class Found:
    """Documents and batches of a poll while it is read.

    Attributes:
        columns: The fields of the valid documents, a stretch of them each.
        records: Documents that are no columns yet.
        messages: The message of each document.
        counts: Source and number of consecutive documents.
        envelopes: Those that are not empty, by index of the document.
        batches: The Arrow messages.
        refused: What is no row.
    """

    columns: list[Columns] = field(default_factory=list)
    records: list[msgspec.Struct] = field(default_factory=list)
    messages: list[Raw] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    envelopes: dict[int, Envelope] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def add(self, source: int, message: Raw, record: msgspec.Struct, envelope: Envelope) -> None:
        """One document."""
        if envelope != NOTHING:
            self.envelopes[len(self.messages)] = envelope
        self.records.append(record)
        self.messages.append(message)
        self.counts.append((source, 1))


Judged = tuple[Group, arrow.Rows]

NOTHING = Envelope()
_TYPES = dict(b.IDENTITY)
_offset, _timestamp = attrgetter("offset"), attrgetter("timestamp")


class Rows:
    """Makes the rows of one topic."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def together(self, found: Found, judged: Sequence[Judged]) -> pa.RecordBatch:
        """All valid rows, ascending by (source, position, row)."""
        documents = self._of_documents(found)
        parts = [part for part in (documents, *(self._of_batches(*each) for each in judged)) if part.num_rows]
        if len(parts) <= 1:
            return parts[0] if parts else documents
        batch = pa.concat_batches(parts)
        return _ascending(batch) if documents.num_rows else batch

    def _of_documents(self, found: Found) -> pa.RecordBatch:
        form, messages, envelopes = self._form, found.messages, found.envelopes
        sources, counts = zip(*found.counts, strict=True) if found.counts else ((), ())
        source = np.repeat(np.array(sources, np.int16), np.array(counts, np.int64))
        columns = _joined(found.columns)
        rows = np.zeros(len(messages), np.int32)
        for index, envelope in envelopes.items():
            rows[index] = envelope.row
        offsets = np.fromiter(map(_offset, messages), np.int64, len(messages))
        if form.id is None:
            places = zip(source.tolist(), offsets.tolist(), rows.tolist(), strict=True)
            ids = [_made_id(form.name, *each) for each in places]
            for index, envelope in envelopes.items():
                ids[index] = envelope.id or ids[index]
            columns[b.EVENT_ID] = pa.array(ids, pa.string())
        if form.time is None:
            times = list(map(_timestamp, messages))
            for index, envelope in envelopes.items():
                times[index] = times[index] if envelope.time is None else envelope.time
            columns[b.TIME] = pa.array(times, pa.int64()).cast(_TYPES[b.TIME])
        traces = _traces(envelopes, len(messages))
        return self._rows(columns, source, pa.array(offsets), rows, traces, messages)

    def _of_batches(self, group: Group, rows: arrow.Rows) -> pa.RecordBatch:
        form, columns, batches = self._form, dict(rows.columns), group.batches
        which, numbers = group.places(rows.indices)
        sources = np.array([each.source for each in batches], np.int16)[which]
        positions = np.array([each.message.offset for each in batches], np.int64)[which]
        if form.id is None:
            places = zip(sources.tolist(), positions.tolist(), numbers.tolist(), strict=True)
            columns[b.EVENT_ID] = pa.array([_made_id(form.name, *each) for each in places], pa.string())
        if form.time is None:
            times = np.array([each.message.timestamp for each in batches], np.int64)[which]
            columns[b.TIME] = pa.array(times).cast(_TYPES[b.TIME])
        traces = pa.array([each.traceparent for each in batches], pa.string()).take(pa.array(which))
        originals = _originals_of(group, rows.original, which) if form.keeps else []
        return self._rows(columns, sources, pa.array(positions), numbers, traces, originals)

    def _rows(
        self,
        columns: Columns,
        sources: npt.NDArray[np.int16],
        positions: pa.Array,
        numbers: npt.NDArray[np.int32],
        traces: pa.Array,
        originals: Sequence[Raw],
    ) -> pa.RecordBatch:
        form = self._form
        identity = {
            b.SOURCE: pa.array(sources),
            b.POSITION: positions,
            b.ROW: pa.array(numbers),
            b.EVENT_ID: columns[form.id or b.EVENT_ID],
            b.ENTITY: columns[form.entity] if form.entity else pa.nulls(len(sources), _TYPES[b.ENTITY]),
            b.TIME: columns[form.time or b.TIME],
            b.TRACEPARENT: traces,
        }
        payload = form.payload({name: columns[name] for name in form.fields})
        return pa.RecordBatch.from_pydict({**identity, **payload, **(_originals(originals) if form.keeps else {})})


def _ascending(batch: pa.RecordBatch) -> pa.RecordBatch:
    """By source, position and row, which it is already where nobody mixes batches with single events."""
    source, order = b.sources(batch), b.orders(batch)
    further, same = np.diff(source), np.diff(order)
    if ((further > 0) | (further == 0) & (same > 0)).all():
        return batch
    return batch.take(pa.array(np.lexsort((order, source))))


def _joined(stretches: Sequence[Columns]) -> Columns:
    return {name: pa.concat_arrays([each[name] for each in stretches]) for name in stretches[0]}


def _traces(envelopes: Mapping[int, Envelope], rows: int) -> pa.Array:
    if not envelopes:
        return pa.nulls(rows, pa.string())
    return pa.array([envelopes.get(index, NOTHING).traceparent for index in range(rows)], pa.string())


def _made_id(name: str, source: int, offset: int, row: int) -> str:
    return f"{name}/{source}/{offset}/{row}" if row else f"{name}/{source}/{offset}"


def _originals_of(group: Group, rows: pa.RecordBatch, which: npt.NDArray[np.int64]) -> list[Part]:
    return [group.batches[each].part(b.encode(rows.slice(row, 1))) for row, each in enumerate(which.tolist())]


def _originals(messages: Sequence[Raw]) -> Columns:
    """What a dead letter at the horizon has to hold."""
    headers = [msgspec.msgpack.encode(message.headers) if message.headers else None for message in messages]
    return {
        b.KEY: pa.array([message.key for message in messages], pa.binary()),
        b.VALUE: pa.array([message.value for message in messages], pa.binary()),
        b.HEADERS: pa.array(headers, pa.binary()),
    }
