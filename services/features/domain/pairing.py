"""Rows as they were served beside the same rows computed again: which of their features differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from schemas import batch as b
from schemas.checks import windowed
from schemas.pipeline import Pipeline
from services.features.domain.sampling import Mask

_KEY = [b.SOURCE, b.POSITION, b.ROW]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The same rows in the same order.

    Attributes:
        served: As they were scored.
        again: As they are computed from records.
        missing: Served rows that were not computed again.
    """

    served: pa.RecordBatch
    again: pa.RecordBatch
    missing: pa.RecordBatch

    def differing(self, feature: str) -> Mask:
        """Where a feature differs, by its bits or by being null; a feature that was not served differs nowhere."""
        if feature not in self.served.schema.names:
            return np.zeros(self.served.num_rows, bool)
        served, again = self.served.column(feature), self.again.column(feature)
        if served.type != again.type:
            return np.ones(self.served.num_rows, bool)
        return _series(served).ne_missing(_series(again)).to_numpy()

    def windowless(self, features: Iterable[str]) -> Mask:
        """Where all windows of one side are null, as they are where an entity found no place."""
        names = list(features)
        return _empty(self.served, names) | _empty(self.again, names)


def of_records(spec: Pipeline) -> Pipeline:
    """The pipeline with those of its features that records alone give: not what depends on which labels had arrived."""
    of_labels = {name for name, window in windowed(spec).items() if window.labels}
    kept = {name: form for name, form in spec.features.items() if name not in of_labels}
    fields = {name: getattr(spec, name) for name in type(spec).model_fields}
    return type(spec).model_construct(**{**fields, "features": kept})  # a copy would keep what was derived


def pair(served: pa.RecordBatch, again: pa.RecordBatch) -> Pairs:
    """Find the rows by their identity."""
    left, right = _keys(served, "served"), _keys(again, "again")
    found = left.join(right, on=_KEY, how="inner").sort("served")
    missing = left.join(right, on=_KEY, how="anti").sort("served")
    return Pairs(
        served.take(found["served"].to_arrow()),
        again.take(found["again"].to_arrow()),
        served.take(missing["served"].to_arrow()),
    )


def behind(rows: pa.RecordBatch, tops: Mapping[int, int]) -> pa.RecordBatch:
    """The rows that lie behind the highest ones of their sources."""
    source, order = b.sources(rows), b.orders(rows)
    keep = np.ones(rows.num_rows, bool)
    for each, top in tops.items():
        keep &= (source != each) | (order > top)
    return rows if keep.all() else rows.filter(pa.array(keep))


def tops(rows: pa.RecordBatch) -> dict[int, int]:
    """The highest order value of each source."""
    source, order = b.sources(rows), b.orders(rows)
    return {each: int(order[source == each].max()) for each in np.unique(source).tolist()}


def _empty(rows: pa.RecordBatch, names: Iterable[str]) -> Mask:
    empty = np.ones(rows.num_rows, bool)
    for name in set(names) & set(rows.schema.names):
        empty &= rows.column(name).is_null().to_numpy(zero_copy_only=False)
    return empty


def _keys(rows: pa.RecordBatch, name: str) -> pl.DataFrame:
    columns = {each: _series(rows.column(each)) for each in _KEY}
    return pl.DataFrame(columns).with_row_index(name)


def _series(values: pa.Array) -> pl.Series:
    return pl.Series(values)
