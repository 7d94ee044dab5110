"""Features: records to features, and scored with outcomes to examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from runtime.fold import slowest, watermark
from runtime.metrics import Metrics
from runtime.ports import LogReader, Message, Outgoing, Place, Polled
from runtime.stage import Decoded, Stage, Taken, decode, gathered, parted, rounds
from schemas import batch as b
from schemas import cloudevents
from schemas.pipeline import Pipeline
from services.features.auditing import SHARE, Audit
from services.features.domain.computing import Computation
from services.features.domain.labelled import times
from services.features.domain.waiting import Spill
from services.features.joining import INPUTS, Joiner
from services.features.known import Known
from services.features.windowing import rows_again

Messages = Mapping[str, Sequence[Decoded]]


class Features:
    """The handler: two steps that share their partitions.

    Args:
        spec: The pipeline.
        letters: Number of partitions of dead-letters.
        metrics: Where rows are counted.
        spill: Where the columns of rows that wait go when there are too many in a partition.
        share: Share of the served rows that are computed again to find skew, 0 for none.
        form: How its CloudEvents are laid into Kafka messages.
    """

    inputs = ("records", *INPUTS)
    follows: tuple[str, ...] = ()
    leads = False

    def __init__(
        self,
        spec: Pipeline,
        letters: int,
        metrics: Metrics,
        spill: Spill | None = None,
        share: float = SHARE,
        form: cloudevents.Form = "structured",
    ) -> None:
        self._spec, self._letters, self._metrics = spec, letters, metrics
        self._computation = Computation(spec)
        self._stage = Stage("records", "features", spec.digest)
        self._joiners: dict[int, Joiner] = {}
        self._known: dict[int, Known] = {}
        self._spill = spill
        self._audit = Audit(spec, metrics, share, form)

    def restore(self, place: Place, log: LogReader) -> Sequence[Outgoing]:
        """Both inputs of the join are restored with the first of them."""
        if place.topic == "records":
            self._rebuild(place.partition, self._stage.restore(place.partition, log), log)
            return ()
        if place.partition in self._joiners:
            return ()
        joiner = Joiner(self._spec, place.partition, self._computation.schema, self._letters, self._spill)
        owed = joiner.restore(log)
        self._joiners[place.partition] = joiner
        return owed

    def follow(self, log: LogReader) -> Mapping[Place, int]:  # noqa: ARG002 - there is nothing to follow
        """Nothing."""
        return {}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """Features first: somebody waits for them. Examples when the dead letters of labels that they cover are out."""
        partitions = _by_partition(polled)
        if features := list(self._compute(partitions)):
            yield features
        letters: list[Outgoing] = []
        examples: list[Outgoing] = []
        for partition, messages in partitions.items():
            if partition in self._joiners and any(topic in messages for topic in INPUTS):
                self._audit.served(partition, messages.get("scored", ()))
                refused, joined = self._joiners[partition].handle(messages, self._metrics)
                letters += refused
                examples += joined
        self._measure()
        if letters:
            yield letters
        if examples:
            yield examples

    def tick(self, now: int) -> Sequence[Outgoing]:
        """Skew that was found, and how far the join has read where no example has said it."""
        skewed = self._audit.look(now, refused=self._computation.refused > 0)
        return [*skewed, *(each for joiner in self._joiners.values() for each in joiner.tick())]

    def forget(self, place: Place) -> None:
        """Drop what is known of a lost partition."""
        if place.topic == "records":
            self._stage.forget(place.partition)
            self._computation.forget(place.partition)
            self._known.pop(place.partition, None)
            self._audit.forget(place.partition)
        else:
            self._joiners.pop(place.partition, None)

    def _rebuild(self, partition: int, restored: Message | None, log: LogReader) -> None:
        """Windows are what rows and labels make of them: they are computed again, and nobody hears of it."""
        self._computation.begin(partition)
        self._audit.begin(partition)
        of_rows, of_labels = self._computation.reaches
        if of_labels:
            self._known[partition] = Known(partition)
            for labels in self._known[partition].restore(restored, log, of_labels):
                self._computation.arrive(partition, labels)
        if of_rows or of_labels:
            for rows in rows_again(log, partition, restored, of_rows + self._audit.margin):
                self._computation.compute(rows, [(partition, rows.num_rows)])
                if of_rows:
                    self._audit.again(partition, rows)
        self._audit.resume(partition, restored, log)

    def _lane(self, partition: int, messages: Messages) -> Iterator[Taken]:
        """New rows, and what they know: each part is computed before the next one is asked for."""
        known, records = self._known.get(partition), messages.get("records", ())
        if known is None:
            yield from self._stage.take(partition, records) if records else ()
            return
        known.add(messages.get("outcomes", ()))
        for part in known.parts(records) if records else ((),):
            for labels in known.let_in():
                self._computation.arrive(partition, labels)
            yield from map(known.told, self._stage.take(partition, part))

    def _compute(self, partitions: Mapping[int, Messages]) -> Iterator[Outgoing]:
        lanes = [(each, self._lane(each, of)) for each, of in partitions.items()]
        for turn in rounds(lanes):
            refused = self._computation.refused
            rows = self._computation.compute(gathered(turn), [(each, taken.batch.num_rows) for each, taken in turn])
            for each, taken in turn:
                self._audit.take(each, taken.batch)
            self._metrics.windowless.inc(self._computation.refused - refused)
            self._metrics.rows.labels("features").inc(rows.num_rows)
            self._metrics.late.labels(b.EVENTS).inc(sum(late(taken, self._spec.drift.lateness) for _, taken in turn))
            for part in parted(turn, rows):
                yield from self._stage.emit(*part)

    def _measure(self) -> None:
        """Show how far time has come, and what waits in the join."""
        joiners = self._joiners.values()
        labels = slowest(joiner.watermark(b.LABELS) for joiner in joiners)
        for stream, passed in ((b.EVENTS, self._stage.watermark(b.EVENTS)), (b.LABELS, labels)):
            if passed is not None:
                self._metrics.watermark.labels(stream).set(passed / 1000)
        for stream, index in ((b.EVENTS, 0), (b.LABELS, 1)):
            self._metrics.waiting.labels(stream).set(sum(joiner.waiting[index] for joiner in joiners))


def late(taken: Taken, lateness: int) -> int:
    """How many rows are older than what had been passed before them, by more than `lateness` milliseconds."""
    passed = watermark(taken.before.watermarks.get(b.EVENTS, {}))
    if passed is None:
        return 0
    return int((times(taken.batch) < passed - lateness).sum())


def _by_partition(polled: Sequence[Polled]) -> dict[int, dict[str, list[Decoded]]]:
    """All messages, decoded before any state is touched."""
    out: dict[int, dict[str, list[Decoded]]] = {}
    for each in polled:
        out.setdefault(each.partition, {}).setdefault(each.topic, []).extend(decode(each))
    return out
