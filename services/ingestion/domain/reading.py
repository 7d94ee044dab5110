"""Messages to rows: the only place of the system with Python per row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from schemas.events import Decoder, Rejection
from services.ingestion.domain.forms import Columns, Form, Raw, Records

Runs = Sequence[tuple[int, Sequence[Raw]]]
"""Source and its messages, both ascending."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that is no row, and why."""

    source: int
    message: Raw
    reason: Rejection


@dataclass(frozen=True, slots=True)
class Read:
    """What the messages of a poll said.

    Attributes:
        batch: The valid rows, ascending by (source, position).
        keys: What each row is routed by: its entity, or its id where there is none.
        refused: The rest.
    """

    batch: pa.RecordBatch
    keys: list[str]
    refused: list[Refused]


class Reader:
    """Reads the messages of one topic."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._decode = Decoder(form.record).decode

    def read(self, runs: Runs) -> Read:
        """Rows of the messages; never fails for their content."""
        records: list[msgspec.Struct] = []
        kept: list[Raw] = []
        refused: list[Refused] = []
        counts = []
        for source, messages in runs:
            found = list(map(self._decode, map(_value, messages)))
            if Rejection in set(map(type, found)):
                refused += _refusals(source, messages, found)
                messages, found = _valid(messages, found)  # noqa: PLW2901 - what is left of them
            records += found  # type: ignore[arg-type]  # rejections are gone
            kept += messages
            counts.append(len(messages))
        sources = np.repeat(np.array([source for source, _ in runs], np.int16), counts)
        return self._rows(records, kept, sources, refused)

    def _rows(
        self, records: Records, messages: Sequence[Raw], sources: npt.NDArray[np.int16], refused: list[Refused]
    ) -> Read:
        form, columns = self._form, self._form.columns(records)
        if form.id is None:
            name, each = form.name, zip(sources.tolist(), messages, strict=True)
            columns[b.EVENT_ID] = pa.array(
                [f"{name}/{source}/{message.offset}" for source, message in each], pa.string()
            )
        identity = self._identity(columns, messages, sources)
        payload = form.payload(records, messages, {name: columns[name] for name in columns if name != b.EVENT_ID})
        keys = form.entity or form.id
        return Read(
            pa.RecordBatch.from_pydict({**identity, **payload}),
            list(map(attrgetter(keys), records)) if keys else columns[b.EVENT_ID].to_pylist(),
            refused,
        )

    def _identity(self, columns: Columns, messages: Sequence[Raw], sources: npt.NDArray[np.int16]) -> Columns:
        form, rows = self._form, len(messages)
        types = dict(b.IDENTITY)
        if form.time is None:
            time = pa.array(list(map(_timestamp, messages)), pa.int64()).cast(types[b.TIME])
        else:
            time = columns[form.time]
        return {
            b.SOURCE: pa.array(sources),
            b.POSITION: pa.array(list(map(_offset, messages)), pa.int64()),
            b.ROW: pa.array(np.zeros(rows, np.int32)),
            b.EVENT_ID: columns[form.id or b.EVENT_ID],
            b.ENTITY: columns[form.entity] if form.entity else pa.nulls(rows, types[b.ENTITY]),
            b.TIME: time,
        }


_value, _offset, _timestamp = attrgetter("value"), attrgetter("offset"), attrgetter("timestamp")


def _refusals(source: int, messages: Sequence[Raw], found: Sequence[object]) -> Iterable[Refused]:
    return [
        Refused(source, message, each)
        for message, each in zip(messages, found, strict=True)
        if isinstance(each, Rejection)
    ]


def _valid(
    messages: Sequence[Raw], found: Sequence[msgspec.Struct | Rejection]
) -> tuple[list[Raw], list[msgspec.Struct | Rejection]]:
    valid = [not isinstance(each, Rejection) for each in found]
    return list(compress(messages, valid)), list(compress(found, valid))
