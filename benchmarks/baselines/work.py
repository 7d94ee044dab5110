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

TEXTS = ("event_id", "customer", "country", "device")
FIELDS = [*((name, str) for name in TEXTS), ("seen_at", int), *((name, float) for name in NUMBERS)]
Event = msgspec.defstruct("Event", FIELDS, gc=False)
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
