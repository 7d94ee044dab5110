"""The sampler: are served rows what the current code makes of their records? Every difference is counted and told.

It compares what comes back on `scored`, so it sees what the model saw: rows of an owner before with other code, columns
that were mixed up on the way, and a state of windows that is not what the rows make of it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from runtime.fold import Fold
from runtime.metrics import Metrics
from runtime.ports import LogReader, Message, Outgoing, Place
from runtime.stage import Decoded
from runtime.tail import story
from schemas import batch as b
from schemas import cloudevents
from schemas.checks import windowed
from schemas.messages import Decision, Scalar
from schemas.pipeline import Pipeline
from services.features.domain.pairing import Pairs, of_records
from services.features.domain.sampling import Mask
from services.features.domain.shadow import Shadow
from services.features.rewind import inputs_again

log = logging.getLogger("headrace.features")

SERVICE = "features"
SHARE = 0.001

TAIL = 32
"""Messages of `scored`, and of `records` where there are no windows, that a new owner checks again."""

MARGIN = 24
"""A new owner reads further back than windows reach by this part of it, and checks what was served in it."""

QUIET_MS = 3_600_000
"""A feature of a partition has one line in the ledger in such a time; the metric counts every row."""


class Audit:
    """All partitions of a process.

    Args:
        spec: The pipeline.
        metrics: Where rows are counted.
        share: Share of rows to check, 0 for none.
        form: How its CloudEvents are laid into Kafka messages.
    """

    def __init__(self, spec: Pipeline, metrics: Metrics, share: float, form: cloudevents.Form = "structured") -> None:
        self._spec, self._metrics, self._share, self._form = of_records(spec), metrics, share, form
        self._windowed = frozenset(windowed(self._spec))
        self._shadows: dict[int, Shadow] = {}
        self._told: dict[tuple[int, str], int] = {}
        for features in ("expressions", "windows"):
            metrics.audited.labels(features)  # a counter that appears when it is 1 has not grown for Prometheus

    @property
    def margin(self) -> int:
        """How much further than windows reach a restart has to read back, milliseconds."""
        return self._spec.longest_window // MARGIN if self._share else 0

    def begin(self, partition: int) -> None:
        """Begin with a partition of which nothing was seen."""
        if self._share:
            self._shadows[partition] = Shadow(self._spec, partition, self._share)

    def forget(self, partition: int) -> None:
        """Drop a lost partition."""
        self._shadows.pop(partition, None)

    def take(self, partition: int, rows: pa.RecordBatch) -> None:
        """New rows of records."""
        if partition in self._shadows:
            self._shadows[partition].take(rows)

    def again(self, partition: int, rows: pa.RecordBatch) -> None:
        """Rows of records that are read again after a restart: there are many."""
        if partition in self._shadows:
            self._shadows[partition].take(rows)
            self._shadows[partition].compute()

    def resume(self, partition: int, restored: Message | None, log: LogReader) -> None:
        """Go on behind the output's message; what was served last, by whomever, is checked with the rest."""
        if partition not in self._shadows:
            return
        if not self._windowed:
            for rows in _newest_records(log, partition, restored):
                self.again(partition, rows)
        self._shadows[partition].rewound(self.margin)
        last = log.end(Place("scored", partition)) - 1
        for each in _newest(log, "scored", partition, last):
            self.served(partition, [each])

    def served(self, partition: int, messages: Sequence[Decoded]) -> None:
        """Rows as they were scored."""
        if partition in self._shadows:
            for each in messages:
                self._shadows[partition].served(each.batch)

    def look(self, now: int, *, refused: bool) -> list[Outgoing]:
        """Compare what was served since the last look, and tell of what differs.

        Args:
            now: Milliseconds since the epoch.
            refused: Whether entities were refused: their rows have no windows.
        """
        told: list[Outgoing] = []
        for partition, shadow in self._shadows.items():
            pairs = shadow.look()
            if pairs is not None:
                differing = self._differing(pairs, shadow.comparable(pairs), refused=refused or shadow.refused)
                told += self._tell(partition, pairs, differing, now)
        return told

    def _differing(self, pairs: Pairs, comparable: Mask, *, refused: bool) -> dict[str, Mask]:
        """Where each feature differs; counts the rows."""
        if refused:
            comparable &= ~pairs.windowless(self._windowed)
        masks = {name: pairs.differing(name) for name in self._spec.features}
        masks = {name: mask & comparable if name in self._windowed else mask for name, mask in masks.items()}
        self._metrics.audited.labels("expressions").inc(len(comparable))
        self._metrics.audited.labels("windows").inc(int(comparable.sum()) if self._windowed else 0)
        self._metrics.skewed.inc(int(np.any(list(masks.values()), axis=0).sum()))
        return masks

    def _tell(self, partition: int, pairs: Pairs, masks: dict[str, Mask], now: int) -> Iterator[Outgoing]:
        for name, mask in masks.items():
            last = self._told.get((partition, name))
            if mask.any() and (last is None or now - last >= QUIET_MS):
                self._told[partition, name] = now
                yield self._line(partition, name, pairs, np.flatnonzero(mask).tolist())

    def _line(self, partition: int, feature: str, pairs: Pairs, rows: Sequence[int]) -> Outgoing:
        (row,) = pairs.served.slice(rows[0], 1).to_pylist()
        served, again = (shown(side.column(feature)[rows[0]].as_py()) for side in (pairs.served, pairs.again))
        identity = f"{row[b.SOURCE]}-{row[b.POSITION]}-{row[b.ROW]}"
        evidence: dict[str, Scalar] = {
            "feature": feature,
            "row": identity,
            "event_id": row[b.EVENT_ID],
            "entity": row[b.ENTITY],
            "served": served,
            "recomputed": again,
            "partition": partition,
            "rows": len(rows),
            "compared": pairs.served.num_rows,
        }
        decision = Decision.written(
            subject=f"{feature}@{identity}",
            step="skewed",
            service=SERVICE,
            outcome="a row was served with another value than its records give",
            reason=f"{feature} of event {row[b.EVENT_ID]} was served as {served!r}; computed again it is {again!r}",
            evidence=evidence,
            time=row[b.TIME],
        )
        log.error("skew_found", extra=evidence)
        return self._event(decision)

    def _event(self, decision: Decision) -> Outgoing:
        value, headers = cloudevents.encode(
            decision,
            id=decision.id,
            source=cloudevents.source_of(self._spec.pipeline, SERVICE),
            subject=decision.subject,
            time=decision.time,
            form=self._form,
        )
        return Outgoing("decisions", 0, value, decision.subject.encode(), headers)


def shown(value: object) -> Scalar:
    """A feature's value as evidence: a number that JSON has none for as its text."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value if isinstance(value, float | str | bool | int) or value is None else str(value)


def _newest_records(log: LogReader, partition: int, restored: Message | None) -> Iterator[pa.RecordBatch]:
    """Rows of the last messages that the own output covers."""
    headers = None if restored is None else story(restored)
    if headers is None:
        return
    first, last = headers.coverage["records"]
    fold = Fold(("records",))
    for each in _newest(log, "records", partition, last if headers.final else first - 1):
        yield fold.take("records", each.offset, each.batch, each.headers)[0]


def _newest(log: LogReader, topic: str, partition: int, last: int) -> Iterator[Decoded]:
    fold = Fold((topic,))
    fold.marks[topic] = max(-1, last - TAIL)
    return (each for _, each in inputs_again(log, fold, {topic: last}, partition))
