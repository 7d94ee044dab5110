"""Rows that are examples already and may still be corrected: a label with a higher revision makes another example."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from services.features.domain.waiting import Numbers, Spill, Waiting

Mask = npt.NDArray[np.bool_]


class Settled:
    """Rows with the newest revision of their label.

    Args:
        spill: Where the columns of the oldest rows go.
    """

    def __init__(self, spill: Spill | None = None) -> None:
        self._rows = Waiting(spill)
        self._revisions: dict[str, int] = {}

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._rows

    def hold(self, rows: pa.RecordBatch, revisions: Sequence[int]) -> None:
        """These rows have become examples, each with the label of a revision."""
        ids = rows.column(b.EVENT_ID).to_pylist()
        self._revisions.update(zip(ids, revisions, strict=True))
        self._rows.add(rows, ids)

    def remember(self, examples: pa.RecordBatch) -> None:
        """These are examples on the log, copies among them: of each event one row and the highest revision count."""
        fresh: dict[str, int] = {}
        revisions = dict.fromkeys(examples.column(b.EVENT_ID).to_pylist(), 0)
        for i, (each, revision) in enumerate(zip(*_revised(examples), strict=True)):
            revisions[each] = max(revision, revisions[each], self._revisions.get(each, revision))
            if each not in self._rows:
                fresh.setdefault(each, i)
        self._revisions.update(revisions)
        added = [*b.REVISED, *b.LABELLED]
        rows = examples.drop_columns([name for name, _ in added]).take(pa.array(fresh.values(), pa.int64()))
        self._rows.add(rows, list(fresh))

    def meet(self, labels: pa.RecordBatch) -> tuple[pa.Table, pa.Table, Mask] | None:
        """Rows of further labels, those labels in the same order, and which are of a higher revision; None: no row.

        Args:
            labels: Labels, at most one of an event.
        """
        numbers = self._rows.find(labels.column(b.EVENT_ID).to_pylist())
        found = np.flatnonzero(numbers >= 0)
        if not len(found):
            return None
        rows, order = self._rows.take(numbers[found])
        rows = rows.combine_chunks()
        self._rows.add(rows.to_batches()[0], rows.column(b.EVENT_ID).to_pylist())
        met = pa.Table.from_batches([labels.take(pa.array(found[order]))])
        newer = [revision > self._revisions[each] for each, revision in zip(*_revised(met), strict=True)]
        return rows, met, np.array(newer, bool)

    def correct(self, labels: pa.Table) -> None:
        """These labels are the newest ones now."""
        self._revisions.update(zip(*_revised(labels), strict=True))

    def expire(self, before: int) -> None:
        """Forget rows whose time is below `before`, milliseconds."""
        for rows in self._rows.expire(before):
            for each in rows.column(b.EVENT_ID).to_pylist():
                del self._revisions[each]


def one_each(labels: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The labels in parts with at most one of an event, an event's labels in their order."""
    ids = labels.column(b.EVENT_ID).to_pylist()
    if len(set(ids)) == len(ids):
        yield labels
        return
    counts: dict[str, int] = {}
    turns = np.zeros(len(ids), np.int64)
    for i, each in enumerate(ids):
        turns[i] = counts[each] = counts.get(each, -1) + 1
    for turn in range(int(turns.max()) + 1):
        yield labels.take(pa.array(_where(turns == turn)))


def of_ids(labels: pa.RecordBatch, those: Container[str]) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The labels whose id is in `those`, and the others."""
    inside = np.array([each in those for each in labels.column(b.EVENT_ID).to_pylist()], np.bool_)
    return labels.take(pa.array(_where(inside))), labels.take(pa.array(_where(~inside)))


def _where(mask: Mask) -> Numbers:
    return np.flatnonzero(mask)


def _revised(rows: pa.RecordBatch | pa.Table) -> tuple[list[str], list[int]]:
    return rows.column(b.EVENT_ID).to_pylist(), rows.column(b.REVISION).to_pylist()
