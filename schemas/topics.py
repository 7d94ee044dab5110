"""The map: every topic, who writes it, who reads it, how long it is kept.

Topic creation, AsyncAPI, the diagram in the docs and the topology tests are derived from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DAY_MS = 24 * 3600 * 1000
MAX_MESSAGE_BYTES = 8 << 20
"""Largest message on events, labels and the internal topics; dead-letters allow one MiB more, for their headers."""

Partitions = Literal["P", "any", "one"]
Retention = Literal["days", "windows", "outcomes", "horizon", "forever", "compacted"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the map.

    Attributes:
        name: The logical name; on the broker it is ``<pipeline>.<name>.v1``.
        message: What one message is.
        key: What the key means, empty where messages have none.
        writers: The services that write it (``you`` for users).
        readers: The services that read it.
        partitions: ``P`` (fixed for the life of the log), ``any`` (the user's choice) or ``one``.
        retention: How long it is kept: ``days`` alone, or added to a span that the pipeline names.
        days: Days kept, or the days added to that span.
        public: ``in`` or ``out`` for topics that users write or read.
    """

    name: str
    message: str
    key: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    partitions: Partitions
    retention: Retention
    days: int = 0
    public: Literal["in", "out", ""] = ""

    def physical(self, pipeline: str) -> str:
        """The name on the broker."""
        return physical(pipeline, self.name)

    @property
    def compacted(self) -> bool:
        """Whether the newest message per key is kept for ever."""
        return self.retention == "compacted"

    def retention_ms(self, horizon_ms: int, window_ms: int) -> int:
        """Milliseconds that the broker keeps messages, -1 for ever."""
        span = {"windows": window_ms, "outcomes": max(horizon_ms, window_ms), "horizon": horizon_ms}
        if self.retention in ("forever", "compacted"):
            return -1
        return span.get(self.retention, 0) + self.days * DAY_MS

    def config(self, horizon_ms: int, window_ms: int) -> dict[str, str]:
        """Topic configuration as Kafka names it; append times, for retention would delete replayed history."""
        limit = MAX_MESSAGE_BYTES + (1 << 20 if self.name == "dead-letters" else 0)
        return {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(self.retention_ms(horizon_ms, window_ms)),
            "max.message.bytes": str(limit),
            "message.timestamp.type": "LogAppendTime",
        }


def physical(pipeline: str, name: str) -> str:
    """The broker's name of a topic of a pipeline."""
    return f"{pipeline}.{name}.v1"


TOPICS: tuple[Topic, ...] = (
    Topic("events", "one event, or a batch of them", "any", ("you",), ("ingestion",), "any", "days", 7, "in"),
    Topic("labels", "one label, or a batch of them", "any", ("you",), ("ingestion",), "any", "days", 7, "in"),
    Topic("records", "Arrow batch of valid events", "", ("ingestion",), ("features",), "P", "windows", 7),
    Topic("outcomes", "Arrow batch of valid labels", "", ("ingestion",), ("features",), "P", "outcomes", 7),
    Topic("features", "Arrow batch of feature rows", "", ("features",), ("serving",), "P", "days", 7),
    Topic(
        "scored",
        "Arrow batch: feature rows, the prediction, each member's output, the pool version",
        "",
        ("serving",),
        ("features", "drift"),
        "P",
        "horizon",
        7,
    ),
    Topic(
        "predictions",
        "one prediction per event, CloudEvent",
        "entity or event id",
        ("serving",),
        ("you",),
        "P",
        "days",
        7,
        "out",
    ),
    Topic(
        "examples",
        "Arrow batch: scored rows with their labels",
        "",
        ("features",),
        ("drift", "training"),
        "P",
        "days",
        30,
    ),
    Topic("drift-counts", "closed panes of one partition", "", ("drift",), ("drift",), "P", "days", 7),
    Topic(
        "drift",
        "one drift episode changing state, CloudEvent",
        "episode id",
        ("drift",),
        ("training", "you"),
        "one",
        "days",
        90,
        "out",
    ),
    Topic(
        "models",
        "a member, or the composition of the pool, CloudEvent",
        "<model>/member/<version> or <model>/pool",
        ("training",),
        ("serving", "drift", "you"),
        "one",
        "compacted",
        public="out",
    ),
    Topic(
        "weights",
        "checkpoint of what the labels taught: the members' weights, the calibrators",
        "<model>/weights",
        ("training",),
        ("serving", "training"),
        "one",
        "days",
        7,
    ),
    Topic(
        "pipeline",
        "the spec and its digest",
        "pipeline",
        ("bootstrap",),
        ("you",),
        "one",
        "compacted",
        public="out",
    ),
    Topic(
        "state",
        "checkpoint of a judge or controller with the positions it covers",
        "service/what",
        ("drift", "training"),
        ("drift", "training"),
        "one",
        "compacted",
    ),
    Topic(
        "decisions",
        "one decision with its evidence, CloudEvent",
        "subject id",
        ("features", "drift", "training", "serving", "you"),
        ("you",),
        "one",
        "forever",
        public="out",
    ),
    Topic(
        "operator",
        "one wish of an operator",
        "model or episode",
        ("you",),
        ("drift", "training"),
        "one",
        "days",
        90,
        "in",
    ),
    Topic(
        "dead-letters",
        "the original bytes; headers say where from and why",
        "original key",
        ("ingestion", "features"),
        ("you",),
        "P",
        "days",
        30,
        "out",
    ),
)

BY_NAME = {topic.name: topic for topic in TOPICS}
