"""Window features of whole real streams are those that polars computes from the definition by joins with panes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from schemas.windows import PANES, Window, read
from services.features.domain.windows import Windows

DATA = Path(__file__).parents[5] / "shared" / "data"
LATENESS = 3_600_000
LATE_EVERY, LATE_BY = 50, 7
"""Each fiftieth row comes seven rows late."""

STREAMS = {"elec2": ("day", "nswprice"), "bike_hour": ("weathersit", "cnt"), "gas_sensor": ("batch", "f1")}
FORMS: dict[str, dict[str, object]] = {
    **{name: {name: "x", "over": "24h"} for name in ("count", "sum", "mean", "std", "min", "max", "last", "since")},
    "rows": {"count": "*", "over": "36h"},
    "mean_few": {"mean": "x", "over": "100 rows", "within": "7d"},
    "last_few": {"last": "x", "over": "100 rows", "within": "7d"},
}
WINDOWS = {name: read(form, {"x": "number"}) for name, form in FORMS.items()}


@pytest.mark.parametrize("stream", STREAMS)
def test_window_features_of_a_whole_stream_are_those_of_polars(stream: str) -> None:
    path = DATA / f"{stream}.csv.gz"
    if not path.exists():
        pytest.skip(f"the stream {stream} is not in ../shared/data")
    rows = _rows(path, *STREAMS[stream])
    found = _found(rows)
    for name, window in WINDOWS.items():
        wanted = _wanted(rows, window)
        assert np.array_equal(np.isnan(found[name]), np.isnan(wanted)), name
        assert np.allclose(found[name], wanted, rtol=1e-9, atol=1e-9, equal_nan=True), name


def _rows(path: Path, entity: str, value: str) -> pl.DataFrame:
    """The stream in the order of its arrival, half-hourly, some rows late and every ninth value missing."""
    frame = pl.read_csv(path, infer_schema_length=None).select(
        entity=pl.col(entity).cast(pl.String),
        time=pl.int_range(pl.len()) * 1_800_000 + 1_700_000_000_000,
        x=pl.when(pl.int_range(pl.len()) % 9 > 0).then(pl.col(value).cast(pl.Float64)),
    )
    place = pl.int_range(pl.len())
    late = pl.when(place % LATE_EVERY == 0).then(LATE_BY + 0.5).otherwise(0)
    return frame.sort(place + late).with_row_index("i").with_columns(k=pl.int_range(pl.len()).over("entity"))


def _found(rows: pl.DataFrame) -> dict[str, np.ndarray]:
    engine = Windows(WINDOWS, LATENESS, 1_000)
    parts: list[dict[str, np.ndarray]] = []
    start = 0
    sizes = np.random.default_rng(1).integers(1, 3_000, len(rows)).tolist()
    while start < len(rows):
        part = rows[start : start + sizes[len(parts)]]
        values = {"x": part["x"].fill_null(float("nan")).to_numpy()}
        parts.append(engine.step(part["entity"].to_arrow().cast("string"), part["time"].to_numpy(), values))
        start += len(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in WINDOWS}


def _wanted(rows: pl.DataFrame, window: Window) -> np.ndarray:
    pane, kept = window.pane, window.kept(LATENESS)
    last, newest = pl.col("time") // pane, (pl.col("time").cum_max() - kept) // pane
    asking = rows.select(
        "i", "entity", "k", now="time", pane=pl.int_ranges(pl.max_horizontal(last, newest) - PANES, last + 1)
    )
    held = rows.select("entity", "x", j="i", l="k", then="time", pane=last)
    pairs = asking.explode("pane").join(held, on=["entity", "pane"]).filter(pl.col("j") < pl.col("i"))
    if window.rows is not None:
        pairs = pairs.filter(pl.col("l") >= pl.col("k") - window.rows)
    if window.of != "*":
        pairs = pairs.filter(pl.col("x").is_not_null())
    order = ["i", "j"] if window.rows is not None else ["i", "pane", "j"]
    answers = pairs.sort(order).group_by("i", maintain_order=True).agg(answer=_aggregate(window.aggregate))
    empty = 0.0 if window.aggregate == "count" else None
    told = rows.select("i").join(answers, on="i", how="left", maintain_order="left")["answer"]
    return told.cast(pl.Float64).fill_null(empty if empty is not None else float("nan")).to_numpy()


def _aggregate(name: str) -> pl.Expr:
    value = pl.col("x")
    return {
        "count": pl.len().cast(pl.Float64),
        "sum": value.sum(),
        "mean": value.mean(),
        "std": value.std(),
        "min": value.min(),
        "max": value.max(),
        "last": value.last(),
        "since": pl.max_horizontal(pl.col("now").first() - pl.col("then").max(), 0) / 1_000,
    }[name]
