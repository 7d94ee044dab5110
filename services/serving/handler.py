"""features → scored and predictions, with whatever pool was announced last and is known to answer as it should."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, repeat

import polars as pl
import pyarrow as pa

from runtime.announced import Announced
from runtime.artefact import ModelRefused
from runtime.errors import Transient
from runtime.metrics import Metrics
from runtime.online import OtherFile
from runtime.ports import LogReader, Message, Outgoing, Place, Polled
from runtime.signing import Keys
from runtime.stage import Stage, decode, gathered, parted, rounds
from runtime.tail import story
from runtime.weighed import WEIGHTS, Weighed, tail
from schemas import batch as b
from schemas import cloudevents
from schemas.columns import completed, feature_columns
from schemas.messages import Decision, Member, Pool, Scalar, Step
from schemas.pipeline import Pipeline
from schemas.pooling import Online, Weights
from schemas.predictions import Predictions
from services.serving.domain.pool import Scorer, ServedPool, scored

logger = logging.getLogger("headrace.serving")

SERVICE = "serving"
TOLD = [b.EVENT_ID, b.ENTITY, b.TIME, b.TRACEPARENT, b.SOURCE, b.POSITION, b.ROW, b.PREDICTION, b.POOL]
"""The columns that a prediction is made of."""

PIECES = 64
"""Offsets of `scored` in which all pieces of the last batch lie."""

AGAIN_MS = 5_000
"""How long to leave a store in peace that was away: asking it may hold up the rows."""

SLACK = 2_000
"""Predictions of another writer that may lie among the newest ones: what a zombie had under way."""


class Serving:
    """Scores feature rows, tells predictions, swaps pools.

    Args:
        spec: The pipeline.
        load: Fetches, verifies, loads and warms up a member's model. Raises ModelRefused or Transient.
        metrics: Where counts go.
        form: How its CloudEvents are laid into Kafka messages.
        keys: Whose announcements are believed; by default nobody's.
        load_online: Fetches and verifies a snapshot of the online member. Raises ModelRefused or Transient.
    """

    inputs = ("features",)
    follows = ("models", WEIGHTS.topic)
    leads = False

    def __init__(
        self,
        spec: Pipeline,
        load: Callable[[Member], Scorer],
        metrics: Metrics | None = None,
        form: cloudevents.Form = "structured",
        keys: Keys | None = None,
        load_online: Callable[[Online], Scorer] | None = None,
    ) -> None:
        self._load, self._load_online, self._metrics = load, load_online, metrics or Metrics()
        self._encoder, self._form = Predictions(spec, form), form
        self._source = cloudevents.source_of(spec.pipeline, SERVICE)
        self._stage = Stage("features", "scored", spec.digest)
        self._columns, self._target = feature_columns(spec), spec.target
        self._told = [*TOLD, b.PROBABILITIES] if self._target.width > 1 else TOLD
        self._keys = keys or Keys()
        self._announced, self._weighed = Announced(self._keys, self._metrics), Weighed(self._keys, self._metrics)
        self._judged = 0
        self._again = 0
        self._pool: ServedPool | None = None
        self._passed_over: Weights | None = None
        self._written_over = False
        self._online: tuple[Online, Scorer] | None = None

    @property
    def pool(self) -> ServedPool | None:
        """The pool in service, None before the first; may be read from any thread, once per answer."""
        return self._pool

    def restore(self, place: Place, log: LogReader) -> list[Outgoing]:
        """Take the fold from the tail of `scored`; return the predictions of its last batch that are not out."""
        message = self._stage.restore(place.partition, log)
        if message is None:
            return []
        rows = _last_batch(log, Place("scored", place.partition), message)
        return self._predictions(repeat(place.partition), _without(rows, _told(log, place.partition, rows.num_rows)))

    def follow(self, log: LogReader) -> Mapping[Place, int]:
        """From the first announcement kept; what is announced by now is in service before the first row."""
        place = Place("models", 0)
        return {place: log.begin(place), WEIGHTS: tail(log, self._keys)}

    def forget(self, place: Place) -> None:
        """Drop the fold of a lost partition."""
        self._stage.forget(place.partition)

    def tick(self, now: int) -> Sequence[Outgoing]:
        """Ask for the announced pool again where the store was away."""
        if self._pool is None or now < self._again:
            return ()
        self._again = now + AGAIN_MS
        return self._follow_pool()

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        """Swap first, then score: the predictions of a batch are out before the next scored batch is.

        The first pool is waited for. Later ones are not: the old one answers until the new one is here.
        """
        batches = [(run.partition, decode(run)) for run in polled if run.topic == "features"]
        announced = [message for run in polled if run.topic == "models" for message in run.messages]
        for message in announced:
            self._announced.take(message)
        for message in (message for run in polled if run.topic == WEIGHTS.topic for message in run.messages):
            self._weighed.take(message)
        if (announced or self._pool is None) and (decided := self._follow_pool()):
            yield decided
        version, number = self._follow_weights()
        if batches:
            self._tell_written_over()
        for turn in rounds((partition, self._stage.take(partition, messages)) for partition, messages in batches):
            rows = scored(completed(gathered(turn), self._columns), self._pool, self._target)
            parts = list(parted(turn, rows))
            yield [each for part in parts for each in self._stage.emit(*part, pool=version, weights=number)]
            if rows.num_rows:
                yield self._predictions(chain.from_iterable(repeat(p, part.num_rows) for p, _, part in parts), rows)
            self._metrics.rows.labels("scored").inc(rows.num_rows)

    # --- the pool -----------------------------------------------------------------------------

    def _follow_pool(self) -> list[Outgoing]:
        """Put the announced pool into service, or say why not: once per version.

        Raises:
            Transient: The store is away, and there is no pool that could answer meanwhile.
        """
        wanted = self._announced.pool
        if wanted is None or wanted.version <= self._judged:
            return []
        try:
            models = {version: self._model(version) for version in wanted.members}
        except Transient as error:
            if self._pool is None:
                raise
            logger.warning("pool_waits", extra={"pool": wanted.version, "error": str(error)})
            return []
        except ModelRefused as error:
            stays = "no model yet" if self._pool is None else f"pool {self._pool.version} stays"
            self._metrics.refused_models.labels("artefact").inc()
            decided = self._decision(wanted, "refused", stays, str(error))
        else:
            reason = f"fetched, verified and warmed up; {_before(self._pool)}"
            self._pool = ServedPool(wanted, models, self._target)
            self._follow_weights()
            self._metrics.pool.set(wanted.version)
            decided = self._decision(wanted, "swapped", f"pool {wanted.version} answers", reason)
        self._judged = wanted.version
        return [decided]

    def _follow_weights(self) -> tuple[int, int]:
        """Put the newest checkpoint of the pool in service; pool and checkpoint that rule from now on."""
        if self._pool is None:
            return 0, 0
        ruling = self._weighed.of(self._pool.version)
        if ruling is not self._pool.ruling and ruling is not self._passed_over:
            try:
                self._pool, self._written_over = self._pool.ruled(ruling, self._snapshot(ruling)), False
            except (ModelRefused, Transient) as error:  # the checkpoint before rules on, until the next one comes
                self._passed_over, self._written_over = ruling, isinstance(error, OtherFile)
                logger.warning("weights_ignored", extra={"why": "artefact", "error": str(error)})
        return self._pool.version, self._pool.number

    def _tell_written_over(self) -> None:
        """Count a snapshot that is another file than was announced; before there are rows, a newer one may be known."""
        if self._written_over:
            self._metrics.refused_models.labels("artefact").inc()
            self._written_over = False

    def _snapshot(self, ruling: Weights | None) -> Scorer | None:
        """The online member that a checkpoint names."""
        said = None if ruling is None else ruling.online
        if said is None or self._load_online is None:
            return None
        if self._online is None or self._online[0] != said:
            self._online = said, self._load_online(said)
        return self._online[1]

    def _model(self, version: int) -> Scorer:
        if self._pool is not None and version in self._pool.models:
            return self._pool.models[version]
        member = self._announced.members.get(version)
        if member is None:
            raise ModelRefused(f"member {version} of the pool was never announced")
        return self._load(member)

    def _decision(self, pool: Pool, step: Step, outcome: str, reason: str) -> Outgoing:
        logger.info("decided", extra={"subject": f"pool {pool.version}", "step": step, "reason": reason})
        evidence: dict[str, Scalar] = {"pool": pool.version, "leader": pool.leader}
        decision = Decision(
            subject=f"{pool.model}/pool/{pool.version}",
            step=step,
            service=SERVICE,
            outcome=outcome,
            reason=reason,
            evidence=evidence,
        )
        value, headers = cloudevents.encode(
            decision, id=decision.id, source=self._source, subject=decision.subject, form=self._form
        )
        return Outgoing("decisions", 0, value, decision.subject.encode(), headers)

    # --- predictions --------------------------------------------------------------------------

    def _predictions(self, partitions: Iterable[int], rows: pa.RecordBatch) -> list[Outgoing]:
        """One message per row, to the partition that is given for it."""
        if not rows.num_rows:
            return []
        frame = pl.DataFrame(pl.from_arrow(rows.select(self._told)))
        keys, values, headers = self._encoder.encode(frame)
        told = zip(repeat("predictions"), partitions, values, keys, headers)
        return list(map(_outgoing, told))


_outgoing: Callable[[Iterable[object]], Outgoing] = partial(tuple.__new__, Outgoing)
"""A message of its fields without a Python call: there is one for every event."""


def _before(pool: ServedPool | None) -> str:
    return "the first one" if pool is None else f"pool {pool.version} answered until now"


def _last_batch(log: LogReader, place: Place, newest: Message) -> pa.RecordBatch:
    """All rows of the last scored batch, however many pieces and attempts it was written in."""
    covered = _covers(newest)
    start = max(log.begin(place), newest.offset - PIECES)
    pieces = [
        b.decode(message.value) for message in log.read(place, start, newest.offset + 1) if _covers(message) == covered
    ]
    return pa.concat_batches(pieces)


def _covers(scored: Message) -> int | None:
    """The last offset of features that a scored batch covers, None for a foreign message."""
    headers = story(scored)
    return None if headers is None or "features" not in headers.coverage else headers.coverage["features"][1]


def _told(log: LogReader, partition: int, rows: int) -> set[str]:
    """Ids of the newest predictions."""
    place = Place("predictions", partition)
    end = log.end(place)
    newest = log.read(place, max(log.begin(place), end - rows - SLACK), end)
    return {name for message in newest if (name := _id(message)) is not None}


def _id(message: Message) -> str | None:
    try:
        return cloudevents.decode(message.value or b"", message.headers).id
    except cloudevents.EnvelopeError as error:
        logger.warning("foreign_message_ignored", extra={"offset": message.offset, "error": str(error)})
        return None


def _without(rows: pa.RecordBatch, told: set[str]) -> pa.RecordBatch:
    """The rows that no prediction tells yet, each once."""
    names = zip(*(rows.column(name).to_pylist() for name in (b.SOURCE, b.POSITION, b.ROW)), strict=True)
    places = {"-".join(map(str, name)): index for index, name in enumerate(names)}
    missing = {name: index for name, index in places.items() if name not in told}
    return rows.take(pa.array(list(missing.values()), pa.int64()))
