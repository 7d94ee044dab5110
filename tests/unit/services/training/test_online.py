"""The online member: what it learns, and that its snapshot says the same."""

from __future__ import annotations

from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from runtime.online import OnlineModel, read, written
from schemas.artefact import sha256
from schemas.online import BUCKETS, ONLINE_KINDS, OnlineKind, prepared
from schemas.pooling import Floats, Online
from schemas.spec import FeatureType
from services.training.domain.online import AT_ONCE, CADENCE, due, every, fresh, learn

TYPES: dict[str, FeatureType] = {"price": "number", "city": "category"}
KINDS = [cast("OnlineKind", kind) for kind in ONLINE_KINDS]


def examples(rows: int, classes: int, seed: int = 0) -> tuple[pa.RecordBatch, Floats]:
    """The class is in the price, shifted by the city; some of both are missing."""
    rng = np.random.default_rng(seed)
    price, city = rng.normal(size=rows) * 40 + 200, rng.integers(0, 4, rows)
    labels = np.clip(np.floor((price - 200) / 60 + city / 4 + classes / 2 - 0.5), 0, classes - 1)
    prices = [None if rng.random() < 0.05 else float(each) for each in price]
    cities = [None if rng.random() < 0.05 else f"city {each}" for each in city]
    return pa.record_batch({"price": pa.array(prices, pa.float64()), "city": pa.array(cities)}), labels


def right(model: OnlineModel, rows: pa.RecordBatch, labels: Floats) -> float:
    outputs = model.score(rows)
    found = outputs[:, 0] >= 0.5 if outputs.shape[1] == 1 else outputs.argmax(axis=1)
    return float((found == labels).mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 4])
def test_it_learns_and_its_snapshot_answers_and_learns_on_alike(kind: OnlineKind, classes: int) -> None:
    learnt = fresh(kind, TYPES, classes)
    learn(learnt, *examples(3_000, classes))
    value = written(learnt)
    assert value is not None
    said = Online("online/3000", sha256(value), len(value), 3_000)
    again = read(value, said, TYPES, classes)
    rows, labels = examples(500, classes, 1)
    before = OnlineModel(learnt).score(rows)
    assert before.shape == (500, 1 if classes == 2 else classes)
    assert again.score(rows).tolist() == before.tolist()
    assert right(again, rows, labels) > np.bincount(labels.astype(int)).max() / 500 + 0.15
    learn(learnt, rows, labels)
    learn(again.learnt, rows, labels)
    assert again.score(rows).tolist() == OnlineModel(learnt).score(rows).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_where_messages_are_cut_changes_nothing(kind: OnlineKind) -> None:
    rows, labels = examples(600, 2)
    whole, cut = fresh(kind, TYPES, 2), fresh(kind, TYPES, 2)
    learn(whole, rows, labels)
    for start in range(0, 600, 150):
        learn(cut, rows.slice(start, 150), labels[start : start + 150])
    assert OnlineModel(cut).score(rows).tolist() == OnlineModel(whole).score(rows).tolist()
    assert cut.labels == whole.labels == 600


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_first_label_nothing_is_likelier_than_anything_else(kind: OnlineKind) -> None:
    rows, _ = examples(3, 2)
    assert OnlineModel(fresh(kind, TYPES, 2)).score(rows).tolist() == [[0.5]] * 3
    many = OnlineModel(fresh(kind, TYPES, 4)).score(rows)
    assert many.tolist() == [[0.25] * 4] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_wild_numbers_leave_it_able_to_answer(kind: OnlineKind) -> None:
    learnt = fresh(kind, TYPES, 2)
    learn(learnt, *examples(300, 2))
    wild = pa.record_batch({"price": [1e308, -1e308, np.inf, np.nan, None], "city": ["", "x" * 500, None, "é", "y"]})
    learn(learnt, wild, np.array([0.0, 1.0, 1.0, np.nan, 0.0]))
    assert learnt.labels == 304
    outputs = OnlineModel(learnt).score(wild)
    assert np.isfinite(outputs).all()
    assert ((outputs >= 0) & (outputs <= 1)).all()


def test_rows_are_prepared_in_a_fixed_way() -> None:
    batch = pa.record_batch({"price": [1.5, None], "city": [None, "Paris"]})
    numbers, categories = prepared(batch, TYPES)
    assert numbers == [{"price": 1.5}, {}]
    assert categories == [{}, {"city": "6"}]
    many = pa.record_batch({"price": [0.0] * 500, "city": [str(each) for each in range(500)]})
    assert len({row["city"] for row in prepared(many, TYPES)[1]}) == BUCKETS


def test_when_it_falls_behind_it_learns_every_nth_label() -> None:
    assert [every(each) for each in (0, 1, AT_ONCE, AT_ONCE + 1, 5 * AT_ONCE)] == [1, 1, 1, 2, 5]
    learnt = fresh("logistic_regression", TYPES, 2)
    learn(learnt, *examples(100, 2), nth=4)
    assert learnt.labels == 25


def test_a_snapshot_is_due_every_so_many_labels() -> None:
    learnt = fresh("logistic_regression", TYPES, 2)
    learnt.labels = CADENCE - 1
    assert not due(learnt, 0)
    learnt.labels = 3 * CADENCE
    assert due(learnt, 2 * CADENCE)
    assert not due(learnt, 2 * CADENCE + 1)
