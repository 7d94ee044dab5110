"""What a run did, told from its log: the metric over time, episodes, fits and swaps.

Reads any log, Kafka's or memory's, so a simulation and a live run are told by the same words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from headrace import score
from headrace.following import places, whole
from runtime.fold import Fold
from runtime.ports import LogReader, Message, Place
from schemas import batch as b
from schemas.cloudevents import decode as decode_event
from schemas.messages import DriftEpisode, Member
from schemas.messages import Message as Fact

BUCKETS = 60
"""Points of the curve."""

COLUMNS = ["_label_time", b.SOURCE, b.POSITION, b.ROW, b.TIME, "_prediction", "_pool", "_label"]


@dataclass(frozen=True, slots=True)
class Point:
    """A stretch of the metric's curve: `rows` judged rows that end at row `until`; in regression it has an rmse."""

    until: int
    rows: int
    accuracy: float | None
    rmse: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The story of a run.

    Attributes:
        events: Valid events.
        predictions: Distinct predictions.
        examples: Labelled rows.
        judged: Labelled rows that had been predicted by a model.
        dead_letters: Messages refused.
        accuracy: Prequential: share of judged rows whose class was the prediction; None without any, and in regression.
        log_loss: Prequential, natural logarithm; likewise.
        curve: Accuracy or rmse along the judged rows, in order of their labels.
        members: Fits that were announced, oldest first.
        episodes: Drift episodes, by opening.
        swaps: Judged row at which each pool first answered.
        rmse: Prequential root of the mean squared error; None without any, and where there are classes.
        mae: Prequential mean error without its sign; likewise.
    """

    events: int
    predictions: int
    examples: int
    judged: int
    dead_letters: int
    accuracy: float | None
    log_loss: float | None
    curve: list[Point]
    members: list[dict[str, Any]]
    episodes: list[dict[str, Any]]
    swaps: dict[int, int]
    rmse: float | None = None
    mae: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)


def report(log: LogReader) -> Report:
    """Tell the run whose log this is."""
    rows = examples(log)
    judged = rows.filter(pl.col("_prediction").is_not_null())
    first, second = score.judged(judged) if judged.height else (np.empty(0), np.empty(0))
    regression = score.is_regression(rows)
    figures = score.figures(len(first), float(first.sum()), float(second.sum()), regression=regression)
    return Report(
        events=sum(batch.num_rows for batch in batches(log, "records")),
        predictions=distinct_predictions(log),
        examples=rows.height,
        judged=judged.height,
        dead_letters=count(log, "dead-letters"),
        accuracy=figures.accuracy,
        log_loss=figures.log_loss,
        curve=_curve(second if regression else first, regression=regression),
        members=members(log),
        episodes=episodes(log),
        swaps=_swaps(judged),
        rmse=figures.rmse,
        mae=figures.mae,
    )


def batches(log: LogReader, topic: str) -> Iterator[pa.RecordBatch]:
    """Every row of a batch topic once, per partition in order, copies dropped."""
    folds = {place: Fold((topic,)) for place in places(log, topic)}
    for place, message in whole(log, topic):
        batch = b.decode(message.value)
        yield folds[place].take(topic, message.offset, batch, b.decode_headers(message.headers))[0]


def examples(log: LogReader) -> pl.DataFrame:
    """The labelled rows in the order of their labels, an event once; COLUMNS, of several classes `_probabilities`."""
    messages = (message for _, message in whole(log, "examples"))
    parts = [_columns(pl.DataFrame(b.decode(message.value))) for message in messages]
    rows = pl.concat(parts) if parts else _nothing()
    return rows.unique(b.EVENT_ID, keep="first", maintain_order=True).sort("_label_time", b.SOURCE, b.POSITION, b.ROW)


def _columns(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(*COLUMNS, b.EVENT_ID, *(each for each in (b.PROBABILITIES,) if each in rows.columns))


def newest_per_key(log: LogReader, place: Place) -> list[Message]:
    """The newest message of each key, in order of the keys' first appearance."""
    newest: dict[bytes | None, Message] = {}
    for message in log.read(place, log.begin(place), log.end(place)):
        newest[message.key] = message
    return list(newest.values())


def members(log: LogReader) -> list[dict[str, Any]]:
    """The announced members, oldest first."""
    found = [each for each in newest_per_key(log, Place("models", 0)) if b"/member/" in (each.key or b"")]
    return [_read(each, Member) for each in found]


def episodes(log: LogReader) -> list[dict[str, Any]]:
    """The drift episodes in their newest state, oldest first."""
    return [_read(each, DriftEpisode) for each in newest_per_key(log, Place("drift", 0))]


def _read(message: Message, model: type[Fact]) -> dict[str, Any]:
    return decode_event(message.value or b"", message.headers).read(model).model_dump(mode="json")


def count(log: LogReader, topic: str) -> int:
    """Messages of a topic."""
    return sum(1 for _ in whole(log, topic))


def distinct_predictions(log: LogReader) -> int:
    """Predictions by their CloudEvent id."""
    return len({decode_event(message.value or b"", message.headers).id for message in predictions(log)})


def predictions(log: LogReader) -> Iterator[Message]:
    """Every message of the topic predictions."""
    return (message for _, message in whole(log, "predictions"))


def _nothing() -> pl.DataFrame:
    types = {"_prediction": pl.Float64(), "_label": pl.Int8(), b.EVENT_ID: pl.String()}
    return pl.DataFrame(schema={name: types.get(name, pl.Int64()) for name in [*COLUMNS, b.EVENT_ID]})


def _curve(values: Any, *, regression: bool) -> list[Point]:
    ends = np.unique(np.linspace(0, len(values), BUCKETS + 1).astype(int)).tolist()
    means = [(end, end - start, float(np.mean(values[start:end]))) for start, end in pairwise(ends)]
    if regression:
        return [Point(end, rows, None, float(np.sqrt(mean))) for end, rows, mean in means]
    return [Point(end, rows, mean) for end, rows, mean in means]


def _swaps(judged: pl.DataFrame) -> dict[int, int]:
    first = judged.with_row_index("row").group_by("_pool").agg(pl.col("row").min()).sort("row")
    return dict(zip(first["_pool"].to_list(), first["row"].to_list(), strict=True))
