"""Quix Streams: a streaming dataframe with one function. Runs in an environment of its own (`make bench`)."""

from __future__ import annotations

import os
import sys
import tempfile

from quixstreams import Application

from benchmarks.baselines.clock import Watch
from benchmarks.baselines.work import Work


def main(brokers: str, prefix: str, count: int) -> None:
    """Predict `count` events, then end the process; the last ones may still be in the producer, to Quix's advantage."""
    state = tempfile.TemporaryDirectory(prefix="quix-")  # it makes one in the working directory otherwise
    app = Application(
        broker_address=brokers,
        consumer_group=f"{prefix}quix",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        loglevel="WARNING",
        state_dir=state.name,
    )
    work, watch, done = Work(), Watch(), [0]

    def predict(value: bytes) -> bytes:
        watch.start()
        result = work(value)
        done[0] += 1
        if done[0] == count:
            watch.stop(count)
            state.cleanup()
            os._exit(0)
        return result

    events = app.topic(f"{prefix}events", value_deserializer="bytes")
    predictions = app.topic(f"{prefix}predictions", value_serializer="bytes")
    app.dataframe(events).apply(predict).to_topic(predictions)
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
