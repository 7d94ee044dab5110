"""Sends ten orders and their labels: python produce_events.py 127.0.0.1:9092 shop (pip install kafka-python)."""

import json
import sys
from datetime import UTC, datetime

from kafka import KafkaProducer

brokers, pipeline = sys.argv[1:]
producer = KafkaProducer(bootstrap_servers=brokers, acks="all")  # a message counts when every replica has it
sent = []

for number in range(10):
    order, customer, now = f"order-{number}", f"customer-{number % 3}", datetime.now(UTC).isoformat()
    names = {"order_id": order, "customer": customer}
    event = {**names, "ordered_at": now, "country": "NZ", "amount": 12.5 * (number + 1), "items": number + 1}
    # A label names its event and the event's entity; it may come later, up to labels.horizon.
    label = {**names, "known_at": now, "returned": number % 4 == 0}
    for topic, message in (("events", event), ("labels", label)):
        # The key is the entity. Any partitioner will do: Headrace brings a customer's rows together.
        value = json.dumps(message).encode()
        sent.append(producer.send(f"{pipeline}.{topic}.v1", key=customer.encode(), value=value))

for each in sent:
    each.get(timeout=30)  # raises what the broker says against it
print(f"{len(sent)} messages are on the log; what is wrong with one of them is on {pipeline}.dead-letters.v1")
