"""Composition root of serving: `python -m services.serving`."""

from __future__ import annotations

from runtime import model, service
from runtime.kafka import KafkaCarrier
from runtime.keys import keys_of
from runtime.online import OnlineModel, fetch_online
from runtime.settings import names
from runtime.store import Store
from runtime.worker import Worker
from schemas.messages import Member
from schemas.pooling import Online
from services.serving.handler import Serving
from services.serving.http import PredictServer
from services.serving.settings import Settings


def build(context: service.Context, settings: Settings) -> list[Worker]:
    """The scoring worker on kafka-python, its predictions through librdkafka, and HTTP beside it."""
    spec, store = context.spec, Store(settings.artefacts, keys_of(settings))

    def load(member: Member) -> model.Model:
        return model.fetch(store, member, spec.feature_types, names(settings.trusted_types))

    def load_online(said: Online) -> OnlineModel:
        return fetch_online(store, said, spec.feature_types, len(spec.classes))

    handler = Serving(spec, load, context.metrics, settings.cloudevents, store.keys, load_online)
    if settings.http_port >= 0:
        host, port = settings.http_host, settings.http_port
        PredictServer(spec, lambda: handler.pool, host, port, context.metrics).start()
    carrier = KafkaCarrier(settings.brokers, spec.pipeline, "serving", fan_out=frozenset({"predictions"}))
    return [context.worker(handler, carrier)]


def main() -> None:
    """Run until SIGTERM."""
    service.run("serving", Settings, build)


if __name__ == "__main__":
    main()
