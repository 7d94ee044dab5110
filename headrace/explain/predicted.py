"""The story of one prediction: who made it, with which weights, from which features, and whether it came true. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from headrace.explain.ledger import Entry, Ledger, Telling
from headrace.explain.rows import Row
from headrace.explain.story import because
from headrace.explain.words import listed, number, share, stamp
from schemas import batch as b
from schemas.beside import ONLINE
from schemas.messages import Scalar
from schemas.pipeline import Pipeline
from schemas.pooling import IDENTITY, Calibrator, Floats, Weights, mix
from schemas.predictions import NO_MODEL, NO_OUTPUT
from schemas.quantities import duration
from schemas.task import THRESHOLD, Target

SERVING, FEATURES = "serving", "features"


def of_prediction(told: Ledger, spec: Pipeline, row: Row, example: Row | None, ruled: Weights | None) -> Telling:
    """How a row was scored.

    Args:
        told: What was decided.
        spec: The pipeline.
        row: The scored row.
        example: The row with its label, None where that has not come.
        ruled: The checkpoint of weights that its batch names, None where it names none or that is no longer kept.
    """
    time, name = row.values[b.TIME], str(row.values[b.EVENT_ID])
    entries = [_scored(spec, row, name, time)]
    weighed = weights(told, row, ruled)
    entries += _answers(told, spec.target, row, weighed)
    entries += _mixed(spec.target, row, weighed, ruled, name)
    entries += [] if example is None else [_labelled(spec.target, row, example, name)]
    predicted = said(spec.target, row.values)
    pool = row.values[b.POOL]
    by = "" if not pool else f" by pool {pool} with {listed(map(called, row.values[b.MEMBERS]))}"
    summary = f"{name} at {stamp(time)}: {predicted}{by}; {_truth(spec, example, time)}"
    return Telling.of(name, "prediction", summary, entries)


def said(target: Target, values: Mapping[str, Any]) -> str:
    """What was predicted, for people."""
    value = values[b.PREDICTION]
    if value is None or not math.isfinite(value):
        return f"no prediction: {NO_MODEL if not values[b.POOL] else NO_OUTPUT}"
    if target.is_regression:
        return f"predicted {number(value)}"
    if target.task == "binary":
        return f"predicted {target.names[int(value >= THRESHOLD)]}, {share(value)} for {target.names[1]}"
    given = values[b.PROBABILITIES][int(value)]
    return f"predicted {target.names[int(value)]} with {share(given)}"


def weights(told: Ledger, row: Row, ruled: Weights | None) -> dict[int, float]:
    """The weights that made a row's prediction; empty where the log no longer tells them.

    A checkpoint of the pool before rules with its calibrator alone: it does not know the new member.
    """
    members = _seated(row)
    if ruled is not None and ruled.pool == row.headers.pool:
        return dict(zip(members, ruled.weights(members).tolist(), strict=True))
    pool = next((pool for _, pool in told.pools if pool.version == row.headers.pool), None)
    if pool is None or (row.headers.weights and ruled is None):
        return {}
    return {each: pool.weights[each] for each in members}


def _seated(row: Row) -> tuple[int, ...]:
    """The members of the pool that scored a row, without the online member, which has no seat."""
    return tuple(each for each in row.values[b.MEMBERS] or () if each != ONLINE)


def _scored(spec: Pipeline, row: Row, name: str, time: datetime) -> Entry:
    features: dict[str, Scalar] = {each: row.values.get(each) for each in spec.feature_types}
    pool = row.headers.pool
    reason = "no pool answered" if not pool else f"pool {pool}, weights {_checkpoint(row)}; prediction id {row.id}"
    return Entry(time, time, SERVING, "scored", name, said(spec.target, row.values), reason, features, row.position)


def _checkpoint(row: Row) -> str:
    return f"of checkpoint {row.headers.weights}" if row.headers.weights else "of the pool itself"


def _answers(told: Ledger, target: Target, row: Row, weighed: Mapping[int, float]) -> list[Entry]:
    """What each member said, and since when it is there, and why."""
    found, time = [], row.values[b.TIME]
    members = row.values[b.MEMBERS] or []
    outputs = row.values[b.OUTPUTS] or []
    for index, version in enumerate(members):
        given = outputs[index * target.width : (index + 1) * target.width]
        weight = weighed.get(version)
        evidence: dict[str, Scalar] = {"weight": weight, "anchor": index == 0}
        evidence |= dict(zip(_names(target), given, strict=True))
        heavy = "its weight is no longer on the log" if weight is None else f"{share(weight)} of the weight"
        name = called(version)
        outcome = f"{name} said {_output(target, given)}" + ("" if version == ONLINE else f", {heavy}")
        found.append(Entry(time, time, SERVING, "answered", name, outcome, _made(told, version), evidence))
    return found


def _mixed(target: Target, row: Row, weighed: Mapping[int, float], ruled: Weights | None, name: str) -> Iterator[Entry]:
    """What the members said together, and what became of it; where the log still tells their weights."""
    members, given = _seated(row), _given(target, row)
    if len(members) <= 1 or not given:
        return
    outputs = np.array(row.values[b.OUTPUTS], float).reshape(1, -1, target.width)[:, : len(members)]
    after, time = _output(target, given), row.values[b.TIME]
    alone = None if row.headers.weights else _alone(outputs, given)
    evidence: dict[str, Scalar] = {}
    if alone is not None:
        evidence, outcome = {"alone": members[alone]}, f"v{members[alone]} alone answers, so {after}"
    elif weighed:
        shares = np.array([weighed[each] for each in members])
        lines = None if ruled is None else ruled.straight(tuple(members))
        together = _first(mix(target.task, outputs, shares, Calibrator(IDENTITY[target.task]), lines=lines))
        outcome = f"by their weights they said {_output(target, together)}; {_who(row, ruled)} {after} of it"
        parameters = () if ruled is None else ruled.calibrator.parameters
        evidence = {f"parameter_{at}": value for at, value in enumerate(parameters)}
    else:
        return
    covers = {} if ruled is None else {f"examples/{partition}": offset for partition, offset in ruled.covers.items()}
    yield Entry(time, time, SERVING, "mixed", name, outcome, _checkpoint(row), evidence, covers)


def _who(row: Row, ruled: Weights | None) -> str:
    """Who made the prediction of the mixture."""
    if ruled is None:
        return "nothing was learnt on top yet, which makes"
    beside = " and the online member" if ONLINE in row.values[b.MEMBERS] else ""
    return f"the calibrator{beside}, learnt from the labels, made"


def _given(target: Target, row: Row) -> list[float]:
    """The numbers that were predicted; none without a prediction."""
    if row.values[b.PREDICTION] is None:
        return []
    if target.task == "multiclass":
        return [float(each) for each in row.values[b.PROBABILITIES]]
    return [float(row.values[b.PREDICTION])]


def _alone(outputs: Floats, given: Sequence[float]) -> int | None:
    """Index of the member whose output is the prediction, as of a champion or one that is pinned; None for no such."""
    same = [index for index in range(outputs.shape[1]) if np.array_equal(outputs[0, index], given)]
    return same[0] if same else None


def _first(made: Floats) -> list[float]:
    found: list[float] = np.atleast_1d(made[0]).tolist()
    return found


def _names(target: Target) -> Sequence[str]:
    if target.task == "multiclass":
        return target.names
    return ("value",) if target.is_regression else (target.names[1],)


def _output(target: Target, given: Sequence[float]) -> str:
    if target.is_regression:
        return number(given[0])
    if target.task == "binary":
        return f"{share(given[0])} for {target.names[1]}"
    best = max(range(len(given)), key=lambda each: given[each])
    return f"{target.names[best]} with {share(given[best])}"


def called(version: int) -> str:
    """A member's name."""
    return "the online member" if version == ONLINE else f"v{version}"


