"""Messages to rows: the only place of the system with Python per row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, groupby
from operator import attrgetter

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from schemas.events import Reason, Rejection
from services.ingestion.domain import arrow, ipc
from services.ingestion.domain import shapes as s
from services.ingestion.domain.forms import Columns, Form, Part, Raw

Runs = Sequence[tuple[int, Sequence[Raw]]]
"""Source and its messages, both ascending."""


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


@dataclass(frozen=True, slots=True)
class Read:
    """What the messages of a poll said.

    Attributes:
        batch: The valid rows, ascending by (source, position, row).
        refused: The rest, ascending likewise.
    """

    batch: pa.RecordBatch
    refused: list[Refused]


@dataclass(slots=True)
class Found:
    """Documents and batches of a poll while it is read.

    Attributes:
        columns: The fields of the valid documents, a stretch of them each.
        records: Documents that are no columns yet.
        messages: The message of each document.
        counts: Source and number of consecutive documents.
        envelopes: Those that are not empty, by index of the document.
        batches: Source, message and rows of each Arrow batch.
        refused: What is no row.
    """

    columns: list[Columns] = field(default_factory=list)
    records: list[msgspec.Struct] = field(default_factory=list)
    messages: list[Raw] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    envelopes: dict[int, s.Envelope] = field(default_factory=dict)
    batches: list[tuple[int, Raw, s.Envelope, arrow.Rows]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def add(self, source: int, message: Raw, record: msgspec.Struct, envelope: s.Envelope) -> None:
        """One document."""
        if envelope != _NOTHING:
            self.envelopes[len(self.messages)] = envelope
        self.records.append(record)
        self.messages.append(message)
        self.counts.append((source, 1))


_NOTHING = s.Envelope()
STRETCH = 512
"""Messages whose documents become columns while they are still in the processor's cache."""

TRUST = 64
"""Documents whose keys are counted together: one with a key twice has all of them read again, so not too many."""


class Reader:
    """Reads the messages of one topic."""

    def __init__(self, form: Form) -> None:
        self._form, self._decode, self._decode_all = form, form.decoder.decode, form.decoder.decode_all

    def read(self, runs: Runs) -> Read:
        """Rows of the messages; never fails for their content."""
        found = Found()
        for source, messages in runs:
            for start in range(0, len(messages), STRETCH):
                self._stretch(found, source, messages[start : start + STRETCH])
        return self._together(found)

    def _stretch(self, found: Found, source: int, messages: Sequence[Raw]) -> None:
        for bare, run in groupby(messages, _bare) if any(map(_headers, messages)) else ((True, messages),):
            together = list(run)
            if bare and not _framed(together[0]):
                self._all_plain(found, source, together)
            else:
                for message in together:
                    self._any(found, source, message)
        found.columns.append(self._form.columns(found.records))
        found.records = []

    # --- messages to documents ------------------------------------------------------------

    def _all_plain(self, found: Found, source: int, messages: Sequence[Raw]) -> None:
        values = list(map(_value, messages))
        records = [each for at in range(0, len(values), TRUST) for each in self._decode_all(values[at : at + TRUST])]
        if Rejection in set(map(type, records)):
            records = [self._unframed(record, message) for record, message in zip(records, messages, strict=True)]
            valid = [not isinstance(each, Rejection) for each in records]
            found.refused += _refusals(source, messages, records)
            messages, records = list(compress(messages, valid)), list(compress(records, valid))
        found.records += records  # type: ignore[arg-type]  # rejections are gone
        found.messages += messages
        found.counts.append((source, len(messages)))

    def _unframed(self, record: msgspec.Struct | Rejection, message: Raw) -> msgspec.Struct | Rejection:
        value = s.unframed(message.value)
        return record if value is message.value else self._decode(value)

    def _any(self, found: Found, source: int, message: Raw) -> None:
        headers = s.headers_of(message.headers)
        match s.shape_of(headers):
            case Rejection() as reason:
                found.refused.append(Refused(source, message, reason))
            case s.Shape.ARROW:
                self._batch(found, source, message, headers)
            case s.Shape.LINES:
                self._lines(found, source, message, headers)
            case s.Shape.STRUCTURED:
                self._document(found, source, message, s.structured_document(message.value, headers))
            case s.Shape.BINARY:
                self._document(found, source, message, s.binary_document(message.value, headers))
            case _:
                self._document(found, source, message, s.json_document(message.value, headers))

    def _document(self, found: Found, source: int, message: Raw, document: s.Document | Rejection) -> None:
        record = document if isinstance(document, Rejection) else self._decode(document.value)
        if isinstance(document, Rejection) or isinstance(record, Rejection):
            found.refused.append(Refused(source, message, record))  # type: ignore[arg-type]  # it is one
        else:
            found.add(source, message, record, document.envelope)

    def _lines(self, found: Found, source: int, message: Raw, headers: dict[str, str]) -> None:
        lines = (message.value or b"").rstrip()
        if not lines or lines.count(b"\n") >= ipc.MAX_ROWS:
            text = f"more than {ipc.MAX_ROWS} lines" if lines else "there is no line: send a JSON object on each"
            reason = Rejection(Reason.TOO_LARGE if lines else Reason.EMPTY, "$", text)
            found.refused.append(Refused(source, message, reason))
            return
        for value, envelope in s.line_documents(message.value or b"", headers):
            part = Part(message.offset, message.timestamp, message.key, value, message.headers)
            record = self._decode(value)
            if isinstance(record, Rejection):
                found.refused.append(Refused(source, part, record, envelope.row))
            else:
                found.add(source, part, record, envelope)

    def _batch(self, found: Found, source: int, message: Raw, headers: dict[str, str]) -> None:
        form = self._form
        rows = arrow.read(message.value, form.fields, form.id, form.decoder.check)
        if isinstance(rows, Rejection):
            found.refused.append(Refused(source, message, rows))
            return
        envelope = s.json_document(None, headers).envelope
        found.batches.append((source, message, envelope, rows))
        for each in rows.bad:
            part = Part(message.offset, message.timestamp, message.key, each.value, message.headers)
            found.refused.append(Refused(source, part, each.reason, each.row))

    # --- documents to rows ----------------------------------------------------------------

    def _together(self, found: Found) -> Read:
        batch = self._of_documents(found)
        if found.batches:
            parts = [batch, *(self._of_batch(*each) for each in found.batches)]
            batch = pa.concat_batches([part for part in parts if part.num_rows] or parts[:1])
            batch = _ascending(batch)
        return Read(batch, found.refused)

    def _of_documents(self, found: Found) -> pa.RecordBatch:
        form, messages, envelopes = self._form, found.messages, found.envelopes
        sources, counts = zip(*found.counts, strict=True) if found.counts else ((), ())
        source = np.repeat(np.array(sources, np.int16), np.array(counts, np.int64))
        columns = _joined(found.columns or [form.columns([])])
        rows = np.zeros(len(messages), np.int32)
        for index, envelope in envelopes.items():
            rows[index] = envelope.row
        offsets = np.fromiter(map(_offset, messages), np.int64, len(messages))
        if form.id is None:
            places = zip(source.tolist(), offsets.tolist(), strict=True)
            ids = [f"{form.name}/{each}/{offset}" for each, offset in places]
            for index, envelope in envelopes.items():
                ids[index] = envelope.id or (f"{ids[index]}/{envelope.row}" if envelope.row else ids[index])
            columns[b.EVENT_ID] = pa.array(ids, pa.string())
        if form.time is None:
            times = list(map(_timestamp, messages))
            for index, envelope in envelopes.items():
                times[index] = times[index] if envelope.time is None else envelope.time
            columns[b.TIME] = pa.array(times, pa.int64()).cast(_TYPES[b.TIME])
        traces = _traces(envelopes, len(messages))
        return self._rows(columns, source, pa.array(offsets), rows, traces, messages)

    def _of_batch(self, source: int, message: Raw, envelope: s.Envelope, rows: arrow.Rows) -> pa.RecordBatch:
        form, count, columns = self._form, len(rows.numbers), dict(rows.columns)
        if form.id is None:
            place = f"{form.name}/{source}/{message.offset}"
            ids = [f"{place}/{number}" if number else place for number in rows.numbers.tolist()]
            columns[b.EVENT_ID] = pa.array(ids, pa.string())
        if form.time is None:
            columns[b.TIME] = pa.array(np.full(count, message.timestamp)).cast(_TYPES[b.TIME])
        traces = pa.array([envelope.traceparent] * count, pa.string())
        positions, sources = pa.array(np.full(count, message.offset)), np.full(count, source, np.int16)
        originals = [_one(message, rows.original, row) for row in range(count)] if form.keeps else []
        return self._rows(columns, sources, positions, rows.numbers, traces, originals)

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


