"""Composition root of training: `python -m services.training`."""

from __future__ import annotations

from runtime import service
from runtime.kafka import KafkaCarrier
from runtime.keys import keys_of
from runtime.settings import names
from runtime.store import Store
from runtime.worker import Worker
from services.training.handler import Training
from services.training.settings import Settings


def build(context: service.Context, settings: Settings) -> list[Worker]:
    """The controller on kafka-python. A store that is not writable shows here, before anything is read."""
    store = Store(settings.artefacts, keys_of(settings, settings.signing_key))
    store.check()
    carrier = KafkaCarrier(settings.brokers, context.spec.pipeline, "training")
    trusted = names(settings.trusted_types)
    handler = Training(context.spec, store, context.metrics, settings.cloudevents, settings.dataset_bytes, trusted)
    return [context.worker(handler, carrier)]


def main() -> None:
    """Run until SIGTERM."""
    service.run("training", Settings, build)


if __name__ == "__main__":
    main()
