"""Whether the parts of a specification go together: names that must exist, types that must fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas import sql, windows
from schemas.sql_functions import Kind
from schemas.sql_tokens import near as suggestion
from schemas.task import ESTIMATORS, LEAST_CLASSES, METRICS, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.spec import Pipeline

__all__ = ["KINDS", "Problem", "column_kinds", "compiled", "contradictions", "several_owners", "suggestion", "windowed"]

SHARES = frozenset({"mean", "std"})
"""What is wrong of labels of which only one kind comes."""

LABEL_TYPES: dict[Task, tuple[str, ...]] = {
    "binary": ("boolean", "category"),
    "multiclass": ("category",),
    "regression": ("number", "integer"),
}

Place = tuple[str, ...]
Problem = tuple[Place, str]

KINDS: dict[str, Kind] = {
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "category": "text",
    "text": "text",
    "timestamp": "time",
}


def contradictions(spec: Pipeline) -> list[Problem]:
    """Everything that does not go together, as (place, message)."""
    return [*_events(spec), *_labels(spec), *_model(spec), *_features(spec)]


def compiled(spec: Pipeline) -> dict[str, sql.Expression]:
    """The features over one event, ready to evaluate; SqlError where one is wrong."""
    kinds = column_kinds(spec)
    texts = {name: text for name, text in spec.features.items() if isinstance(text, str)}
    return {name: sql.compile_text(text, kinds) for name, text in texts.items()}


def windowed(spec: Pipeline) -> dict[str, windows.Window]:
    """The features over windows; WindowError where one is wrong."""
    kinds = column_kinds(spec)
    forms = {name: form for name, form in spec.features.items() if not isinstance(form, str)}
    return {name: windows.read(form, kinds) for name, form in forms.items()}


def column_kinds(spec: Pipeline) -> dict[str, Kind]:
    """What an expression may read, and as what."""
    return {name: KINDS[field.type] for name, field in spec.event_fields.items()}


def _events(spec: Pipeline) -> Iterator[Problem]:
    events = spec.events
    yield from (
        (("events", "fields", name), "names that start with _ are headrace's own: rename it")
        for name in spec.event_fields
        if name.startswith("_")
    )
    if events.time is not None:
        yield from _names_field(spec, "time", events.time, ("timestamp",))
    if events.entity is not None:
        yield from _names_field(spec, "entity", events.entity, ("text", "category"))
    if events.id is not None and events.id in events.fields:
        yield from _names_field(spec, "id", events.id, ("text", "category"))


def _names_field(spec: Pipeline, key: str, name: str, types: tuple[str, ...]) -> Iterator[Problem]:
    place, field = ("events", key), spec.events.fields.get(name)
    if field is None:
        hint = suggestion(name, spec.events.fields)
        yield place, f"{name!r} is not in events.fields{hint}: declare it there"
    elif field.type not in types:
        yield place, f"{name!r} is a {field.type}; events.{key} must be a {' or '.join(types)}"
    elif field.nullable:
        yield place, f"{name!r} is nullable; events.{key} must always be there"


def _labels(spec: Pipeline) -> Iterator[Problem]:
    labels = spec.labels
    if spec.events.time is not None and labels.time is None:
        yield ("labels",), "labels.time is required because events.time is given: add `time: <field>`"
    if labels.type not in (fitting := LABEL_TYPES[spec.task]):
        yield ("labels", "type"), f"a {spec.task} label is a {' or '.join(fitting)}, not a {labels.type}"
    yield from _label_values(spec)
    yield from _absent(spec)
    names = [labels.id, spec.events.entity, labels.time, labels.revision, labels.field]
    given = [name for name in names if name is not None]
    if len(set(given)) < len(given):
        yield ("labels",), f"id, entity, time, revision and field must be different fields: {', '.join(given)}"


def _label_values(spec: Pipeline) -> Iterator[Problem]:
    values, place = spec.labels.values, ("labels", "values")
    if spec.labels.type != "category":
        if values is not None:
            yield place, "values are for a category label: remove them"
    elif spec.task == "multiclass":
        if values is None or len(set(values)) < max(LEAST_CLASSES, len(values)):
            yield place, f"name the classes, {LEAST_CLASSES} or more, each once: add `values: [red, green, blue]`"
    elif spec.task == "binary" and (values is None or len(values) != 2 or values[0] == values[1]):  # noqa: PLR2004
        yield place, "a binary category needs exactly two: add `values: [negative, positive]`"


def _absent(spec: Pipeline) -> Iterator[Problem]:
    value, place = spec.labels.absent, ("labels", "absent")
    if value == "unlabelled":
        if value in spec.classes:
            yield place, "'unlabelled' means no label at all and is a value of the label too: rename the value"
    elif spec.absent_label is None:
        classes = ", ".join(spec.target.names) or "a number"
        yield (
            place,
            f"{value!r} is no value of the label: write `unlabelled`, or {'one of ' * bool(spec.classes)}{classes}",
        )


def _model(spec: Pipeline) -> Iterator[Problem]:
    model, task = spec.model, spec.task
    if model.estimator not in ESTIMATORS[task] and ":" not in model.estimator:
        known = ", ".join(ESTIMATORS[task])
        yield ("model", "estimator"), f"{model.estimator} does not do {task}: write one of {known}, or module:Class"
    if spec.metric not in METRICS[task]:
        yield ("model", "metric"), f"{spec.metric} is no metric of {task}: write one of {', '.join(METRICS[task])}"


def _features(spec: Pipeline) -> Iterator[Problem]:
    kinds = column_kinds(spec)
    for name, text in spec.features.items():
        try:
            if isinstance(text, dict):
                window = windows.read(text, kinds)
                yield from _of_labels(spec, name, window)
            else:
                sql.compile_text(text, kinds)
        except windows.WindowError as error:
            yield ("features", name), str(error)
        except sql.SqlError as error:
            yield ("features", name), f"{text!r}: {error}"


def several_owners(spec: Pipeline, partitions: int) -> str | None:
    """What is wrong where several partitions would each have a window of their own and nobody asked for that.

    Args:
        spec: The pipeline.
        partitions: P, which only its log knows.
    """
    if partitions == 1 or spec.windows.per == "partition" or spec.events.entity is not None or not windowed(spec):
        return None
    return (
        f"features.{next(iter(windowed(spec)))}: a window is per entity, events.entity is not given, and {partitions} "
        "partitions would have one window each: add events.entity, write `windows: {per: partition}` if that is meant, "
        "or run with one partition"
    )


def _of_labels(spec: Pipeline, name: str, window: windows.Window) -> Iterator[Problem]:
    if not window.labels:
        return
    if spec.labels.revision is not None:
        why = "a correction would count beside the label that it corrects"
        yield ("features", name), f"a window over labels with labels.revision is not supported yet, {why}; remove one"
    if spec.task == "multiclass" and window.aggregate not in windows.OF_ROWS:
        why = "classes are no numbers: their order means nothing"
        yield (
            ("features", name),
            f"{window.aggregate} of the label: {why}; ask its {' or '.join(sorted(windows.OF_ROWS))}",
        )
    if spec.absent_label is not None and window.aggregate in SHARES:
        why = "only labels that come are seen, and labels.absent says what the others are"
        yield ("features", name), f"{window.aggregate} of the label would be of a part: {why}; ask its count or sum"
