"""Recorded streams with late labels: as a pipeline of the product, and as numbers for everybody else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from benchmarks.baselines.learners import PARAMS, Rows
from headrace.rows import Options
from schemas.pipeline import Pipeline, parse

SCORED = 0.9
"""Share of the rows, the newest, that is scored."""
FIRST = 0.7
"""Of the rows before, the share that the first model is fitted on."""

PANE = 25
"""Rows of a pane, as the documentation of drift asks for."""
MODEL = {"estimator": "hist_gradient_boosting", "params": PARAMS}
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Stream:
    """A file and what is known of it.

    Attributes:
        name: Of the file and the pipeline.
        task: As in pipeline.yaml.
        label: Its column.
        left_out: Columns that no model may see.
        categories: Columns that are codes.
        minutes: From row to row.
        delay: Rows after which a label is known.
        windows: Features over labels that had arrived.
    """

    name: str
    task: str
    label: str
    left_out: tuple[str, ...]
    categories: tuple[str, ...]
    minutes: int
    delay: int
    windows: Mapping[str, Any]

    @property
    def metric(self) -> str:
        """What is compared: higher accuracy or lower RMSE is better."""
        return "rmse" if self.task == "regression" else "accuracy"

    def takes(self, policy: Mapping[str, Any]) -> bool:
        """Whether a policy is for this stream: an online member is for classes, windows are over its labels."""
        online = policy.get("model", NOTHING).get("online")
        return not (online and self.task == "regression") and not (policy.get("windows") and not self.windows)

    def read(self, folder: Path) -> pl.DataFrame:
        """The file, texts that are numbers as numbers."""
        frame = pl.read_csv(folder / f"{self.name}.csv.gz").drop(self.left_out)
        texts = [name for name, kind in frame.schema.items() if kind == pl.String and name != self.label]
        numbers = frame.with_columns(pl.col(texts).str.strip_chars().cast(pl.Float64))
        return numbers.with_columns(pl.col(self.categories).cast(pl.String), row=pl.int_range(pl.len()).cast(pl.String))

    def features(self, frame: pl.DataFrame) -> list[str]:
        """Columns that models see."""
        return [name for name in frame.columns if name not in (self.label, "row")]

    def options(self) -> Options:
        """How the file becomes events and labels."""
        return Options.of(start="2020-01-01T00:00:00Z", every=f"{self.minutes}m", delay=f"{self.delay}rows")

    def pipeline(
        self,
        frame: pl.DataFrame,
        model: Mapping[str, Any] = NOTHING,
        strategy: Mapping[str, Any] = NOTHING,
        *,
        windows: bool = False,
    ) -> Pipeline:
        """The pipeline of this file, everything else at its default."""
        features = self.features(frame)
        kinds = {name: {"type": "category" if name in self.categories else "number"} for name in features}
        said = {
            "pipeline": self.name.replace("_", "-"),
            "task": self.task,
            "events": {"id": "row", "time": "at", "fields": {"at": {"type": "timestamp"}, **kinds}},
            "labels": {"id": "row", "time": "known_at", "field": self.label, "horizon": "30d", **self._labels(frame)},
            "features": {name: name for name in features} | (dict(self.windows) if windows else {}),
            "windows": {"per": "partition"},
            "model": MODEL | dict(model),
            "drift": {"pane": f"{self.minutes * PANE}m", "lateness": f"{self.minutes}m"},
            "training": {"min_rows": first(frame)},
        }
        return parse(json.dumps(said | {"strategy": strategy} if strategy else said))

    def _labels(self, frame: pl.DataFrame) -> dict[str, Any]:
        if self.task == "regression":
            return {"type": "number"}
        return {"type": "category", "values": sorted(frame[self.label].unique())}

    def rows(self, frame: pl.DataFrame) -> Rows:
        """The same as numbers."""
        features = self.features(frame)
        codes = frame.with_columns(pl.col(self.categories).cast(pl.Categorical).to_physical())
        return Rows(
            features=codes.select(features).cast(pl.Float64).to_numpy(),
            labels=self.labels(frame),
            categories=tuple(features.index(name) for name in self.categories),
            delay=self.delay,
            first=first(frame),
            classes=0 if self.task == "regression" else frame[self.label].n_unique(),
        )

    def labels(self, frame: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Values, or the index of the class in the order of their names."""
        if self.task == "regression":
            return frame[self.label].cast(pl.Float64).to_numpy()
        return np.searchsorted(np.array(sorted(frame[self.label].unique())), frame[self.label].to_numpy()).astype(float)


def first(frame: pl.DataFrame) -> int:
    """Rows of the first fit."""
    return int(frame.height * (1 - SCORED) * FIRST)


def scored_from(frame: pl.DataFrame) -> int:
    """The first row that is scored."""
    return int(frame.height * (1 - SCORED))


_LABELLED = {"ups": {"mean": "label", "over": "12h"}, "last_label": {"last": "label", "over": "2d"}}
"""What was known lately: the share of a class among the newest labels, and the newest one."""

STREAMS = (
    Stream("elec2", "binary", "class", ("date",), ("day",), 30, 48, _LABELLED),
    Stream("bike_hour", "regression", "cnt", ("instant", "dteday", "casual", "registered"), (), 60, 24, {}),
    Stream("gas_sensor", "multiclass", "class", ("batch", "concentration"), (), 10, 50, {}),
)