def _made(told: Ledger, version: int) -> str:
    if version == ONLINE:
        return "it learns from every label"
    if version not in told.members:
        return "who announced it is not on the log"
    member = told.members[version]
    return f"fitted at {stamp(told.fitted[version])} on {member.rows:,} rows for {because(told, member.cause.id)}"


def _labelled(target: Target, row: Row, example: Row, name: str) -> Entry:
    time = example.values[b.LABEL_TIME]
    late = duration(max(round((time - row.values[b.TIME]).total_seconds() * 1000), 0))
    reason = f"it came {late} behind the event, from labels/{example.values[b.LABEL_SOURCE]}"
    reason = f"{reason} at offset {example.values[b.LABEL_POSITION]}"
    label = _label(target, example)
    evidence: dict[str, Scalar] = {"label": label, "delay": late}
    return Entry(time, time, FEATURES, "labelled", name, f"the label is {label}", reason, evidence, example.position)


def _label(target: Target, example: Row) -> str:
    value = example.values[b.LABEL]
    return number(float(value)) if target.is_regression else target.names[int(value)]


def _truth(spec: Pipeline, example: Row | None, time: datetime) -> str:
    if example is None:
        horizon = duration(spec.labels.horizon)
        return f"its label has not come; it counts until {horizon} behind {stamp(time)}"
    label, value = _label(spec.target, example), example.values[b.PREDICTION]
    if value is None:
        return f"its label is {label}"
    if spec.target.is_regression:
        return f"the true value is {label}, {number(abs(value - float(example.values[b.LABEL])))} away"
    index = int(value >= THRESHOLD) if spec.target.task == "binary" else int(value)
    return f"its label is {label}: {'right' if index == example.values[b.LABEL] else 'wrong'}"
