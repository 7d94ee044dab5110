"""The stream of the pipeline benchmark: events of twelve fields, and the pipeline.yaml that fits them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

SOURCES = 6
PARTITIONS = 4
NUMBERS = tuple(f"f{i}" for i in range(8))

PIPELINE = """\
pipeline: {name}
task: binary
events:
  id: event_id
  time: seen_at
  entity: customer
  fields:
    seen_at: {{type: timestamp}}
    customer: {{type: text}}
{numbers}
    country: {{type: category}}
    device: {{type: category}}
labels:
  id: event_id
  time: known_at
  field: bought
  type: boolean
  horizon: 1h
features:
{plain}
  ratio: f0 / (abs(f1) + 1)
  log_f2: ln(abs(f2) + 1)
  hour: extract(hour from seen_at)
  f3_clipped: least(greatest(f3, -1), 1)
  f4_clipped: least(greatest(f4, 0), 10)
model: {{estimator: logistic_regression}}
"""


def pipeline(name: str) -> str:
    """The pipeline.yaml: thirteen numeric features, five of them computed."""
    numbers = "\n".join(f"    {field}: {{type: number}}" for field in NUMBERS)
    return PIPELINE.format(name=name, numbers=numbers, plain="\n".join(f"  {field}: {field}" for field in NUMBERS))


def events(count: int, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Key and JSON of `count` events, 100 ms of event time apart."""
    rng = random.Random(seed)  # noqa: S311 - a benchmark, not a secret
    for i in range(count):
        customer = f"k-{i % 5003:05d}"
        yield customer.encode(), msgspec.json.encode(event(i, customer, rng))


def event(i: int, customer: str, rng: random.Random) -> dict[str, object]:
    """Event number i."""
    numbers = {field: round(rng.gauss(0, 1), 5) for field in NUMBERS}
    seen = 1_790_000_000_000 + i * 100
    return {"event_id": f"e-{i:09d}", "seen_at": seen, "customer": customer, **numbers, "country": "DE", "device": "m1"}
