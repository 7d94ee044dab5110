"""Plain Faust, as its documentation writes it: one agent, one event per message."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import faust

from benchmarks.baselines.clock import Watch
from benchmarks.baselines.work import Work


def build(brokers: str, prefix: str, count: int) -> faust.App:
    """The app; it ends its process after `count` events."""
    app = faust.App(
        f"{prefix}faust",
        broker=f"kafka://{brokers}",
        value_serializer="raw",
        key_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        datadir=tempfile.mkdtemp(),
        consumer_auto_offset_reset="earliest",
    )
    events = app.topic(f"{prefix}events", value_type=bytes, value_serializer="raw")
    predictions = app.topic(f"{prefix}predictions", value_type=bytes, value_serializer="raw")
    work, watch = Work(), Watch()

    async def predict(stream: Any) -> None:
        done = 0
        async for value in stream:
            watch.start()
            last = await predictions.send(value=work(value))
            done += 1
            if done == count:
                await last
                watch.stop(done)
                os._exit(0)

    app.agent(events)(predict)
    return app


if __name__ == "__main__":
    app = build(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.argv[1:] = ["worker", "-l", "warn", "--without-web"]
    app.main()
