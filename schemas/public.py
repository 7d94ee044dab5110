"""What travels on the public topics: which messages, and an example of each for a given pipeline.

The golden files, the examples in the AsyncAPI document and those of `headrace contract` all come from here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas import cloudevents
from schemas.event_examples import entity_example, id_example, label_value
from schemas.messages import (
    Cause,
    DeadLetter,
    Decision,
    DriftEpisode,
    Member,
    Message,
    PipelineAnnounced,
    Pool,
    Prediction,
    Source,
    Statistic,
    StreamChange,
    Wish,
    moment,
)
from schemas.topics import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.spec import Pipeline

CARRIED: dict[str, tuple[type[Message], ...]] = {
    "predictions": (Prediction,),
    "drift": (DriftEpisode,),
    "models": (Member, Pool),
    "pipeline": (PipelineAnnounced,),
    "decisions": (Decision,),
    "operator": (Wish,),
    "dead-letters": (DeadLetter,),
}
"""The messages of each public topic, except events and labels: those are the pipeline's own."""

NOON = 1_767_614_400_000
"""Time of the examples: 2026-01-05T12:00:00Z."""

DIGEST = "0123456789abcdef"
SERVICES = frozenset({"serving", "drift", "training"})
"""Who follows HEADRACE_CLOUDEVENTS."""


@dataclass(frozen=True, slots=True)
class Example:
    """A message as it travels.

    Attributes:
        topic: Logical name of its topic.
        key: Its Kafka key.
        value: Its Kafka value.
        headers: Its Kafka headers.
        message: What it says.
    """

    topic: str
    key: str
    value: bytes
    headers: list[tuple[str, bytes]]
    message: Message


def topic_of(model: type[Message]) -> str:
    """Logical name of the topic on which a message travels."""
    return next(topic for topic, models in CARRIED.items() if model in models)


def heard(model: type[Message]) -> bool:
    """Whether users write the message and Headrace reads it; the other way round otherwise."""
    return BY_NAME[topic_of(model)].public == "in"


def examples(spec: Pipeline, form: cloudevents.Form = "structured") -> tuple[Example, ...]:
    """One of each message, equal for equal pipelines; the form is that of what the services say."""
    name, entity = spec.pipeline, entity_example(spec)
    prediction, episode, member, pool = _prediction(spec), _episode(), _member(spec), _pool(name)
    said: list[tuple[Message, str, str, str]] = [
        (prediction, "serving", prediction.id, entity or prediction.event_id),
        (episode, "drift", f"{episode.id}:{episode.state}", episode.id),
        (member, "training", member.key, member.key),
        (pool, "training", f"{pool.key}/{pool.version}", pool.key),
        (_announced(name), "bootstrap", f"{name}/{DIGEST}", "pipeline"),
        (_decision(episode), "training", f"{episode.id}:triggered@{NOON}", episode.id),
        (_wish(name), "operator", "wish-1", name),
    ]
    return (*(_event(spec, *each, form) for each in said), _dead_letter())


def _event(spec: Pipeline, message: Message, service: str, name: str, key: str, form: cloudevents.Form) -> Example:
    subjects = {Prediction: id_example(spec), PipelineAnnounced: spec.pipeline}
    subject = subjects.get(type(message), key)
    source, laid = cloudevents.source_of(spec.pipeline, service), form if service in SERVICES else "structured"
    value, headers = cloudevents.encode(message, id=name, source=source, subject=subject, time=moment(NOON), form=laid)
    return Example(topic_of(type(message)), key, value, headers, message)


def _dead_letter() -> Example:
    """An event that lacks its braces."""
    letter = DeadLetter(
        topic="events",
        partition=1,
        offset=1_024,
        reason="not_json",
        message="malformed character (byte 0)",
        pipeline=DIGEST,
    )
    headers = [("content-type", b"application/json"), *letter.headers()]
    return Example("dead-letters", "c-17", b"price=12.5", headers, letter)


