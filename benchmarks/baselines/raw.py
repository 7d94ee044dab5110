"""Raw pass-through: librdkafka reads events and writes the same bytes to predictions."""

from __future__ import annotations

import sys

from confluent_kafka import Consumer, Producer

from benchmarks.baselines.clock import Watch


def main(brokers: str, prefix: str, count: int) -> None:
    """Pass `count` messages on."""
    common = {"bootstrap.servers": brokers}
    reading = {"group.id": f"{prefix}raw", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    writing = {"enable.idempotence": True, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000}
    consumer, producer = Consumer(common | reading), Producer(common | writing)
    consumer.subscribe([f"{prefix}events"])
    watch, done = Watch(), 0
    while done < count:
        messages = consumer.consume(5000, 1.0)
        if messages:
            watch.start()
        for each in messages:
            producer.produce(f"{prefix}predictions", each.value(), each.key(), each.partition() or 0)
        done += len(messages)
        producer.poll(0)
    producer.flush()
    consumer.commit(asynchronous=False)
    watch.stop(done)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
