"""The specification on the topic `pipeline`: what runs, whether another one may follow it, and telling it."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import yaml

from runtime.errors import WrongSetup
from runtime.kafka import KafkaCarrier, KafkaLog
from runtime.ports import Clock, LogReader, Outgoing, Place
from schemas import cloudevents
from schemas.evolution import DURATIONS, NEW_LOG, compare, refusals
from schemas.messages import PipelineAnnounced
from schemas.pipeline import Pipeline, PipelineError, parse
from schemas.quantities import duration

KEY = b"pipeline"
PLACE = Place("pipeline", 0)
SERVICE = "bootstrap"


def announced(log: LogReader) -> PipelineAnnounced | None:
    """The newest announcement of a pipeline, None where there is none that this version understands."""
    newest = None
    for message in log.read(PLACE, log.begin(PLACE), log.end(PLACE)):
        newest = message if message.key == KEY else newest
    if newest is None:
        return None
    try:
        return cloudevents.decode(newest.value or b"", newest.headers).read(PipelineAnnounced)
    except cloudevents.EnvelopeError:
        return None


def running(known: PipelineAnnounced, brokers: str) -> Pipeline:
    """The specification that was announced.

    Raises:
        WrongSetup: This version cannot read it.
    """
    try:
        return parse(known.text, name=f"{known.name} at {brokers}")
    except PipelineError as error:
        raise WrongSetup(
            f"pipeline {known.name!r} runs at {brokers} with a specification that this version of Headrace cannot "
            f"read, so nothing can be compared with it. Use the version that announced it, or {NEW_LOG}.\n{error}"
        ) from error


def refuse_breaks(brokers: str, spec: Pipeline) -> None:
    """Return when the specification may follow the one that was announced, if any.

    Raises:
        WrongSetup: It may not; the text names each change with its reason and the way.
    """
    with closing(KafkaLog(brokers, spec.pipeline, SERVICE)) as log:
        known = announced(log)
    if known is None or known.digest == spec.digest:
        return
    if found := refusals(compare(running(known, brokers), spec)):
        lines = "\n".join(f"  {each}" for each in found)
        raise WrongSetup(
            f"pipeline {spec.pipeline!r} runs at {brokers} and must not change so:\n{lines}\n"
            f"Or {NEW_LOG}. `headrace validate --against {brokers}` shows all changes."
        )


def announce(brokers: str, spec: Pipeline, text: str | None, partitions: int, clock: Clock) -> bool:
    """Whether the specification was written, because it was new or had changed.

    Args:
        brokers: ``host:port``, several with commas.
        spec: The pipeline.
        text: Its file as it was written; absent: the specification, written out.
        partitions: P.
        clock: Whose time the announcement carries.
    """
    message = PipelineAnnounced(
        name=spec.pipeline, digest=spec.digest, text=text or written_out(spec), partitions=partitions
    )
    with closing(KafkaCarrier(brokers, spec.pipeline, SERVICE)) as carrier:
        known = announced(carrier.log)
        if known and (known.digest, known.partitions) == (message.digest, message.partitions):
            return False
        value, headers = cloudevents.encode(
            message,
            id=f"{spec.pipeline}/{spec.digest}",
            source=cloudevents.source_of(spec.pipeline, SERVICE),
            subject=spec.pipeline,
            time=datetime.fromtimestamp(clock.now() / 1000, UTC),
        )
        carrier.publish([Outgoing(*PLACE, value, KEY, headers)])
        carrier.confirm()
        return True


def written_out(spec: Pipeline) -> str:
    """The specification as a file that says the same: quantities are texts there."""
    dumped = spec.model_dump(mode="json", exclude_defaults=True)
    for block, key in (path.split(".") for path in DURATIONS):
        if key in dumped.get(block, {}):
            dumped[block][key] = duration(dumped[block][key])
    if "fits" in dumped.get("training", {}):
        dumped["training"]["fits"] = str(spec.training.fits)
    return yaml.safe_dump(dumped, sort_keys=False)