def _prediction(spec: Pipeline) -> Prediction:
    return Prediction(
        event_id=id_example(spec),
        entity=entity_example(spec),
        time=moment(NOON),
        **_answer(spec),
        reason=None,
        pool=3,
        source=Source(partition=1, position=1_023, row=0),
    )


def _answer(spec: Pipeline) -> dict[str, Any]:
    value, target = label_value(spec), spec.target
    if target.is_regression:
        return {"value": float(value), "probability": None}
    if target.width == 1:
        return {"value": value, "probability": 0.8125}
    rest = 0.1875 / (target.width - 1)
    probabilities = {name: 0.8125 if name == value else rest for name in target.names}
    return {"value": value, "probability": 0.8125, "probabilities": probabilities}


def _episode() -> DriftEpisode:
    start = NOON - 3_600_000
    return DriftEpisode(
        id="features-2-1f3a",
        state="opened",
        family="features",
        kind="covariate",
        anchor=2,
        detector="counts",
        statistic=5.75,
        threshold=5.25,
        detected_at=moment(NOON),
        estimated_start=moment(start),
        rows=120,
        evidence={"pane": 29_460_240},
        positions={"drift-counts/0": 812},
        reason="price moved up by 0.5 standard deviations since 11:00",
        epoch=4,
        streams=(_stream(start),),
        history=tuple(Statistic(at=moment(start + 1_200_000 * i), value=1.75 * i + 0.5) for i in range(4)),
    )


def _stream(start: int) -> StreamChange:
    return StreamChange(
        name="price",
        kind="numeric",
        share=0.75,
        effect=0.5,
        start=moment(start),
        bins=("<= 10", "> 10", "missing"),
        before=(1_000, 1_000, 0),
        after=(40, 80, 0),
        source="events/1",
    )


def _member(spec: Pipeline) -> Member:
    return Member(
        model=spec.pipeline,
        version=3,
        uri=f"models/{spec.pipeline}/3",
        sha256="a3" * 32,
        manifest_sha256="b4" * 32,
        digest="c5" * 32,
        pipeline_digest=DIGEST,
        features=tuple(spec.features),
        trained_through={"examples/0": 2_047},
        rows=2_000,
        metrics={"log_loss": 0.375},
        cause=Cause(kind="drift", id="features-2-1f3a"),
        epoch=2,
    )


def _pool(model: str) -> Pool:
    return Pool(
        model=model,
        version=3,
        members=(3,),
        leader=3,
        anchor=3,
        reference_pane=NOON - NOON % 60_000,
        weights={3: 1.0},
        strategy="blend",
        epoch=2,
    )


def _announced(name: str) -> PipelineAnnounced:
    return PipelineAnnounced(name=name, digest=DIGEST, text=f"pipeline: {name}\ntask: binary\n", partitions=4)


def _decision(episode: DriftEpisode) -> Decision:
    return Decision(
        subject=episode.id,
        step="triggered",
        service="training",
        outcome="a fit begins",
        reason=episode.reason,
        evidence={"cause": "drift"},
        positions={"examples/0": 2_047},
        time=moment(NOON),
    )


def _wish(name: str) -> Wish:
    return Wish(id="wish-1", kind="retrain", subject=name, who="ada", reason="prices changed on Monday")


# --- golden files -----------------------------------------------------------------------------


def golden(example: Example) -> str:
    """The text of a golden file: the value of a structured CloudEvent; of a message with its story in headers, all."""
    if example.headers == cloudevents.STRUCTURED:
        return example.value.decode() + "\n"
    headers = [[name, value.decode()] for name, value in example.headers]
    return json.dumps({"key": example.key, "value": example.value.decode(), "headers": headers}, indent=2) + "\n"


def file_of(model: type[Message]) -> str:
    """First part of the names of a message's files: what it is and its version."""
    return f"{model.what}.v{model.schema_version}"


def open_up(schemas: Iterable[dict[str, Any]]) -> None:
    """Let whoever reads by these JSON Schemas accept properties that a newer writer may add."""
    for schema in schemas:
        if schema.get("additionalProperties") is False:
            del schema["additionalProperties"]
