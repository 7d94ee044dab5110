"""Features: records to features, and scored with outcomes to examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from runtime.metrics import Metrics
from runtime.ports import LogReader, Outgoing, Place, Polled
from runtime.stage import Decoded, Stage, decode
from schemas.pipeline import Pipeline
from services.features.domain.computing import Computation
from services.features.joining import INPUTS, Joiner

Messages = Mapping[str, Sequence[Decoded]]


class Features:
    """The handler: two steps that share their partitions.

    Args:
        spec: The pipeline.
        letters: Number of partitions of dead-letters.
        metrics: Where rows are counted.
    """

    inputs = ("records", *INPUTS)
    follows: tuple[str, ...] = ()
    leads = False

    def __init__(self, spec: Pipeline, letters: int, metrics: Metrics) -> None:
        self._spec, self._letters, self._metrics = spec, letters, metrics
        self._computation = Computation(spec)
        self._stage = Stage("records", "features", spec.digest)
        self._joiners: dict[int, Joiner] = {}

    def restore(self, place: Place, log: LogReader) -> Sequence[Outgoing]:
        """Both inputs of the join are restored with the first of them."""
        if place.topic == "records":
            self._stage.restore(place.partition, log)
            return ()
        if place.partition in self._joiners:
            return ()
        joiner = Joiner(self._spec, place.partition, self._computation.schema, self._letters)
        owed = joiner.restore(log)
        self._joiners[place.partition] = joiner
        return owed

    def follow(self, log: LogReader) -> Mapping[Place, int]:  # noqa: ARG002 - there is nothing to follow
        """Nothing."""
        return {}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """Features and dead letters first; the examples that cover those labels when they are on the log."""
        partitions = _by_partition(polled)
        now: list[Outgoing] = []
        later: list[Outgoing] = []
        for partition, messages in partitions.items():
            if "records" in messages:
                now += self._compute(partition, messages["records"])
            if any(topic in messages for topic in INPUTS):
                letters, examples = self._joiners[partition].handle(messages, self._metrics)
                now += letters
                later += examples
        if any(each.topic == "dead-letters" for each in now):
            yield now
            yield later
        else:
            yield [*now, *later]

    def tick(self, now: int) -> Sequence[Outgoing]:  # noqa: ARG002 - all time is event time
        """Nothing."""
        return ()

    def forget(self, place: Place) -> None:
        """Drop what is known of a lost partition."""
        if place.topic == "records":
            self._stage.forget(place.partition)
        else:
            self._joiners.pop(place.partition, None)

    def _compute(self, partition: int, messages: Sequence[Decoded]) -> Iterator[Outgoing]:
        for taken in self._stage.take(partition, messages):
            self._metrics.rows.labels("features").inc(taken.batch.num_rows)
            yield from self._stage.emit(partition, taken, self._computation.compute(taken.batch))


def _by_partition(polled: Sequence[Polled]) -> dict[int, dict[str, list[Decoded]]]:
    """All messages, decoded before any state is touched."""
    out: dict[int, dict[str, list[Decoded]]] = {}
    for each in polled:
        out.setdefault(each.partition, {}).setdefault(each.topic, []).extend(decode(each))
    return out
