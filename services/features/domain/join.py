"""Scored rows and late labels to examples: the first label of an event decides, if it is within the horizon.

Whether a label is late is decided by its own time and that of its row, never by what else has been read: so the same
log gives the same examples, however the two inputs interleave. The clock only says when waiting has become pointless.

Where the absence of a label means a value, a row without label becomes an example with it, known at the horizon.
Nobody invents a label for a row that came when its label may have been given up already: it stays unlabelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import batch as b
from services.features.domain.correcting import Settled, of_ids, one_each
from services.features.domain.ended import Ended
from services.features.domain.labelled import times, with_labels, with_revisions, without_label
from services.features.domain.waiting import Numbers, Spill, Waiting

_NONE: Numbers = np.zeros(0, np.int64)


@dataclass(slots=True)
class Outcome:
    """What came of some rows and labels.

    Attributes:
        examples: Rows with their labels.
        late: Labels that came after the horizon of their row.
        unknown: Labels whose row never came.
        unlabelled: Number of rows whose label never came, or too late, those that became examples included.
        absent: Number of examples without label, which have the value that its absence means.
        twice: Stream: how many rows or labels repeated an id.
    """

    examples: list[pa.Table] = field(default_factory=list)
    late: list[pa.RecordBatch] = field(default_factory=list)
    unknown: list[pa.RecordBatch] = field(default_factory=list)
    unlabelled: int = 0
    absent: int = 0
    twice: dict[str, int] = field(default_factory=lambda: {b.EVENTS: 0, b.LABELS: 0})


class Join:
    """One partition's rows without label, labels without row, and ids that are examples already.

    Args:
        horizon: How much later than its row a label may be, milliseconds.
        lateness: How much longer than that to wait, because times come out of order, milliseconds.
        absent: The label that no label by the horizon means; None: such a row is no example.
        revised: Whether labels have revisions: a higher one makes another example until the horizon.
        spill: Where the columns of what waits go when it is too much; None: all stay in memory.
    """

    def __init__(
        self,
        horizon: int,
        lateness: int,
        absent: pa.Scalar | None = None,
        *,
        revised: bool = False,
        spill: Spill | None = None,
    ) -> None:
        self._horizon, self._patience, self._absent = horizon, horizon + lateness, absent
        self._rows, self._labels = Waiting(spill), Waiting(spill)
        self._done, self._closed = Ended(), Ended()
        self._tardy: set[str] = set()
        self._settled = Settled(spill) if revised else None
        self._corrections: list[pa.RecordBatch] = []
        self._outcome = Outcome()

    @property
    def waiting(self) -> tuple[int, int]:
        """Number of rows and of labels that wait."""
        return len(self._rows), len(self._labels)

    def pointless(self, clock: int) -> int:
        """Time before which nothing waits any more at a clock, milliseconds."""
        return clock - self._patience

    def tardy(self, rows: pa.RecordBatch, passed: int | None) -> Numbers:
        """Which rows come when a label of theirs may have been given up: only a label that waits still counts.

        Args:
            rows: Rows of one message.
            passed: Event time that events had passed before it, milliseconds.
        """
        if self._absent is None or passed is None or not rows.num_rows:
            return _NONE
        return np.flatnonzero(times(rows) < self.pointless(passed))

    def remember(self, examples: pa.RecordBatch) -> None:
        """These are examples already."""
        given = examples.column(b.LABEL_SOURCE).is_valid()
        for done, part in ((self._done, examples.filter(given)), (self._closed, examples.filter(pc.invert(given)))):
            if part.num_rows:
                newest = max(_newest(part, b.TIME), _newest(part, b.LABEL_TIME))
                done.add(part.column(b.EVENT_ID).to_pylist(), newest)
                if self._settled is not None and done is self._done:
                    self._settled.remember(part)

    def rows(self, rows: pa.RecordBatch, *, tardy: bool = False) -> None:
        """Scored rows came."""
        rows, ids = self._fresh(rows, self._rows, b.EVENTS)
        if tardy:
            self._tardy.update(ids)
        numbers = self._labels.find(ids)
        found = np.flatnonzero(numbers >= 0)
        if len(found):
            labels, order = self._labels.take(numbers[found])
            self._settle(_some(rows, found[order]), labels)
            rows, ids = _without(rows, ids, found)
        self._rows.add(rows, ids)
        if self._corrections:
            earlier, self._corrections = self._corrections, []
            self.labels(pa.concat_batches(earlier))

    def labels(self, labels: pa.RecordBatch) -> None:
        """Labels came."""
        if self._settled is None:
            self._meet(labels)
            return
        for each in one_each(labels):
            early, others = of_ids(each, self._labels)
            if early.num_rows:
                self._corrections.append(early)
            self._meet(self._correct(others, self._settled))

    def _meet(self, labels: pa.RecordBatch) -> None:
        """First labels of their events."""
        ids = labels.column(b.EVENT_ID).to_pylist()
        numbers = self._rows.find(ids)
        found = np.flatnonzero(numbers >= 0)
        if len(found):
            rows, order = self._rows.take(numbers[found])
            self._settle(rows, _some(labels, found[order]))
            labels, ids = _without(labels, ids, found)
        self._labels.add(*self._fresh(self._open(labels, ids), self._labels, b.LABELS))

    def expire(self, clock: int) -> None:
        """The clock moved, milliseconds of event time: what waited for too long waits no more."""
        before = self.pointless(clock)
        for rows in self._rows.expire(before):
            self._unlabelled(pa.Table.from_batches([rows]))
        self._outcome.unknown += self._labels.expire(before)
        if self._settled is not None:
            self._settled.expire(before)
            self._expire_corrections(before)
        self._done.expire(before)
        self._closed.expire(before)

    def outcome(self) -> Outcome:
        """What happened since the last call."""
        out, self._outcome = self._outcome, Outcome()
        return out

    def _settle(self, rows: pa.Table, labels: pa.Table) -> None:
        """Rows have met their first labels, in the same order: nobody waits for another one."""
        late = times(labels) - times(rows) > self._horizon
        if late.any():
            self._outcome.late += labels.filter(pa.array(late)).to_batches()
            refused = rows.filter(pa.array(late))
            if self._absent is None:
                self._done.add(_ids(refused), max(_newest(rows, b.TIME), _newest(labels, b.TIME)))
            self._unlabelled(refused)
            rows, labels = rows.filter(pa.array(~late)), labels.filter(pa.array(~late))
        if rows.num_rows:
            ids = _ids(rows)
            self._done.add(ids, max(_newest(rows, b.TIME), _newest(labels, b.TIME)))
            self._tardy.difference_update(ids)
            if self._settled is not None:
                self._settled.hold(rows.combine_chunks().to_batches()[0], labels.column(b.REVISION).to_pylist())
            self._say(rows, labels)

    def _say(self, rows: pa.Table, labels: pa.Table, *, correction: bool = False) -> None:
        examples = with_labels(rows, labels)
        if self._settled is not None:
            examples = with_revisions(examples, labels, correction=correction)
        self._outcome.examples.append(examples)

    def _correct(self, labels: pa.RecordBatch, settled: Settled) -> pa.RecordBatch:
        """Say corrections again as examples; return the labels that are none."""
        met = settled.meet(labels)
        if met is None:
            return labels
        rows, further, newer = met
        late = newer & (times(further) - times(rows) > self._horizon)
        good = newer & ~late
        self._outcome.twice[b.LABELS] += int((~newer).sum())
        if late.any():
            self._outcome.late += further.filter(pa.array(late)).to_batches()
        if good.any():
            rows, said = rows.filter(pa.array(good)), further.filter(pa.array(good))
            settled.correct(said)
            self._say(rows, said, correction=True)
        return of_ids(labels, settled)[1]

    def _expire_corrections(self, before: int) -> None:
        kept = []
        for labels in self._corrections:
            old = times(labels) < before
            if old.any():
                self._outcome.unknown.append(labels.filter(pa.array(old)))
                labels = labels.filter(pa.array(~old))  # noqa: PLW2901 - what is left of it
            if labels.num_rows:
                kept.append(labels)
        self._corrections = kept

    def _unlabelled(self, rows: pa.Table) -> None:
        """Nobody waits for a label of these rows any more; what its absence means is known at their horizon."""
        self._outcome.unlabelled += rows.num_rows
        if self._absent is None:
            return
        ids = _ids(rows)
        self._closed.add(ids, _newest(rows, b.TIME) + self._horizon)
        if not self._tardy.isdisjoint(ids):
            rows = rows.filter(pa.array([each not in self._tardy for each in ids]))
            self._tardy.difference_update(ids)
        if rows.num_rows:
            self._outcome.absent += rows.num_rows
            examples = without_label(rows, self._absent, self._horizon)
            self._outcome.examples.append(examples if self._settled is None else with_revisions(examples, None))

    def _open(self, labels: pa.RecordBatch, ids: Sequence[str]) -> pa.RecordBatch:
        """Without those of rows for which the absence of a label has spoken: they are late."""
        if self._closed.isdisjoint(ids):
            return labels
        late = pa.array([each in self._closed for each in ids])
        self._outcome.late.append(labels.filter(late))
        return labels.filter(pc.invert(late))

    def _fresh(self, batch: pa.RecordBatch, waiting: Waiting, stream: str) -> tuple[pa.RecordBatch, list[str]]:
        """Without the ids that wait, are done, or come twice in the batch."""
        ids = batch.column(b.EVENT_ID).to_pylist()
        known = (waiting, self._done, self._closed)
        if len(set(ids)) == len(ids) and all(each.isdisjoint(ids) for each in known):
            return batch, ids
        seen: set[str] = set()
        keep = []
        for i, each in enumerate(ids):
            if not any(each in places for places in (seen, *known)):
                keep.append(i)
                seen.add(each)
        self._outcome.twice[stream] += len(ids) - len(keep)
        return batch.take(pa.array(keep, pa.int64())), [ids[i] for i in keep]


def _ids(rows: pa.Table) -> list[str]:
    return rows.column(b.EVENT_ID).to_pylist()  # type: ignore[no-any-return]


def _some(batch: pa.RecordBatch, rows: Numbers) -> pa.Table:
    return pa.Table.from_batches([batch.take(pa.array(rows))])


def _without(batch: pa.RecordBatch, ids: Sequence[str], found: Numbers) -> tuple[pa.RecordBatch, list[str]]:
    rest = np.delete(np.arange(len(ids)), found)
    return batch.take(pa.array(rest)), [ids[i] for i in rest.tolist()]


def _newest(batch: pa.RecordBatch | pa.Table, column: str) -> int:
    return int(np.max(batch.column(column).cast(pa.int64()).to_numpy()))
