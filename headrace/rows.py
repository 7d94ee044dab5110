"""Turns the rows of a file into events and the labels that follow them, in the order in which they are sent.

Pure: the same rows and options give the same messages, byte for byte. `replay` sends them, `simulate` folds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.casts import column
from headrace.errors import WrongUse
from schemas.pipeline import FieldSpec, Pipeline
from schemas.quantities import milliseconds

CHUNK = 10_000
"""Rows that are encoded at a time: large files stay small in memory."""

Times = npt.NDArray[np.int64]


class Input(NamedTuple):
    """One message to send."""

    kind: str
    """`events` or `labels`: the logical topic."""
    key: bytes
    """The entity, or the event's id where the pipeline has none."""
    value: bytes
    time: int | None
    """Event time of an event, the time at which a label was known; epoch milliseconds."""


@dataclass(frozen=True, slots=True)
class Delay:
    """How long after its event a label is known: so many rows, or so many milliseconds."""

    rows: int | None = None
    ms: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What the file does not say by itself."""

    time: str | None = None
    """Column with the event time; by default the one that is called like the field."""
    start: int | None = None
    """Event time of the first row where the file has none, epoch milliseconds."""
    every: int | None = None
    """Milliseconds from row to row."""
    label: str | None = None
    """Column with the label; by default the one that is called like the field."""
    delay: Delay = Delay(rows=0)
    prefix: str = "row-"
    labels: bool = True

    @classmethod
    def of(
        cls,
        *,
        time: str | None = None,
        start: str | None = None,
        every: str | None = None,
        label: str | None = None,
        delay: str = "0rows",
        prefix: str = "row-",
        labels: bool = True,
    ) -> Options:
        """The options as a person writes them; WrongUse names the one that does not fit."""
        if time is not None and start is not None:
            raise WrongUse("--time and --start exclude each other: the event time is in a column or it is counted")
        if (start is None) != (every is None):
            raise WrongUse("--start and --every go together, such as --start 2026-01-01T00:00:00Z --every 30m")
        return cls(
            time=time,
            start=None if start is None else _moment(start),
            every=None if every is None else _duration("--every", every),
            label=label,
            delay=_delay(delay),
            prefix=prefix,
            labels=labels,
        )


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUse(f"--start {text}: write a time such as 2026-01-01T00:00:00Z") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _duration(option: str, text: str) -> int:
    try:
        return milliseconds(text)
    except ValueError as error:
        raise WrongUse(f"{option}: {error}") from None


def _delay(text: str) -> Delay:
    number = text.removesuffix("rows").removesuffix("row").strip()
    if number != text and number.isdecimal():
        return Delay(rows=int(number))
    try:
        return Delay(ms=milliseconds(text))
    except ValueError as error:
        raise WrongUse(f"--label-delay: {error}, or rows, such as 48rows") from None


def messages(frame: pl.DataFrame, spec: Pipeline, options: Options) -> Iterator[Input]:
    """Events and labels in the order in which they become known.

    The label of row i follows event i + delay, or the first event that is as late as the label's time. Labels that are
    due after the last event come at the end. Columns are checked before the first message is made.

    Raises:
        WrongUse: A column is missing or does not fit its field, or the options do not fit the pipeline.
    """
    times = _times(frame, spec, options)
    events = _events(frame, spec, options, times)
    if not options.labels:
        return _encoded("events", events, spec, spec.events.time)
    labels, due = _labels(frame, spec, options, times, events)
    return _merged(_encoded("events", events, spec, spec.events.time), _encoded("labels", labels, spec), due)


def _times(frame: pl.DataFrame, spec: Pipeline, options: Options) -> Times | None:
    field = spec.events.time
    if field is None:
        if options.time or options.start is not None:
            raise WrongUse("the pipeline has no events.time: leave --time, --start and --every out, or name it there")
        return None
    if options.start is not None and options.every is not None:
        return options.start + options.every * np.arange(frame.height, dtype=np.int64)
    if options.time is None and field not in frame.columns:
        raise WrongUse(
            f"the file has no column {field!r} for the event time: name one with --time COLUMN, or count it with "
            "--start 2026-01-01T00:00:00Z --every 30m"
        )
    values = column(frame, options.time or field, FieldSpec(type="timestamp"), f"the event time {field!r}")
    if values.null_count():
        raise WrongUse(f"column {values.name!r}, row {values.is_null().arg_true()[0]}: an event needs a time")
    times: Times = values.to_numpy()
    return times


def _events(frame: pl.DataFrame, spec: Pipeline, options: Options, times: Times | None) -> pl.DataFrame:
    columns = []
    for name, field in spec.event_fields.items():
        if name == spec.events.time and times is not None:
            values = pl.Series(name, times)
        elif name == spec.events.id and name not in frame.columns:
            values = pl.select(pl.lit(options.prefix) + pl.int_range(frame.height).cast(pl.String)).to_series()
        else:
            values = column(frame, name, field, f"the field {name!r}")
        columns.append(values.alias(name))
    return pl.DataFrame(columns)


def _labels(
    frame: pl.DataFrame, spec: Pipeline, options: Options, times: Times | None, events: pl.DataFrame
) -> tuple[pl.DataFrame, Times]:
    """The labels in the order in which they are due, and the event that each follows."""
    if spec.events.id is None:
        raise WrongUse("the pipeline has no events.id, so a label cannot name its event: add it, or use --no-labels")
    labels, source = spec.labels, options.label or spec.labels.field
    known, due = _known(times, frame.height, options.delay)
    columns = [events.get_column(spec.events.id).alias(labels.id)]
    if spec.events.entity is not None:
        columns.append(events.get_column(spec.events.entity))
    if labels.time is not None:
        if known is None:
            raise WrongUse("the pipeline has labels.time and no events.time: a label's time cannot be computed")
        columns.append(pl.Series(labels.time, known))
    if labels.revision is not None:  # a file holds one label of each row
        columns.append(pl.Series(labels.revision, np.zeros(frame.height, np.int64)))
    values = column(frame, source, spec.label_fields[labels.field], f"the label {labels.field!r}")
    if spec.classes:
        _refuse_unknown_classes(values, spec)
    table = pl.DataFrame([*columns, values.alias(labels.field)])
    order = np.lexsort((np.arange(frame.height), due if known is None else known, due))
    order = order[values.is_not_null().to_numpy()[order]]
    return table[order], due[order]


def _refuse_unknown_classes(values: pl.Series, spec: Pipeline) -> None:
    unknown = [each for each in values.drop_nulls().unique(maintain_order=True) if each not in spec.classes]
    if unknown:
        raise WrongUse(
            f"column {values.name!r} holds {unknown[0]!r}, which is not among labels.values "
            f"({', '.join(map(str, spec.classes))}): add it there or name another column with --label"
        )


def _known(times: Times | None, rows: int, delay: Delay) -> tuple[Times | None, Times]:
    """When each label is known, and the index of the event after which it is sent (at the most the last one)."""
    if delay.rows is not None:
        due = np.arange(rows, dtype=np.int64) + delay.rows
        return None if times is None else _time_of(times, due), np.minimum(due, rows - 1)
    if times is None or delay.ms is None:
        raise WrongUse("--label-delay: without events.time a delay counts rows, such as 48rows")
    known = times + delay.ms
    reached = np.searchsorted(np.maximum.accumulate(times), known)
    return known, np.minimum(np.maximum(reached, np.arange(rows)), rows - 1)


def _time_of(times: Times, rows: Times) -> Times:
    """Event times of rows; those behind the end go on with the typical step."""
    end, step = len(times) - 1, int(np.median(np.diff(times))) if len(times) > 1 else 0
    known: Times = times[np.minimum(rows, end)] + np.maximum(rows - end, 0) * max(step, 0)
    return known


def _encoded(kind: str, table: pl.DataFrame, spec: Pipeline, time: str | None = None) -> Iterator[Input]:
    key = spec.events.entity or (spec.events.id if kind == "events" else spec.labels.id)
    time = time or (spec.labels.time if kind == "labels" else None)
    for chunk in table.iter_slices(CHUNK):
        values = chunk.select(pl.struct(pl.all()).struct.json_encode()).to_series()
        keys = chunk.get_column(key) if key else [""] * chunk.height
        times = chunk.get_column(time) if time else [None] * chunk.height
        for each, value, moment in zip(keys, values, times, strict=True):
            yield Input(kind, (each or "").encode(), value.encode(), moment)


def _merged(events: Iterator[Input], labels: Iterator[Input], due: Times) -> Iterator[Input]:
    waiting = iter(zip(due.tolist(), labels, strict=True))
    following = next(waiting, None)
    for index, event in enumerate(events):
        yield event
        while following is not None and following[0] <= index:
            yield following[1]
            following = next(waiting, None)
