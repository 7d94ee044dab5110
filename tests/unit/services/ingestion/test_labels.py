"""Labels of every task: from JSON to the column `_label`, and from its numbers to the classes again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import batch as b
from schemas.events import Rejection
from schemas.pipeline import Pipeline, parse
from services.ingestion.domain.forms import label_form

SPEC = """
pipeline: shop
task: TASK
events: {id: id, fields: {x: {type: number}}}
labels: {id: id, field: y, type: KIND, horizon: 24h}
features: {x: x}
"""
UNLABELLED = "unlabelled"  # the default of labels.absent, which no class may be called
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12).filter(
    lambda name: name != UNLABELLED
)


def spec(task: str, kind: str) -> Pipeline:
    return parse(SPEC.replace("TASK", task).replace("KIND", kind))


def labels(pipeline: Pipeline, values: list[Any]) -> pa.Array:
    form = label_form(pipeline)
    records = [form.decoder.decode(json.dumps({"id": "e", "y": value}).encode()) for value in values]
    assert not any(isinstance(each, Rejection) for each in records), records
    return form.payload(form.columns(records))[b.LABEL]  # type: ignore[arg-type]


@given(st.lists(NAMES, min_size=3, max_size=30, unique=True), st.data())
@settings(deadline=None, max_examples=50)
def test_classes_come_back_from_their_indices(names: list[str], data: st.DataObject) -> None:
    text = json.dumps(names, ensure_ascii=False)
    pipeline = spec("multiclass", f"category, values: {text}")
    given_ = data.draw(st.lists(st.sampled_from(names), max_size=20))
    found = labels(pipeline, given_)
    assert found.type == pipeline.target.label_type == pa.int8()
    assert [pipeline.classes[index] for index in found.to_pylist()] == given_


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
@settings(deadline=None, max_examples=50)
def test_numbers_come_back_as_they_are(values: list[float]) -> None:
    found = labels(spec("regression", "number"), values)
    assert found.type == pa.float64()
    np.testing.assert_array_equal(found.to_numpy(zero_copy_only=False), np.array(values, float))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
@settings(deadline=None, max_examples=50)
def test_integers_become_the_nearest_numbers(values: list[int]) -> None:
    found = labels(spec("regression", "integer"), values)
    assert found.to_pylist() == [float(value) for value in values]


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"3"', "null", "true"])
def test_what_is_no_number_is_no_label(value: str) -> None:
    form = label_form(spec("regression", "number"))
    assert isinstance(form.decoder.decode(f'{{"id": "e", "y": {value}}}'.encode()), Rejection)


def test_a_class_that_is_not_declared_is_no_label() -> None:
    form = label_form(spec("multiclass", "category, values: [a, b, c]"))
    assert isinstance(form.decoder.decode(b'{"id": "e", "y": "d"}'), Rejection)