_TYPES = dict(b.IDENTITY)
_value, _offset, _timestamp = attrgetter("value"), attrgetter("offset"), attrgetter("timestamp")
_headers = attrgetter("headers")


def _ascending(batch: pa.RecordBatch) -> pa.RecordBatch:
    """By source, position and row, which it is already where nobody mixes batches with single events."""
    source, order = b.sources(batch), b.orders(batch)
    further, same = np.diff(source), np.diff(order)
    if ((further > 0) | (further == 0) & (same > 0)).all():
        return batch
    return batch.take(pa.array(np.lexsort((order, source))))


def _joined(stretches: Sequence[Columns]) -> Columns:
    return {name: pa.concat_arrays([each[name] for each in stretches]) for name in stretches[0]}


def _bare(message: Raw) -> bool:
    """Whether a message has no headers, which makes it JSON; a few that have some must not slow down the rest."""
    return not message.headers


def _framed(message: Raw) -> bool:
    return (message.value or b"")[:1] == b"\0"


def _refusals(source: int, messages: Sequence[Raw], found: Sequence[object]) -> Iterable[Refused]:
    return [
        Refused(source, message, each)
        for message, each in zip(messages, found, strict=True)
        if isinstance(each, Rejection)
    ]


def _traces(envelopes: Mapping[int, s.Envelope], rows: int) -> pa.Array:
    if not envelopes:
        return pa.nulls(rows, pa.string())
    return pa.array([envelopes.get(index, _NOTHING).traceparent for index in range(rows)], pa.string())


def _one(message: Raw, rows: pa.RecordBatch, row: int) -> Part:
    return Part(message.offset, message.timestamp, message.key, b.encode(rows.slice(row, 1)), message.headers)


def _originals(messages: Sequence[Raw]) -> Columns:
    """What a dead letter at the horizon has to hold."""
    headers = [msgspec.msgpack.encode(message.headers) if message.headers else None for message in messages]
    return {
        b.KEY: pa.array([message.key for message in messages], pa.binary()),
        b.VALUE: pa.array([message.value for message in messages], pa.binary()),
        b.HEADERS: pa.array(headers, pa.binary()),
    }
