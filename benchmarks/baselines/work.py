"""The work of the benchmark, one event at a time: parse, five computed features, one probability, JSON."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.stream import NUMBERS

Event = msgspec.defstruct(
    "Event",
    [("event_id", str), ("seen_at", int), ("customer", str), *((f, float) for f in NUMBERS), ("country", str), ("device", str)],
    gc=False,
)  # fmt: skip
FEATURES = len(NUMBERS) + 5


def model() -> Pipeline:
    """A fitted logistic regression over the features."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, FEATURES))
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, rows[:, 0] + rows[:, 1] > 0)


class Work:
    """Event bytes to prediction bytes."""

    def __init__(self) -> None:
        self._parse = msgspec.json.Decoder(Event).decode
        self._model = model()

    def __call__(self, value: bytes) -> bytes:
        """One prediction; much smaller than ours, which are CloudEvents."""
        event: Any = self._parse(value)
        row = [getattr(event, field) for field in NUMBERS]
        row += [
            event.f0 / (abs(event.f1) + 1),
            math.log(abs(event.f2) + 1),
            float(event.seen_at // 3_600_000 % 24),
            min(max(event.f3, -1.0), 1.0),
            min(max(event.f4, 0.0), 10.0),
        ]
        probability = self._model.predict_proba(np.array([row]))[0, 1]
        return msgspec.json.encode({"event_id": event.event_id, "probability": float(probability)})
