"""Served rows beside the same rows computed again from records, partition by partition, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from headrace.skew.findings import Feature, Findings, count
from headrace.skew.spans import RECORDS, SERVED, Span
from runtime.ports import LogReader, Place
from runtime.tail import story
from schemas import batch as b
from schemas.checks import windowed
from schemas.columns import together
from schemas.pipeline import Pipeline
from services.features.domain.computing import Computation
from services.features.domain.pairing import Pairs, behind, pair, tops
from services.features.rewind import inputs_again

CHUNK = 4 * b.MAX_ROWS

OnProgress = Callable[[int], None]
"""Is told by how many messages of records the check has come further."""


class Check:
    """Of one pipeline.

    Args:
        log: The log.
        spec: The pipeline.
        on_progress: Is told of each step.
    """

    def __init__(self, log: LogReader, spec: Pipeline, on_progress: OnProgress = lambda _: None) -> None:
        self._log, self._spec, self._on_progress = log, spec, on_progress
        self._windowed = frozenset(windowed(spec))
        self.findings = Findings({name: Feature() for name in spec.features})

    def run(self, span: Span) -> None:
        """Check one partition's part."""
        again = Again(self._log, self._spec, span, self._on_progress)
        for served in self._served(span):
            again.reach(served)
            self._take(pair(served, again.rows), refused=again.refused)
            again.drop(tops(served))

    def _served(self, span: Span) -> Iterator[pa.RecordBatch]:
        """What was served, each row once, in parts that are worth a comparison."""
        held: list[pa.RecordBatch] = []
        for message in self._log.read(Place(SERVED, span.partition), span.start, span.stop):
            if (headers := story(message)) is None:
                continue
            rows, _ = span.served.take(SERVED, message.offset, b.decode(message.value), headers)
            specs = self.findings.specs
            specs[headers.pipeline] = specs.get(headers.pipeline, 0) + rows.num_rows
            held += [rows] if rows.num_rows else []
            if sum(each.num_rows for each in held) >= CHUNK:
                yield together(held)
                held = []
        if held:
            yield together(held)

    def _take(self, pairs: Pairs, *, refused: bool) -> None:
        found = self.findings
        comparable = ~pairs.windowless(self._windowed) if refused else np.ones(pairs.served.num_rows, bool)
        found.rows += pairs.served.num_rows
        found.missing += pairs.missing.num_rows
        found.windowless += int((~comparable).sum())
        skewed = np.zeros(pairs.served.num_rows, bool)
        for name, feature in found.features.items():
            if name in pairs.served.schema.names:
                compared = comparable if name in self._windowed else np.ones(len(comparable), bool)
                differing = pairs.differing(name) & compared
                feature.rows += int(compared.sum())
                count(feature, name, pairs, np.flatnonzero(differing))
                skewed |= differing
        found.skewed += int(skewed.sum())


class Again:
    """Rows of one partition computed again, as far as somebody asks.

    Args:
        log: The log.
        spec: The pipeline.
        span: What is checked.
        on_progress: Is told of each step.
    """

    def __init__(self, log: LogReader, spec: Pipeline, span: Span, on_progress: OnProgress) -> None:
        self._fold, self._partition, self._on_progress = span.records, span.partition, on_progress
        self._computation = Computation(spec)
        self._computation.begin(span.partition)
        self._mark = self._fold.marks[RECORDS]
        self._messages = inputs_again(log, self._fold, {RECORDS: span.end - 1}, span.partition)
        self._held: list[pa.RecordBatch] = []
        self._first: tuple[int, int] | None = None
        self._warm = False
        self.rows = pa.RecordBatch.from_pylist([], schema=self._computation.schema)
        """Computed rows, from the first one that was asked for on."""

    @property
    def refused(self) -> bool:
        """Whether entities found no place: which ones may have been others when the rows were served."""
        return self._computation.refused > 0

    def reach(self, served: pa.RecordBatch) -> None:
        """Compute until all of these rows are passed, or records end."""
        if self._first is None:
            self._first = int(b.sources(served)[0]), int(b.orders(served)[0])
        wanted = tops(served)
        while not self._passed(wanted) and (found := next(self._messages, None)) is not None:
            _, each = found
            self._held.append(self._fold.take(RECORDS, each.offset, each.batch, each.headers)[0])
            if sum(rows.num_rows for rows in self._held) >= CHUNK:
                self._compute()
        self._compute()

    def drop(self, passed: Mapping[int, int]) -> None:
        """Forget the rows up to these."""
        self.rows = behind(self.rows, passed)

    def _passed(self, wanted: Mapping[int, int]) -> bool:
        known = self._fold.tops.get(b.EVENTS, {})
        return all(known.get(source, -1) >= order for source, order in wanted.items())

    def _compute(self) -> None:
        rows, self._held = together(self._held) if self._held else self.rows.slice(0, 0), []
        if rows.num_rows:
            again = self._computation.compute(rows, [(self._partition, rows.num_rows)])
            self.rows = together([self.rows, again if self._warm else self._from_first(again)])
        self._on_progress(self._fold.marks[RECORDS] - self._mark)
        self._mark = self._fold.marks[RECORDS]

    def _from_first(self, again: pa.RecordBatch) -> pa.RecordBatch:
        """Without the rows that were only read for windows: both topics have the same rows in the same order."""
        source, order = self._first or (0, 0)
        at = np.flatnonzero((b.sources(again) == source) & (b.orders(again) >= order))
        self._warm = len(at) > 0
        return again.slice(int(at[0])) if self._warm else again.slice(0, 0)
