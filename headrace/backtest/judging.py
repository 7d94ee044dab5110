"""What a run amounts to: fits, episodes, false alarms, delay, and the metric. Pure but for reading the run's log.

An episode is a **false alarm** when the error of its anchor did not rise behind it: the mean loss of up to
`drift.settle` labelled rows from its estimated start on is not above the mean of as many before, by more than RISE
standard errors of the difference. Rows of before and after are those that the same anchor scored. Of bad data nothing
is asked: its rows are not to be learnt, whether the error rises or not; and with fewer than LEAST rows on either side
nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from headrace import score
from headrace.drift.reading import DECIDER, Story, stories
from headrace.explain.reading import ledger
from headrace.following import whole
from headrace.report import examples
from runtime.ports import LogReader
from runtime.signing import Keys
from schemas import batch as b
from schemas.pipeline import Pipeline
from schemas.task import Target, anchored, shaped

RISE = 2.0
LEAST = 100
BY_LABEL = frozenset({"concept", "label"})
"""Families that are judged at the time of the label; the others at that of the event."""

Floats = npt.NDArray[np.float64]
Verdict = Literal["rise", "false", "unknown"]


@dataclass(frozen=True, slots=True)
class Losses:
    """How the anchors did, row by row.

    Attributes:
        time: Event time, milliseconds.
        label_time: Event time of the label.
        anchor: Version of the anchor that scored the row.
        loss: Its loss.
    """

    time: npt.NDArray[np.int64]
    label_time: npt.NDArray[np.int64]
    anchor: npt.NDArray[np.int64]
    loss: Floats


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two columns.

    Attributes:
        trainings: Fits, whatever came of them.
        members: Fits that were announced.
        suppressed: Triggers that led to no fit.
        fit_seconds: Seconds that the fits took.
        episodes: Drift episodes, bad data among them.
        kinds: How many of each kind.
        false_alarms: Episodes that no rise of the error followed.
        unknown: Episodes of which too few rows are labelled to say so; bad data among them.
        delay_rows: Median of the rows from an episode's estimated start to its detection; None without any.
        delay_seconds: Likewise, in seconds of event time.
        judged: Labelled rows that both policies predicted: the metric is theirs.
        metric: Its figures, by the task.
    """

    trainings: int
    members: int
    suppressed: int
    fit_seconds: float
    episodes: int
    kinds: dict[str, int]
    false_alarms: int
    unknown: int
    delay_rows: float | None
    delay_seconds: float | None
    judged: int
    metric: score.Figures

    def as_json(self) -> dict[str, object]:
        """Plain values for `--json`."""
        return asdict(self)


def predicted(log: LogReader) -> pl.DataFrame:
    """The labelled rows of a run that were predicted."""
    return examples(log).filter(pl.col(b.PREDICTION).is_not_null())


def side(log: LogReader, spec: Pipeline, keys: Keys, rows: pl.DataFrame, fit_seconds: float) -> Side:
    """What a run amounts to.

    Args:
        log: What was said in it.
        spec: The pipeline with its policy.
        keys: By which it was signed.
        rows: The labelled rows by which it is scored.
        fit_seconds: Seconds that its fits took.
    """
    told, found = ledger(log, keys), list(stories(log).values())
    known = losses(log, spec.target)
    verdicts = [verdict(each, known, spec.drift.settle) for each in found]
    fits = [each for each in told.by(DECIDER, "fitted", "rejected") if "challenger" not in each.evidence]
    first, second = score.judged(rows) if rows.height else (np.empty(0), np.empty(0))
    regression = spec.target.is_regression
    kinds = [each.kind for each in found]
    return Side(
        trainings=len(fits),
        members=len(told.members),
        suppressed=len(told.by(DECIDER, "suppressed")),
        fit_seconds=fit_seconds,
        episodes=len(found),
        kinds={each: kinds.count(each) for each in dict.fromkeys(kinds)},
        false_alarms=verdicts.count("false"),
        unknown=verdicts.count("unknown"),
        delay_rows=_median([each.episode.rows for each in found]),
        delay_seconds=_median([_delay(each) for each in found]),
        judged=rows.height,
        metric=score.figures(len(first), float(first.sum()), float(second.sum()), regression=regression),
    )


def verdict(story: Story, known: Losses, most: int) -> Verdict:
    """Whether the error of its anchor rose behind an episode."""
    episode = story.episode
    if episode.kind == "bad_data":
        return "unknown"
    times = known.label_time if episode.family in BY_LABEL else known.time
    start = round(episode.estimated_start.timestamp() * 1000)
    own = known.anchor == episode.anchor
    order = np.argsort(times[own], kind="stable")
    when, loss = times[own][order], known.loss[own][order]
    at = int(np.searchsorted(when, start))
    before, after = loss[max(at - most, 0) : at], loss[at : at + most]
    if min(len(before), len(after)) < LEAST:
        return "unknown"
    error = np.sqrt(before.var(ddof=1) / len(before) + after.var(ddof=1) / len(after))
    return "rise" if after.mean() - before.mean() > RISE * error else "false"


def losses(log: LogReader, target: Target) -> Losses:
    """How the anchors did."""
    nothing = np.empty(0, np.int64)
    parts = [Losses(nothing, nothing, nothing, np.empty(0))]
    for _, message in whole(log, "examples"):
        batch = _uncorrected(b.decode(message.value))
        anchor, outputs = anchored(batch, target.width)
        labels = batch.column(b.LABEL).to_numpy(zero_copy_only=False)
        scored = (anchor > 0) & np.isfinite(outputs).all(axis=1)
        times = [batch.column(each).cast("int64").to_numpy(zero_copy_only=False) for each in (b.TIME, b.LABEL_TIME)]
        loss = target.losses(shaped(outputs[scored], target.width), labels[scored])
        parts.append(Losses(times[0][scored], times[1][scored], anchor[scored], loss))
    return Losses(
        np.concatenate([each.time for each in parts]),
        np.concatenate([each.label_time for each in parts]),
        np.concatenate([each.anchor for each in parts]),
        np.concatenate([each.loss for each in parts]),
    )


def _uncorrected(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Without the rows that correct an earlier label."""
    if b.CORRECTION not in batch.schema.names:
        return batch
    return batch.filter(pc.invert(pc.fill_null(batch.column(b.CORRECTION), False)))


def _delay(story: Story) -> float:
    return (story.episode.detected_at - story.episode.estimated_start).total_seconds()


def _median(values: Sequence[float]) -> float | None:
    return float(median(values)) if values else None
