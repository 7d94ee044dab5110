"""The features of chosen rows of one partition, computed a second time with a state of their own.

Rows of an entity are taken in while it is chosen and for one reach of the windows before, so that its windows are whole
when they are compared. Rows by which the partition's time moved come along where it matters: what a window holds
depends on how far time has come.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from schemas import batch as b
from schemas.columns import together
from schemas.pipeline import Pipeline
from services.features.domain import sampling
from services.features.domain.computing import Computation
from services.features.domain.labelled import times
from services.features.domain.pairing import Pairs, behind, pair, tops
from services.features.domain.sampling import Hashes, Mask, chosen
from services.features.domain.windows_panes import NEVER, Ints

MOST = 100_000
"""Rows of a partition that wait to be served; beyond it the oldest go unchecked."""

CLOCK = "_clock"
"""Column of rows computed again: the partition's time if the windows can be compared, else NEVER."""


class Held:
    """Rows that wait until there are enough of them: what is costly per call is paid once for many small messages."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def add(self, rows: pa.RecordBatch) -> bool:
        """True when there are enough."""
        self._batches += [rows] if rows.num_rows else []
        self._rows += rows.num_rows
        return self._rows >= b.MAX_ROWS

    def all(self) -> pa.RecordBatch | None:
        """All of them, which wait no more; None for none."""
        batches, self._batches, self._rows = self._batches, [], 0
        return together(batches) if batches else None


class Shadow:
    """State of one partition.

    Args:
        spec: The pipeline.
        partition: Which one.
        share: Share of the rows, and of the entities, above 0 and up to 1.
    """

    def __init__(self, spec: Pipeline, partition: int, share: float) -> None:
        self._partition, self._share, self._reach = partition, share, spec.longest_window
        self._per_entity = spec.windows_by_entity
        self._computation = Computation(spec)
        self._computation.begin(partition)
        self._clock, self._warm = NEVER, NEVER + 1
        self._unsaid: pa.RecordBatch | None = None
        self._new, self._back = Held(), Held()
        self._taken: list[pa.RecordBatch] = []
        self._wanted: list[Ints] = []
        self._again: list[pa.RecordBatch] = []
        self._served: list[pa.RecordBatch] = []

    @property
    def refused(self) -> bool:
        """Whether an entity found no place."""
        return self._computation.refused > 0

    def take(self, rows: pa.RecordBatch) -> None:
        """Rows of records, each once, in the order of the log."""
        if self._new.add(rows):
            self._choose()

    def _choose(self) -> None:
        rows = self._new.all()
        if rows is None:
            return
        highest = np.maximum(np.maximum.accumulate(times(rows)), self._clock)
        own, now, soon = chosen(sampling.of_rows(rows), self._share), *self._turns(rows, highest)
        fed = own | now | soon
        self._keep_time(rows, highest, fed, now)
        self._clock = int(highest[-1])
        if not fed.any():
            return
        at = np.flatnonzero(fed)
        clock = np.where(now[at], highest[at], np.where(own[at], NEVER, NEVER - 1))
        self._hold(rows.take(pa.array(at)), clock)

    def rewound(self, margin: int) -> None:
        """All rows so far were read again, `margin` milliseconds further back than windows reach."""
        self._choose()
        if self._clock != NEVER:
            self._warm = self._clock - margin

    def served(self, rows: pa.RecordBatch) -> None:
        """Rows as they were scored; those that were not chosen are passed over."""
        if self._back.add(rows):
            self._find()

    def _find(self) -> None:
        self._choose()
        rows = self._back.all()
        if rows is None or not self._wanted:
            return
        wanted, orders = np.sort(np.concatenate(self._wanted)), b.orders(rows)
        if not len(wanted):
            return
        at = np.minimum(np.searchsorted(wanted, orders), len(wanted) - 1)
        found = np.flatnonzero(wanted[at] == orders)
        self._served += [rows.take(pa.array(found))] if len(found) else []

    def look(self) -> Pairs | None:
        """The chosen rows that were served since the last look; None for none."""
        self._find()
        self.compute()
        if not self._served or not self._again:
            self._served = []
            return None
        served, self._served = together(self._served), []
        again = together(self._again)
        pairs = pair(served, again)
        left = behind(again, tops(pairs.served))
        self._again, self._wanted = [left], [b.orders(left)]
        return pairs

    def comparable(self, pairs: Pairs) -> Mask:
        """Of which rows the windows can be compared, too."""
        clock: Mask = pairs.again.column(CLOCK).to_numpy() >= self._warm
        return clock

    def compute(self) -> None:
        """Compute what was taken in; call it now and then while much is read."""
        self._choose()
        if not self._taken:
            return
        rows, self._taken = together(self._taken), []
        clock = rows.column(CLOCK)
        again = self._computation.compute(rows, [(self._partition, rows.num_rows)]).append_column(CLOCK, clock)
        wanted = again.filter(pa.array(clock.to_numpy() >= NEVER))
        held = together([*self._again, wanted])
        self._again = [held.slice(max(0, held.num_rows - MOST))]
        self._wanted = [b.orders(self._again[0])]

    def _turns(self, rows: pa.RecordBatch, highest: Ints) -> tuple[Mask, Mask]:
        """Whose turn it is, and whose it will be in the next stretch of time."""
        if not self._reach:
            return np.zeros(rows.num_rows, bool), np.zeros(rows.num_rows, bool)
        names, stretch = self._names(rows), highest // self._reach
        now, soon = (chosen(sampling.in_turn(names, each), self._share) for each in (stretch, stretch + 1))
        return now, soon

    def _names(self, rows: pa.RecordBatch) -> Hashes:
        if self._per_entity:
            return sampling.of_texts(rows.column(b.ENTITY))
        return np.repeat(sampling.of_texts(pa.array([str(self._partition)])), rows.num_rows)

    def _keep_time(self, rows: pa.RecordBatch, highest: Ints, fed: Mask, now: Mask) -> None:
        """Let the row by which time came where it is at each row to compare be among those that are taken in."""
        before = np.concatenate([[self._clock], highest[:-1]])
        moved = np.maximum.accumulate(np.where(highest > before, np.arange(rows.num_rows), -1))
        needed = moved[now]
        if self._unsaid is not None and (needed < 0).any():
            self._hold(self._unsaid, np.array([NEVER - 1]))
            self._unsaid = None
        fed[needed[needed >= 0]] = True
        last = int(moved[-1])
        if self._reach and last >= 0:
            self._unsaid = None if fed[last] else rows.take(pa.array([last]))  # a slice would hold all of them

    def _hold(self, rows: pa.RecordBatch, clock: Ints) -> None:
        self._taken.append(rows.append_column(CLOCK, pa.array(clock)))
        self._wanted.append(b.orders(rows)[clock >= NEVER])
