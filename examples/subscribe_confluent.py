"""Follows model updates: python subscribe_confluent.py 127.0.0.1:9092 shop (pip install confluent-kafka)."""

import json
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

brokers, pipeline = sys.argv[1:]
topic = TopicPartition(f"{pipeline}.models.v1", 0, OFFSET_BEGINNING)  # compacted: the newest message per key
consumer = Consumer({"bootstrap.servers": brokers, "group.id": "unused", "enable.auto.commit": False})
consumer.assign([topic])  # not subscribe: everybody reads all of it
news_from = consumer.get_watermark_offsets(topic, timeout=30)[1]

while True:
    if (message := consumer.poll(1.0)) is None:
        continue
    if message.error():
        raise KafkaException(message.error())
    ce_type, body = dict(message.headers() or []).get("ce_type"), json.loads(message.value() or b"{}")
    if isinstance(ce_type, bytes):  # binary mode: the envelope is in the headers
        kind, data = ce_type.decode(), body
    else:  # structured mode, the default: the envelope is around the data
        kind, data = body.get("type", ""), body.get("data", {})
    when = "state" if (message.offset() or 0) < news_from else "news"
    if kind == "headrace.member.v1":
        cause, metrics = data["cause"]["kind"], json.dumps(data["metrics"])
        print(f"{when}: version {data['version']} at {data['uri']}, metrics {metrics}, cause {cause}", flush=True)
    elif kind == "headrace.pool.v1":
        print(f"{when}: pool {data['version']} answers, led by version {data['leader']}", flush=True)
