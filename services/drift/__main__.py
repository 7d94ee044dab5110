"""The composition root of drift: a counter on Faust and a judge on kafka-python, in one process."""

from __future__ import annotations

from runtime import service
from runtime.kafka import KafkaCarrier
from runtime.service import Context
from runtime.streams import StreamsCarrier
from runtime.worker import Worker
from services.drift.handler.counting import Counter
from services.drift.handler.judging import Judge
from services.drift.settings import Settings


def build(context: Context, settings: Settings) -> list[Worker]:
    """The two workers; each has a group of its own."""
    name = context.spec.pipeline
    counting = StreamsCarrier(settings.brokers, name, "drift", datadir=settings.data / "drift")
    judging = KafkaCarrier(settings.brokers, name, "drift-judge")
    return [
        context.worker(Counter(context.spec, context.metrics), counting),
        context.worker(Judge(context.spec, context.metrics, settings.cloudevents), judging),
    ]


def main() -> None:
    """Run until SIGTERM."""
    service.run("drift", Settings, build)


if __name__ == "__main__":
    main()
