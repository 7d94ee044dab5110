"""What may change in a pipeline that runs: the table is complete, and it keeps the laws that a reader expects of it."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.evolution import Change, compare, refusals
from schemas.evolution_rules import RULES
from schemas.pipeline import Pipeline, parse
from schemas.spec import FieldSpec, Spec

RUNNING = """
pipeline: shop
task: binary
events:
  time: at
  id: order
  entity: customer
  fields:
    at:       {type: timestamp}
    customer: {type: text, max_length: 40}
    amount:   {type: number, min: 0, max: 100, unit: EUR}
    weight:   {type: number}
    country:  {type: category, values: [AU, NZ]}
    discount: {type: number, nullable: true}
labels: {id: order, time: known, field: returned, type: category, values: ["no", "yes"], horizon: 24h}
features:
  amount: amount
  share: discount / nullif(amount, 0)
"""

Edit = Callable[[dict[str, Any]], None]


def put(path: str, value: object) -> Edit:
    """Write a key; None takes it away."""
    *blocks, key = path.split(".")

    def edit(file: dict[str, Any]) -> None:
        for block in blocks:
            file = file.setdefault(block, {})
        file.update({key: value})
        if value is None:
            del file[key]

    return edit


def turned(path: str) -> Edit:
    def edit(file: dict[str, Any]) -> None:
        *blocks, key = path.split(".")
        for block in blocks:
            file = file[block]
        file[key] = dict(reversed(file[key].items()))

    return edit


def first(path: str, name: str, value: object) -> Edit:
    def edit(file: dict[str, Any]) -> None:
        *blocks, key = path.split(".")
        for block in blocks:
            file = file[block]
        file[key] = {name: value, **file[key]}

    return edit


FINE: dict[str, tuple[Edit, str]] = {
    "a nullable field": (put("events.fields.colour", {"type": "category", "nullable": True}), "events.fields.colour"),
    "a field that may be null now": (put("events.fields.weight.nullable", True), "events.fields.weight.nullable"),
    "a lower minimum": (put("events.fields.amount.min", -5), "events.fields.amount.min"),
    "no maximum": (put("events.fields.amount.max", None), "events.fields.amount.max"),
    "one value more": (put("events.fields.country.values", ["NZ", "FR", "AU"]), "events.fields.country.values"),
    "longer texts": (put("events.fields.customer.max_length", 41), "events.fields.customer.max_length"),
    "a unit where there was none": (put("events.fields.weight.unit", "kg"), "events.fields.weight.unit"),
    "another order of fields": (turned("events.fields"), "events.fields"),
    "the id among the fields": (first("events.fields", "order", {"type": "text"}), "events.fields.order.max_length"),
    "a later horizon": (put("labels.horizon", "48h"), "labels.horizon"),
    "a new feature": (put("features.heavy", "weight * 2"), "features.heavy"),
    "a new window": (put("features.often", {"count": "*", "over": "1h"}), "features.often"),
    "blanks in a feature": (put("features.share", "discount/NULLIF( amount,0 )"), "features.share"),
    "another estimator": (put("model.estimator", "logistic_regression"), "model.estimator"),
    "parameters": (put("model.params", {"C": 2}), "model.params"),
    "another metric": (put("model.metric", "accuracy"), "model.metric"),
    "more patience": (put("drift.lateness", "5m"), "drift.lateness"),
    "rows to settle": (put("drift.settle", 50), "drift.settle"),
    "rows of the first fit": (put("training.min_rows", 100), "training.min_rows"),
    "rows of a fit": (put("training.window", 5000), "training.window"),
    "rest": (put("training.cooldown", "1h"), "training.cooldown"),
    "fewer fits": (put("training.fits", "2 per 1d"), "training.fits"),
}

REFUSED: dict[str, tuple[Edit, str]] = {
    "another name": (put("pipeline", "store"), "pipeline"),
    "no event time": (put("events.time", None), "events.time"),
    "another id": (put("events.id", "basket"), "events.id"),
    "another entity": (put("events.entity", "country"), "events.entity"),
    "no entity": (put("events.entity", None), "events.entity"),
    "a required field": (put("events.fields.colour", {"type": "text"}), "events.fields.colour"),
    "a field less": (put("events.fields.weight", None), "events.fields.weight"),
    "another type": (put("events.fields.weight.type", "integer"), "events.fields.weight.type"),
    "null no more": (put("events.fields.discount.nullable", False), "events.fields.discount.nullable"),
    "a higher minimum": (put("events.fields.amount.min", 1), "events.fields.amount.min"),
    "a first minimum": (put("events.fields.weight.min", 0), "events.fields.weight.min"),
    "a lower maximum": (put("events.fields.amount.max", 99), "events.fields.amount.max"),
    "one value less": (put("events.fields.country.values", ["AU"]), "events.fields.country.values"),
    "shorter texts": (put("events.fields.customer.max_length", 39), "events.fields.customer.max_length"),
    "another unit": (put("events.fields.amount.unit", "USD"), "events.fields.amount.unit"),
    "another id of labels": (put("labels.id", "basket"), "labels.id"),
    "another time of labels": (put("labels.time", "seen"), "labels.time"),
    "another label": (put("labels.field", "kept"), "labels.field"),
    "classes the other way round": (put("labels.values", ["yes", "no"]), "labels.values"),
    "an earlier horizon": (put("labels.horizon", "23h"), "labels.horizon"),
    "a new definition": (put("features.share", "discount / amount"), "features.share"),
    "a feature less": (put("features.share", None), "features.share"),
    "other panes": (put("drift.pane", "2m"), "drift.pane"),
}


WINDOWED = put("features.spent", {"sum": "amount / 2", "over": "24h"})


@pytest.mark.parametrize(
    ("window", "verdict"),
    [
        ({"sum": "amount/2", "over": "1d"}, ["fine"]),
        ({"sum": "amount / 2", "over": "23h"}, ["refused"]),
        ({"sum": "amount / 2", "over": "9 rows", "within": "24h"}, ["refused"]),
        ({"mean": "amount / 2", "over": "24h"}, ["refused"]),
        ({"sum": "amount / 3", "over": "24h"}, ["refused"]),
        ("amount / 2", ["refused"]),
    ],
)
def test_a_window_is_its_definition_for_ever(window: object, verdict: list[str]) -> None:
    found = compare(spec(WINDOWED), spec(put("features.spent", window)))
    assert [(each.path, each.verdict) for each in found] == [("features.spent", each) for each in verdict]


def test_a_window_over_labels_is_none_over_rows() -> None:
    old, new = (spec(put("features.spent", {"count": of, "over": "24h"})) for of in ("*", "label"))
    assert [each.verdict for each in compare(old, new)] == ["refused"]
    assert compare(new, new) == []


def spec(*edits: Edit) -> Pipeline:
    file = copy.deepcopy(yaml.safe_load(RUNNING))
    for edit in edits:
        edit(file)
    return parse(yaml.safe_dump(file, sort_keys=False))


def changes(*edits: Edit) -> dict[str, Change]:
    return {each.path: each for each in compare(spec(), spec(*edits))}


quickly = settings(max_examples=25, deadline=None)
some_fine = st.lists(st.sampled_from(sorted(FINE)), unique=True, max_size=5)
"""Names of fine changes, in an order of their own."""


@pytest.mark.parametrize("name", FINE)
def test_a_change_that_breaks_nobody_is_fine(name: str) -> None:
    edit, path = FINE[name]
    assert [(each.path, each.verdict, each.way) for each in changes(edit).values()] == [(path, "fine", "")]


@pytest.mark.parametrize("name", REFUSED)
def test_a_change_that_would_break_somebody_is_refused_with_the_reason_and_the_way(name: str) -> None:
    edit, path = REFUSED[name]
    refused = changes(edit)[path]
    assert refused.verdict == "refused"
    assert refused.why
    assert refused.way
    assert refused.why in str(refused)
    assert refused.way in str(refused)


def test_a_label_of_another_type_is_refused() -> None:
    found = changes(put("labels.type", "boolean"), put("labels.values", None))
    assert {path: each.verdict for path, each in found.items()} == {
        "labels.type": "refused",
        "labels.values": "refused",
    }


def test_a_change_says_what_the_file_said_and_says_in_its_own_words() -> None:
    edits = (put("labels.horizon", "36h"), put("training.fits", "2 per 1000 rows"), put("events.fields.weight", None))
    said = {path: each.what for path, each in changes(*edits).items()}
    assert said == {
        "labels.horizon": "1d → 36h",
        "training.fits": "24 per 1d → 2 per 1000 rows",
        "events.fields.weight": "removed: number",
    }


def test_the_table_decides_every_key_of_the_language_and_no_other() -> None:
    assert set(RULES) == set(keys(Pipeline))


def keys(block: type[Spec], path: str = "") -> Iterator[str]:
    for name, field in block.model_fields.items():
        here = f"{path}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, Spec):
            yield from keys(field.annotation, f"{here}.")
        else:
            yield here
        if here in {"events.fields", "features"}:
            yield f"{here}.*"
        if here == "events.fields":
            yield from keys(FieldSpec, f"{here}.*.")


@quickly
@given(some_fine)
def test_a_pipeline_compared_with_itself_has_not_changed(names: list[str]) -> None:
    edits = [FINE[name][0] for name in names]
    assert compare(spec(*edits), spec(*edits)) == []


@quickly
@given(some_fine)
def test_there_are_changes_exactly_where_the_digest_is_another(names: list[str]) -> None:
    after = spec(*(FINE[name][0] for name in names))
    assert bool(compare(spec(), after)) == (after.digest != spec().digest)


@quickly
@given(some_fine, some_fine)
def test_a_fine_change_after_a_fine_change_is_fine_at_once(first: list[str], second: list[str]) -> None:
    one, two = ([FINE[name][0] for name in names] for names in (first, second))
    assert refusals(compare(spec(), spec(*one))) == []
    assert refusals(compare(spec(*one), spec(*one, *two))) == []
    assert refusals(compare(spec(), spec(*one, *two))) == []


@quickly
@given(st.sampled_from(sorted(REFUSED)), some_fine)
def test_a_refused_change_stays_refused_among_fine_ones(name: str, names: list[str]) -> None:
    edit, path = REFUSED[name]
    apart = {"no entity": "a new window", "a field less": "a new feature"}.get(name)  # the one needs the other
    fine = [FINE[each][0] for each in names if not path.startswith(FINE[each][1]) and each != apart]
    alone = refusals(compare(spec(), spec(edit)))
    assert set(refusals(compare(spec(), spec(*fine, edit)))) >= {each for each in alone if each.path == path}


@quickly
@given(some_fine)
def test_what_is_only_fine_one_way_is_refused_or_fine_back_but_never_unseen(names: list[str]) -> None:
    after = spec(*(FINE[name][0] for name in names))
    there, back = compare(spec(), after), compare(after, spec())
    assert {each.path for each in there} == {each.path for each in back}
