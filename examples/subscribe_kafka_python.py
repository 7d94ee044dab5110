"""Follows model updates: python subscribe_kafka_python.py 127.0.0.1:9092 shop (pip install kafka-python)."""

import json
import sys

from kafka import KafkaConsumer, TopicPartition

brokers, pipeline = sys.argv[1:]
topic = TopicPartition(f"{pipeline}.models.v1", 0)  # compacted, one partition: the newest message per key, in order
consumer = KafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False)  # no group: everybody reads all of it
consumer.assign([topic])
consumer.seek_to_beginning(topic)
news_from = consumer.end_offsets([topic])[topic]

for message in consumer:
    headers, body = dict(message.headers), json.loads(message.value or b"{}")
    if "ce_type" in headers:  # binary mode: the envelope is in the headers
        kind, data = headers["ce_type"].decode(), body
    else:  # structured mode, the default: the envelope is around the data
        kind, data = body.get("type", ""), body.get("data", {})
    when = "state" if message.offset < news_from else "news"
    if kind == "headrace.member.v1":
        cause, metrics = data["cause"]["kind"], json.dumps(data["metrics"])
        print(f"{when}: version {data['version']} at {data['uri']}, metrics {metrics}, cause {cause}", flush=True)
    elif kind == "headrace.pool.v1":
        print(f"{when}: pool {data['version']} answers, led by version {data['leader']}", flush=True)
