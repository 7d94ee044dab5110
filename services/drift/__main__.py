"""The composition root of drift: a counter on Faust and a judge on kafka-python, in one process."""

from __future__ import annotations

from threadpoolctl import threadpool_limits

from runtime import service
from runtime.kafka import KafkaCarrier
from runtime.keys import keys_of
from runtime.references import References
from runtime.service import Context
from runtime.store import Store
from runtime.streams import StreamsCarrier
from runtime.worker import Worker
from services.drift.handler.counting import Counter
from services.drift.handler.judging import Judge
from services.drift.settings import Settings


def build(context: Context, settings: Settings) -> list[Worker]:
    """The two workers; each has a group of its own."""
    name = context.spec.pipeline
    threadpool_limits(1)  # matrices of a few thousand rows gain nothing by more, and other services need the cores
    store = Store(settings.artefacts, keys_of(settings))
    counting = StreamsCarrier(settings.brokers, name, "drift", datadir=settings.data / "drift")
    judging = KafkaCarrier(settings.brokers, name, "drift-judge")
    judge = Judge(context.spec, References(store, context.metrics), context.metrics, settings.cloudevents)
    return [
        context.worker(Counter(context.spec, References(store, context.metrics), context.metrics), counting),
        context.worker(judge, judging),
    ]


def main() -> None:
    """Run until SIGTERM."""
    service.run("drift", Settings, build)


if __name__ == "__main__":
    main()
