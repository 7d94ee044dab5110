"""Makes the topics of a pipeline and announces its specification: `python -m runtime.bootstrap [--json]`.

May be run at any time and any number of times: what is there and fits stays as it is, what does not fit is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from pydantic import Field

from runtime.clock import SystemClock
from runtime.errors import HeadraceError, WrongSetup
from runtime.kafka_admin import TopicShape, topic_admin
from runtime.ports import Clock
from runtime.settings import ServiceSettings, read
from runtime.specification import PLACE, announce, refuse_breaks
from schemas.checks import several_owners
from schemas.pipeline import Pipeline, PipelineError, load
from schemas.topics import BY_NAME, DAY_MS, TOPICS, Retention, Topic, physical

PARTITIONS, EVENT_PARTITIONS = 4, 6
SPANNING: frozenset[Retention] = frozenset({"windows", "outcomes", "horizon"})
ARCHIVED, ARCHIVED_MS = "examples", 3 * DAY_MS
"""What is archived before it is deleted: a day goes by until then, and a store may be away for some."""


class Settings(ServiceSettings):
    """What the topics need to know."""

    partitions: int = Field(PARTITIONS, ge=1, le=1_000, description="P: internal partitions, fixed for ever.")
    event_partitions: int = Field(EVENT_PARTITIONS, ge=1, le=30_000, description="Partitions of new events and labels.")
    replication: int = Field(1, ge=1, le=10, description="Copies of each partition of new topics.")


@dataclass(frozen=True, slots=True)
class Report:
    """What was done.

    Attributes:
        pipeline: Name of the pipeline.
        digest: Digest of its specification.
        created: Topics that were made, by their names on the broker.
        kept: Topics that were there.
        differs: Settings of kept topics that are not what a new topic would get: `topic: key=is, not wanted`.
        announced: Whether the specification was written, because it was new or had changed.
    """

    pipeline: str
    digest: str
    created: tuple[str, ...]
    kept: tuple[str, ...]
    differs: tuple[str, ...]
    announced: bool

    def lines(self) -> Iterator[str]:
        """The report for a person."""
        yield from (f"created  {name}" for name in self.created)
        yield from (f"kept     {name}" for name in self.kept)
        yield from (f"differs  {each}" for each in self.differs)
        yield f"{'announced' if self.announced else 'unchanged'} {self.pipeline} {self.digest}"


def bootstrap(
    brokers: str,
    spec: Pipeline,
    text: str | None = None,
    partitions: int = PARTITIONS,
    event_partitions: int = EVENT_PARTITIONS,
    replication: int = 1,
    *,
    clock: Clock | None = None,
) -> Report:
    """Make what is missing and announce the specification when it is another one that the log can live with.

    Args:
        brokers: ``host:port``, several with commas.
        spec: The pipeline.
        text: Its file as it was written; absent: the specification, written out.
        partitions: P.
        event_partitions: Partitions of events and labels where they do not exist yet.
        replication: Copies of each partition of new topics.
        clock: Whose time the announcement carries.

    Raises:
        WrongSetup: No broker answers, an existing topic does not fit, windows have no owner, or the pipeline runs with
            a specification that this one must not replace. Nothing was made then.
    """
    if (reason := several_owners(spec, partitions)) is not None:
        raise WrongSetup(reason)
    wanted = {topic.physical(spec.pipeline): _shape(topic, spec, partitions, event_partitions) for topic in TOPICS}
    with topic_admin(brokers) as admin:
        existing = admin.existing(wanted)
        _refuse_misfits(spec, existing, partitions)
        if physical(spec.pipeline, PLACE.topic) in existing:
            refuse_breaks(brokers, spec)
        missing = {name: shape for name, shape in wanted.items() if name not in existing}
        admin.create(missing, replication)
    told = announce(brokers, spec, text, partitions, clock or SystemClock())
    differs = tuple(_differences(existing, wanted))
    return Report(spec.pipeline, spec.digest, tuple(missing), tuple(existing), differs, told)


def _shape(topic: Topic, spec: Pipeline, partitions: int, event_partitions: int) -> TopicShape:
    counts = {"P": partitions, "any": event_partitions, "one": 1}
    config = topic.config(horizon_ms=spec.labels.horizon, window_ms=spec.longest_window)
    return TopicShape(counts[topic.partitions], config)


def _refuse_misfits(spec: Pipeline, existing: Mapping[str, TopicShape], partitions: int) -> None:
    shapes = {topic: existing.get(topic.physical(spec.pipeline)) for topic in BY_NAME.values()}
    found = [
        each
        for topic, shape in shapes.items()
        if shape
        for each in (
            *_misfits(topic, spec.pipeline, shape, partitions),
            *_forgetful(topic, spec, shape),
            *_hasty(topic, spec, shape),
        )
    ]
    if found:
        raise WrongSetup("topics that exist do not fit:\n" + "\n".join(f"  {each}" for each in found))


def _misfits(topic: Topic, pipeline: str, shape: TopicShape, partitions: int) -> Iterator[str]:
    name = topic.physical(pipeline)
    if topic.partitions == "P" and shape.partitions != partitions:
        yield (
            f"{name} has {shape.partitions} partitions, not {partitions}: the count is fixed for the life of a log. "
            f"Set HEADRACE_PARTITIONS={shape.partitions}, or begin a new log with another `pipeline:` name."
        )
    if topic.partitions == "one" and shape.partitions != 1:
        yield (
            f"{name} has {shape.partitions} partitions, not 1: its messages have one order. Delete it (its content is "
            "lost) and run this again, or begin a new log with another `pipeline:` name."
        )
    policy = "compact" if topic.compacted else "delete"
    if shape.config.get("cleanup.policy") != policy:
        yield (
            f"{name} has cleanup.policy={shape.config.get('cleanup.policy')}, not {policy}: "
            f"{'only the newest message per key may go' if topic.compacted else 'compaction would tear holes'}. Mend: "
            f"kafka-configs.sh --alter --topic {name} --add-config cleanup.policy={policy}"
        )


def _forgetful(topic: Topic, spec: Pipeline, shape: TopicShape) -> Iterator[str]:
    """What is said of a topic whose messages the broker deletes while the pipeline still needs them."""
    kept = int(shape.config.get("retention.ms", "-1"))
    wanted = topic.retention_ms(horizon_ms=spec.labels.horizon, window_ms=spec.longest_window)
    needed = wanted - topic.days * DAY_MS
    if topic.retention in SPANNING and 0 <= kept < needed:
        name = topic.physical(spec.pipeline)
        yield (
            f"{name} has retention.ms={kept}, and the pipeline reads back {needed} ms: a label that comes within its "
            f"horizon would find nothing. Mend: kafka-configs.sh --alter --topic {name} "
            f"--add-config retention.ms={wanted}"
        )


def _hasty(topic: Topic, spec: Pipeline, shape: TopicShape) -> Iterator[str]:
    """What is said of a topic whose messages the broker deletes before training has archived them."""
    kept = int(shape.config.get("retention.ms", "-1"))
    if topic.name == ARCHIVED and 0 <= kept < ARCHIVED_MS:
        name = topic.physical(spec.pipeline)
        yield (
            f"{name} has retention.ms={kept}, and training needs {ARCHIVED_MS} ms to archive it: rows would be "
            f"lost. Mend: kafka-configs.sh --alter --topic {name} --add-config retention.ms={topic.days * DAY_MS}"
        )


def _differences(existing: Mapping[str, TopicShape], wanted: Mapping[str, TopicShape]) -> Iterator[str]:
    for name, shape in existing.items():
        for key, value in wanted[name].config.items():
            if shape.config.get(key) != value:
                yield f"{name}: {key}={shape.config.get(key)}, a new topic would get {value}"


def main() -> int:
    """Run with settings from the environment; exit code 0, or 2 with the mend on stderr."""
    parser = argparse.ArgumentParser(prog="python -m runtime.bootstrap", description="Make the topics of a pipeline.")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    as_json = parser.parse_args().json
    try:
        settings = read(Settings)
        spec = load(settings.pipeline)
        text = settings.pipeline.read_text(encoding="utf-8")
        report = bootstrap(
            settings.brokers, spec, text, settings.partitions, settings.event_partitions, settings.replication
        )
    except (HeadraceError, PipelineError) as error:
        print(f"bootstrap: {error}", file=sys.stderr)  # noqa: T201 - for the person who starts it
        return 2
    print(json.dumps(asdict(report)) if as_json else "\n".join(report.lines()))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
