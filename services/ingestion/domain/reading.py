"""Messages to documents and batches: the only place of the system with Python per row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, groupby
from operator import attrgetter

import msgspec
import numpy as np
import pyarrow as pa

from schemas.events import Reason, Rejection
from services.ingestion.domain import arrow, ipc
from services.ingestion.domain import shapes as s
from services.ingestion.domain.batches import Batch, Group, grouped
from services.ingestion.domain.forms import Form, Part, Raw
from services.ingestion.domain.rows import Found, Judged, Refused, Rows

Runs = Sequence[tuple[int, Sequence[Raw]]]
"""Source and its messages, both ascending."""


@dataclass(frozen=True, slots=True)
class Read:
    """What the messages of a poll said.

    Attributes:
        batch: The valid rows, ascending by (source, position, row).
        refused: The rest, ascending likewise.
    """

    batch: pa.RecordBatch
    refused: list[Refused]


STRETCH = 512
"""Documents that become columns while they are still in the processor's cache."""

TRUST = 64
"""Documents whose keys are counted together: one with a key twice has all of them read again, so not too many."""


class Reader:
    """Reads the messages of one topic."""

    def __init__(self, form: Form) -> None:
        self._form, self._rows = form, Rows(form)
        self._batches = arrow.Batches(form.fields, form.id, form.decoder.check)
        self._decode, self._decode_all = form.decoder.decode, form.decoder.decode_all

    def read(self, runs: Runs) -> Read:
        """Rows of the messages; never fails for their content."""
        found = Found()
        for source, messages in runs:
            for start in range(0, len(messages), STRETCH):
                self._stretch(found, source, messages[start : start + STRETCH])
                if len(found.records) >= STRETCH:
                    self._columns(found)
        self._columns(found)
        judged = [self._judged(found, group) for group in grouped(found.batches)]
        found.refused.sort(key=lambda each: (each.source, each.message.offset, each.row))
        return Read(self._rows.together(found, judged), found.refused)

    def _stretch(self, found: Found, source: int, messages: Sequence[Raw]) -> None:
        for bare, run in groupby(messages, _bare) if any(map(_headers, messages)) else ((True, messages),):
            together = list(run)
            if bare and not _framed(together[0]):
                self._all_plain(found, source, together)
            else:
                for message in together:
                    self._any(found, source, message)

    def _columns(self, found: Found) -> None:
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
        rows = self._batches.read(message.value)
        if isinstance(rows, Rejection):
            found.refused.append(Refused(source, message, rows))
        else:
            traceparent = s.json_document(None, headers).envelope.traceparent
            found.batches.append(Batch(source, message, traceparent, rows))

    def _judged(self, found: Found, group: Group) -> Judged:
        rows = self._batches.judge(group.rows)
        which, numbers = group.places(np.array([each.row for each in rows.bad], np.int64))
        for bad, index, number in zip(rows.bad, which.tolist(), numbers.tolist(), strict=True):
            batch = group.batches[index]
            found.refused.append(Refused(batch.source, batch.part(bad.value), bad.reason, number))
        return group, rows


_value, _headers = attrgetter("value"), attrgetter("headers")


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
