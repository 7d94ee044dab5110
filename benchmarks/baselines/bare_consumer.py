"""A kafka-python consumer as it comes, that throws its messages away.

With `tuned` it has ingestion's settings: no metrics, larger polls, a broker that gathers.
"""

from __future__ import annotations

import sys

from kafka import KafkaConsumer, TopicPartition

from benchmarks.baselines.clock import Watch
from benchmarks.stream import SOURCES
from runtime.kafka_clients import consumer

MOST = 16_000
"""What ingestion polls with four internal partitions."""


def main(brokers: str, name: str, count: int, *, tuned: bool) -> None:
    """Read `count` messages of a topic."""
    bare = {"bootstrap_servers": brokers, "group_id": None, "enable_auto_commit": False}
    reader = consumer(brokers, None, MOST, gather=True) if tuned else KafkaConsumer(**bare)
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
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), tuned="tuned" in sys.argv[4:])
