"""The AsyncAPI 3 document of a pipeline: the map and the messages, for people and tools that have neither.

It is written from the system's viewpoint, as the specification wants it: Headrace *receives* events, labels and wishes
and *sends* everything else. Whoever subscribes does the reverse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.asyncapi_messages import BINDING, components
from schemas.cloudevents import DATA_TYPE, Form
from schemas.public import CARRIED
from schemas.topics import TOPICS, Topic

if TYPE_CHECKING:
    from schemas.spec import Pipeline


def document(spec: Pipeline, form: Form = "structured") -> dict[str, Any]:
    """The document; equal pipelines give equal documents.

    Args:
        spec: The pipeline.
        form: How its services lay CloudEvents into Kafka messages.
    """
    public = [topic for topic in TOPICS if topic.public]
    return {
        "asyncapi": "3.0.0",
        "id": f"urn:headrace:pipelines:{spec.pipeline}",
        "info": _info(spec),
        "defaultContentType": DATA_TYPE,
        "servers": {"kafka": _SERVER},
        "channels": {topic.name: _channel(topic, spec) for topic in public},
        "operations": {_operation_name(topic): _operation(topic) for topic in public},
        "components": components(spec, form),
    }


def _info(spec: Pipeline) -> dict[str, Any]:
    return {
        "title": f"Headrace pipeline {spec.pipeline}",
        "version": f"1.0.0+{spec.digest}",
        "description": (
            f"Send events and labels; subscribe to predictions of `{spec.labels.field}` ({spec.task}), to drift "
            "episodes, to models and to every decision with its evidence. Topics are named `<pipeline>.<topic>.v1`; "
            "readers must accept properties that they do not know."
        ),
        "license": {"name": "Apache-2.0"},
        "tags": [{"name": "streaming"}, {"name": "machine-learning"}],
    }


_SERVER = {
    "host": "{brokers}",
    "protocol": "kafka",
    "description": "The Kafka cluster on which the pipeline runs.",
    "variables": {"brokers": {"default": "localhost:9092", "description": "host:port of a broker."}},
}


# --- channels and operations ------------------------------------------------------------------


def _channel(topic: Topic, spec: Pipeline) -> dict[str, Any]:
    return {
        "address": topic.physical(spec.pipeline),
        "title": topic.name,
        "description": f"{topic.message}. {_PARTITIONS[topic.partitions]}".capitalize(),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names_of(topic)},
        "bindings": {"kafka": _topic_binding(topic, spec)},
    }


_PARTITIONS = {
    "P": "it has P partitions, fixed for the life of the log (HEADRACE_PARTITIONS).",
    "any": "it may have any number of partitions, keys and partitioners: rows are routed by what they say.",
    "one": "it has one partition: its messages have one order.",
}


def _topic_binding(topic: Topic, spec: Pipeline) -> dict[str, Any]:
    config = topic.config(horizon_ms=spec.labels.horizon, window_ms=spec.longest_window)
    binding: dict[str, Any] = {
        "topic": topic.physical(spec.pipeline),
        "topicConfiguration": {
            "cleanup.policy": [config["cleanup.policy"]],
            "retention.ms": int(config["retention.ms"]),
            "max.message.bytes": int(config["max.message.bytes"]),
        },
        "bindingVersion": BINDING,
    }
    return {**binding, "partitions": 1} if topic.partitions == "one" else binding


def _operation_name(topic: Topic) -> str:
    verb = "receive" if topic.public == "in" else "send"
    return verb + "".join(word.capitalize() for word in topic.name.split("-"))


def _operation(topic: Topic) -> dict[str, Any]:
    receives = topic.public == "in"
    others = ", ".join(topic.readers if receives else topic.writers)
    return {
        "action": "receive" if receives else "send",
        "title": f"{'Write' if receives else 'Read'} {topic.name}",
        "summary": f"You {'write' if receives else 'read'}: {topic.message}; {others} {_VERBS[receives]} it.",
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{name}"} for name in names_of(topic)],
    }


_VERBS = {True: "reads", False: "writes"}


def names_of(topic: Topic) -> list[str]:
    """Names of the messages on a public topic."""
    if topic.name in CARRIED:
        return [model.__name__ for model in CARRIED[topic.name]]
    one = topic.name.removesuffix("s").capitalize()
    return [one, f"{one}CloudEvent", f"{one}Lines", f"{one}Arrow"]
