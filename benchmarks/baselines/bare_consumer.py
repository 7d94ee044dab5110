"""A kafka-python consumer, set up like ingestion's, that throws its messages away."""

from __future__ import annotations

import sys

from kafka import TopicPartition

from benchmarks.baselines.clock import Watch
from benchmarks.stream import SOURCES
from runtime.kafka_clients import consumer

MOST = 16_000
"""What ingestion polls with four internal partitions."""


def main(brokers: str, name: str, count: int) -> None:
    """Read `count` messages of a topic."""
    reader = consumer(brokers, None, MOST, gather=True)
    places = [TopicPartition(name, partition) for partition in range(SOURCES)]
    reader.assign(places)
    reader.seek_to_beginning(*places)
    watch, done = Watch(), 0
    while done < count:
        polled = reader.poll(1000)
        if polled:
            watch.start()
        done += sum(map(len, polled.values()))
    watch.stop(done)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
