"""Features as a process, on Faust."""

from __future__ import annotations

from collections.abc import Sequence

from runtime import service
from runtime.streams import StreamsCarrier
from runtime.worker import Worker
from services.features.domain.waiting import Spill
from services.features.handler import Features
from services.features.settings import Settings
from services.features.shelf import Shelf

PATIENT = frozenset({"scored", "outcomes"})
"""Nobody waits for an example as one waits for a prediction."""


def build(context: service.Context, settings: Settings) -> Sequence[Worker]:
    """One worker."""
    datadir = settings.data / settings.instance / "features"
    carrier = StreamsCarrier(settings.brokers, context.spec.pipeline, "features", datadir=datadir, patient=PATIENT)
    letters = carrier.log.partitions("dead-letters")
    spill = Spill(settings.waiting_rows, Shelf(datadir / "waiting"))
    form = settings.cloudevents
    handler = Features(context.spec, letters, context.metrics, spill, share=settings.skew_share, form=form)
    return [context.worker(handler, carrier)]


def main() -> None:
    """Run until SIGTERM."""
    service.run("features", Settings, build)


if __name__ == "__main__":
    main()
