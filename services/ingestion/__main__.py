"""Ingestion as a process, on kafka-python."""

from __future__ import annotations

from collections.abc import Sequence

from runtime import service
from runtime.kafka import KafkaCarrier, KafkaLog
from runtime.worker import Worker
from services.ingestion.handler import Ingestion
from services.ingestion.settings import Settings

ROWS_PER_PARTITION = 4_000
"""Messages polled at once, per internal partition: each message that we write is then a full one."""


def build(context: service.Context, settings: Settings) -> Sequence[Worker]:
    """One worker."""
    name = context.spec.pipeline
    log = KafkaLog(settings.brokers, name, "ingestion")
    partitions = log.partitions("records")
    log.close()
    polled = ROWS_PER_PARTITION * partitions
    carrier = KafkaCarrier(settings.brokers, name, "ingestion", max_messages=polled, gather=True)
    return [context.worker(Ingestion(context.spec, partitions, context.metrics), carrier, overlap=True)]


def main() -> None:
    """Run until SIGTERM."""
    service.run("ingestion", Settings, build)


if __name__ == "__main__":
    main()
