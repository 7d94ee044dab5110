"""What an anchor's world looked like: bins and how many reference rows fell into them, as `reference.arrow` says it.

Size before compression: 8 bytes per cell and stratum, at most 16 MB of pane counts, and the bins: 300 bytes per numeric
feature and score, and per category at most 64 kB of text besides the thirty most frequent values. Most cells of a short
pane are 0: at 20 features and 2,000 panes of 25 rows the file has a megabyte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import bins_codes as codes
from schemas.batch import BatchError, decode
from schemas.bins import Axes, Bins, Counts, Family, Kind, Stream

REFERENCE = "reference.arrow"
"""Name of the file in an artefact."""

MOST_PANES, MOST_PANE_CELLS = 2_048, 4_000_000
"""Newest panes that are kept apart, to see how much they depend on each other."""

Ints = npt.NDArray[np.int64]
Season = Literal["hour_of_day", "day_of_week"]

HOUR, HOURS, DAYS = 3_600_000, 24, 7
FIRST_DAY = 3
"""1970-01-01 was a Thursday; Monday is 0."""

STREAM = pa.struct(
    [
        ("name", pa.string()),
        ("family", pa.string()),
        ("kind", pa.string()),
        ("edges", pa.list_(pa.float64())),
        ("values", pa.list_(pa.string())),
        ("leading", pa.int64()),
        ("once", pa.int64()),
        ("closed", pa.bool_()),
        ("lowest", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("streams", pa.list_(STREAM)),
        ("axes", pa.list_(pa.string())),
        ("normal", pa.list_(pa.int8())),
        ("loadings", pa.list_(pa.int16())),
        ("seasons", pa.list_(pa.string())),
        ("counts", pa.list_(pa.int64())),
        ("visits", pa.list_(pa.int64())),
        ("panes", pa.list_(pa.int32())),
        ("strata", pa.list_(pa.int64())),
    ]
)
"""The file is an Arrow IPC stream of one row; arrays are flat, the last axis fastest."""


class BadReferenceError(ValueError):
    """The bytes are not a reference."""


def strata_of(times: Ints, seasons: Sequence[Season]) -> Ints:
    """The stratum of each time: the hour of the day, the day of the week, or both, in UTC; 0 without seasons.

    Args:
        times: Milliseconds since the epoch, shape (rows,) or (panes,).
        seasons: Any of the two.
    """
    hours = times // HOUR
    stratum = np.zeros(len(times), np.int64)
    if "day_of_week" in seasons:
        stratum = (hours // HOURS + FIRST_DAY) % DAYS
    if "hour_of_day" in seasons:
        stratum = stratum * HOURS + hours % HOURS
    return stratum


def strata_count(seasons: Sequence[Season]) -> int:
    """How many strata there are."""
    return (DAYS if "day_of_week" in seasons else 1) * (HOURS if "hour_of_day" in seasons else 1)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Bins with what fell into them.

    Attributes:
        bins: The language of the counts.
        counts: Reference rows per stratum and cell, shape (strata, cells).
        visits: How often time came into each stratum, shape (strata,).
        panes: Counts of the newest consecutive panes, shape (panes, cells).
        strata: Stratum of each of those panes, shape (panes,).
        seasons: What the strata are.
    """

    bins: Bins
    counts: Ints
    visits: Ints
    panes: Counts
    strata: Ints
    seasons: tuple[Season, ...] = ()

    @classmethod
    def of(cls, bins: Bins, panes: Counts, strata: Ints | None = None, seasons: Sequence[Season] = ()) -> Reference:
        """A reference of consecutive panes.

        Args:
            bins: The bins that they were counted with.
            panes: Counts in order of time, shape (panes, cells).
            strata: Stratum of each pane; all in the first where it is left out.
            seasons: What the strata are.
        """
        strata = np.zeros(len(panes), np.int64) if strata is None else strata
        total = strata_count(seasons)
        counts = np.zeros((total, bins.cells), np.int64)
        np.add.at(counts, strata, panes)
        entered = np.concatenate(([True], strata[1:] != strata[:-1]))[: len(strata)]
        visits = np.bincount(strata[entered], minlength=total).astype(np.int64)
        return cls(bins, counts, visits, _newest(bins, panes), _newest(bins, strata), tuple(seasons))

    @property
    def pooled(self) -> Ints:
        """Counts over all strata, shape (cells,)."""
        return self.counts.sum(axis=0)  # type: ignore[no-any-return]

    def together(self, other: Reference) -> Reference:
        """This one and one of the same bins, whose panes lie later."""
        panes, strata = np.concatenate((self.panes, other.panes)), np.concatenate((self.strata, other.strata))
        counts, visits = self.counts + other.counts, self.visits + other.visits
        newest = _newest(self.bins, panes), _newest(self.bins, strata)
        return Reference(self.bins, counts, visits, *newest, self.seasons)

    def to_bytes(self) -> bytes:
        """The content of `reference.arrow`."""
        axes = self.bins.axes
        row = {
            "streams": [{field.name: getattr(each, field.name) for field in STREAM} for each in self.bins.streams],
            "axes": axes.columns if axes else (),
            "normal": axes.normal.ravel() if axes else (),
            "loadings": axes.loadings.ravel() if axes else (),
            "seasons": self.seasons,
            "counts": self.counts.ravel(),
            "visits": self.visits,
            "panes": self.panes.ravel(),
            "strata": self.strata,
        }
        batch = pa.record_batch([_list(row[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
        with pa.BufferOutputStream() as sink:
            with pa.ipc.new_stream(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
                stream.write_batch(batch)
            return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]

    @classmethod
    def from_bytes(cls, value: bytes) -> Reference:
        """The reference that a file holds.

        Raises:
            BadReferenceError: It holds none, or one that contradicts itself.
        """
        row = _row(value)
        try:
            return _reference(row)
        except (ValueError, TypeError, OverflowError) as error:
            raise BadReferenceError(f"{REFERENCE}: {error}; fit the model again") from error


def _newest(bins: Bins, panes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    kept = min(MOST_PANES, MOST_PANE_CELLS // max(1, bins.cells))
    return panes[max(0, len(panes) - kept) :]


def _list(values: object, kind: pa.DataType) -> pa.Array:
    flat = pa.array(values, kind.value_type)
    return pa.ListArray.from_arrays(pa.array([0, len(flat)], pa.int32()), flat)


def _row(value: bytes) -> dict[str, pa.Array]:
    """The columns' values, checked for their types and for nulls."""
    try:
        batch = decode(value)
        batch.validate(full=True)
    except (BatchError, pa.ArrowException, OSError) as error:
        raise BadReferenceError(f"{REFERENCE} is not an Arrow stream: {error}; fit the model again") from error
    if batch.schema != SCHEMA or batch.num_rows != 1:
        raise BadReferenceError(f"{REFERENCE} does not have the columns of a reference; fit the model again")
    row = {name: batch.column(name).flatten() for name in SCHEMA.names}
    row |= {field.name: row["streams"].field(field.name) for field in STREAM}
    for name in ("edges", "values"):
        row[f"{name}'"] = row[name].flatten()
    if nulls := [name for name, each in row.items() if each.null_count]:
        raise BadReferenceError(f"{REFERENCE} has nulls in {', '.join(nulls)}; fit the model again")
    return row


def _reference(row: dict[str, pa.Array]) -> Reference:
    streams = tuple(_stream(each) for each in row["streams"].to_pylist())
    if len({each.key for each in streams}) < len(streams):
        raise ValueError("two streams have one name")
    bins = Bins(streams, _axes(row, streams))
    seasons = tuple(row["seasons"].to_pylist())
    if not set(seasons) <= {"hour_of_day", "day_of_week"}:
        raise ValueError(f"seasons {seasons} are not known")
    total = strata_count(seasons)
    strata = _whole(row["strata"], (-1,), "strata", below=total)
    return Reference(
        bins,
        _whole(row["counts"], (total, bins.cells), "counts"),
        _whole(row["visits"], (total,), "visits"),
        _whole(row["panes"], (len(strata), bins.cells), "panes"),
        strata,
        seasons,
    )


def _stream(told: dict[str, Any]) -> Stream:
    stream = Stream(**told | {"edges": tuple(told["edges"]), "values": tuple(told["values"])})
    edges = np.array(stream.edges)
    wrong = {
        "family": stream.family not in get_args(Family),
        "kind": stream.kind not in get_args(Kind),
        "edges": len(edges) > codes.RANKS - 2 or not np.isfinite(edges).all() or np.any(edges[1:] <= edges[:-1]),
        "values": len(set(stream.values)) < len(stream.values),
        "leading": not 0 <= stream.leading <= min(codes.LEADING, len(stream.values)),
        "once": not 0 <= stream.once <= len(stream.values) - stream.leading,
        "lowest": abs(stream.lowest) > codes.EXPONENTS,
    }
    if found := [name for name, each in wrong.items() if each]:
        raise ValueError(f"{', '.join(found)} of stream {stream.name!r} cannot be")
    return stream


def _axes(row: dict[str, pa.Array], streams: Sequence[Stream]) -> Axes | None:
    columns = tuple(row["axes"].to_pylist())
    scores = sum(each.kind == "score" for each in streams)
    if not set(columns) <= {each.name for each in streams if each.kind == "numeric"}:
        raise ValueError("the axes are of other features")
    if not columns and not scores:
        return None
    normal, loadings = (row[name].to_numpy(zero_copy_only=False) for name in ("normal", "loadings"))
    return Axes(columns, normal.reshape(len(columns), codes.RANKS), loadings.reshape(scores, len(columns)))


def _whole(values: pa.Array, shape: tuple[int, ...], name: str, below: int | None = None) -> npt.NDArray[Any]:
    """The numbers, none of which is negative, in their shape."""
    array: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
    if array.size and (array.min() < 0 or (below is not None and array.max() >= below)):
        raise ValueError(f"{name} are out of bounds")
    if shape != (-1,) and array.size != np.prod(shape):
        raise ValueError(f"{array.size} {name} where the bins need {np.prod(shape)}")
    return array.reshape(shape)
