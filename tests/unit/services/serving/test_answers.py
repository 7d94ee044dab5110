"""What a caller is told over HTTP, by task."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from schemas.pipeline import parse, template
from services.serving.domain.requests import answers

SHOP = template("shop")
SEVERAL = SHOP.replace("task: binary", "task: multiclass").replace(
    "type: boolean", "type: category\n  values: [a, b, c]"
)
NUMBER = SHOP.replace("task: binary", "task: regression").replace("type: boolean", "type: number")


class Event(msgspec.Struct):
    order_id: str


def told(text: str, *outputs: list[float]) -> list[dict[str, Any]]:
    events = [Event(f"e{i}") for i in range(len(outputs))]
    return answers(events, np.array(outputs), parse(text))


def test_of_two_classes_the_likelier_one_with_the_probability_of_the_second() -> None:
    assert told(SHOP, [0.25], [0.5]) == [
        {"event_id": "e0", "value": False, "probability": 0.25},
        {"event_id": "e1", "value": True, "probability": 0.5},
    ]


def test_of_several_classes_the_likeliest_one_with_all_probabilities() -> None:
    (said,) = told(SEVERAL, [0.25, 0.5, 0.25])
    assert said == {
        "event_id": "e0", "value": "b", "probability": 0.5, "probabilities": {"a": 0.25, "b": 0.5, "c": 0.25},
    }  # fmt: skip


def test_in_regression_the_number() -> None:
    assert told(NUMBER, [-12.5]) == [{"event_id": "e0", "value": -12.5, "probability": None}]


def test_what_is_no_number_is_no_value() -> None:
    for text, output in ((SHOP, [np.nan]), (SEVERAL, [np.nan, 0.5, 0.5]), (NUMBER, [np.inf])):
        assert [(each["value"], each["probability"]) for each in told(text, output)] == [(None, None)]
