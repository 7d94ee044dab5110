"""The language of counting: which streams are watched and into which bins their values fall.

Training learns the bins from reference rows and writes them into the artefact; drift counts every pane with them. A
count is a sum over rows of something that depends on the row alone, in integers, so counts of partitions, batches and
restarts add up to the same whichever way the rows were cut.

Counts are flat: each stream has a run of `width` cells, in the order of the streams, without padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import bins_codes as codes

Family = Literal["concept", "features", "prediction", "label", "quality"]
Kind = Literal["numeric", "magnitude", "category", "score", "classes", "loss"]
Column: TypeAlias = pa.Array | npt.NDArray[Any]
Counts = npt.NDArray[np.int32]

PREDICTION, LABEL, LOSS, QUALITY = "_prediction", "_label", "_loss", "_quality"
"""Streams that are no feature; a feature's name begins with a letter."""

RANKED: tuple[Kind, ...] = ("numeric", "score", "loss")
CHUNK = 8_192
"""Rows that are coded at once: what they need stays in the processor's cache."""
FEW_CELLS = 1 << 17
"""Cells of all panes together up to which rows need not be put in order of their panes."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One thing that is counted.

    Attributes:
        name: Of the feature or role; of a score, its number.
        family: With which streams it shares a budget of false alarms.
        kind: How values become bins:
            numeric, loss: up to 16 bins at reference order statistics, then missing;
            score: the same for a principal component of the numeric features' normal scores;
            magnitude: sign and power of two, then missing; evidence of unit changes, not judged;
            category: the 30 most frequent values, other known, never seen, missing;
            classes: one bin per class, then missing.
        edges: Ranked kinds: upper edges, each in the bin below it, ascending.
        values: Categories: what the reference knows, most frequent first. Classes: their names.
        leading: Categories: how many of the values have a bin of their own.
        once: Categories: how many of the last values the reference met only once.
        closed: Categories: whether `values` is all that the reference has met; else nothing counts as never seen.
        lowest: Magnitude: exponent of the lowest power of two that has a bin of its own.
    """

    name: str
    family: Family
    kind: Kind
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    leading: int = 0
    once: int = 0
    closed: bool = True
    lowest: int = 0

    @property
    def key(self) -> tuple[str, Kind]:
        """What names it among the streams."""
        return self.name, self.kind

    @property
    def width(self) -> int:
        """Bins, the one for missing included; it is the last."""
        if self.kind == "classes":
            return len(self.values) + 1
        return {"magnitude": codes.MAGNITUDES, "category": codes.CATEGORIES}.get(self.kind, codes.RANKS)

    @property
    def judged(self) -> bool:
        """Whether an alarm can come from it."""
        return self.kind != "magnitude"

    @property
    def labels(self) -> tuple[str, ...]:
        """A text for each bin, for pictures."""
        if self.kind == "classes":
            return (*self.values, "missing")
        if self.kind == "category":
            gap = ("",) * (codes.LEADING - self.leading)
            return (*self.values[: self.leading], *gap, "other", "never seen", "missing")
        if self.kind == "magnitude":
            powers = range(self.lowest, self.lowest + codes.OCTAVES)
            return (*(f"-2^{p}" for p in reversed(powers)), "0", *(f"2^{p}" for p in powers), "missing")
        known = [*_ranges(self.edges), f"> {self.edges[-1]:.6g}" if self.edges else "any"]
        return (*known, *[""] * (codes.RANKS - 1 - len(known)), "missing")


def _ranges(edges: Sequence[float]) -> Iterator[str]:
    """A text for the bin below each edge; a value with a bin of its own lies between two neighbouring numbers."""
    for below, edge, above in zip((-np.inf, *edges), edges, (*edges[1:], np.inf), strict=False):
        if above == np.nextafter(edge, np.inf):
            yield f"< {above:.6g}"
        else:
            yield f"= {edge:.6g}" if edge == np.nextafter(below, np.inf) else f"<= {edge:.6g}"


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """How numeric features become scores of their principal components, in integers.

    A value counts as the normal score of its bin; a missing one as 0. Products and sums of these integers are exact in
    32-bit floating point, so a row's score depends on nothing but the row.

    Attributes:
        columns: The features.
        normal: Normal score of each bin times 32, shape (features, bins).
        loadings: Direction of each component times 2,048, shape (components, features).
    """

    columns: tuple[str, ...]
    normal: npt.NDArray[np.int8]
    loadings: npt.NDArray[np.int16]


def fitted(rows: int) -> npt.NDArray[np.bool_]:
    """Which reference rows make the axes: the first half."""
    return np.arange(rows) < rows // 2


class UnknownStreamError(KeyError):
    """Bins were asked for a stream that they do not have."""


@dataclass(frozen=True, eq=False)
class Bins:
    """The streams and their bins.

    Attributes:
        streams: In the order of their cells.
        axes: Of the scores, which are the streams of that kind in order; None where there are none.
    """

    streams: tuple[Stream, ...]
    axes: Axes | None = None

    @cached_property
    def offsets(self) -> npt.NDArray[np.intp]:
        """First cell of each stream, and the number of cells, shape (streams + 1,)."""
        return np.concatenate(([0], np.cumsum([each.width for each in self.streams]))).astype(np.intp)

    @cached_property
    def kinds(self) -> Mapping[Kind, list[int]]:
        """The indices of the streams of each kind, ascending."""
        told = list(enumerate(self.streams))
        return {kind: [index for index, each in told if each.kind == kind] for kind in get_args(Kind)}

    @cached_property
    def edges(self) -> npt.NDArray[np.float64]:
        """The edges of all streams, shape (streams, 15); see `padded`."""
        return codes.padded([each.edges for each in self.streams])

    @cached_property
    def octaves(self) -> codes.Codes:
        """The tables of the magnitudes, shape (magnitudes, 4096); see `octaves`."""
        return codes.octaves([self.streams[index].lowest for index in self.kinds["magnitude"]])

    @property
    def cells(self) -> int:
        """Cells of one pane."""
        return int(self.offsets[-1])

    def part(self, name: str, kind: Kind) -> slice:
        """The cells of a stream.

        Raises:
            UnknownStreamError: It is not among the streams.
        """
        for index, stream in enumerate(self.streams):
            if stream.key == (name, kind):
                return self.at(index)
        raise UnknownStreamError(f"no {kind} stream {name!r} among {len(self.streams)} streams")

    def stream(self, name: str, kind: Kind) -> Stream:
        """A stream.

        Raises:
            UnknownStreamError: It is not among the streams.
        """
        found = next((each for each in self.streams if each.key == (name, kind)), None)
        if found is None:
            raise UnknownStreamError(f"no {kind} stream {name!r} among {len(self.streams)} streams")
        return found

    def at(self, index: int) -> slice:
        """The cells of the stream with that index."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def count(
        self, columns: Mapping[str, Column], panes: npt.NDArray[np.integer], total: int, *, learnt: bool = False
    ) -> Counts:
        """How many rows of each pane fall into each cell, shape (total, cells).

        Streams whose column is not given count nothing; scores need all of their features.

        Args:
            columns: Values by the name of their stream; all of one length.
            panes: Index of each row's pane, from 0 on; any order.
            total: Number of panes.
            learnt: Whether the bins were learnt from these very rows, in this order. A category that they hold once is
                then new, as it would be to bins learnt from the others: else new categories would seem rarer than they
                are. And the rows that made the axes have no scores.
        """
        fresh = ~fitted(len(panes)) if learnt else None
        few = total * self.cells <= FEW_CELLS
        if not few and np.any(panes[1:] < panes[:-1]):
            order = np.argsort(panes, kind="stable")
            panes, columns = panes[order], {name: column.take(order) for name, column in columns.items()}
            fresh = fresh if fresh is None else fresh[order]
        counter = _Counter(self, columns, fresh)
        counts = np.zeros((total, self.cells), np.int32)
        for start in range(0, len(panes), CHUNK):
            rows = slice(start, min(start + CHUNK, len(panes)))
            first, last = (0, total - 1) if few else (int(panes[rows.start]), int(panes[rows.stop - 1]))
            shift = (panes[rows] - first).astype(np.intp) * self.cells
            counts[first : last + 1] += counter.count(rows, shift, last - first + 1)
        return counts


class _Counter:
    """Columns, coded chunk by chunk.

    Args:
        bins: What to count.
        columns: Of which rows.
        fresh: Which of the rows that the bins were learnt from have scores; None where the rows are others.
    """

    def __init__(self, bins: Bins, columns: Mapping[str, Column], fresh: npt.NDArray[np.bool_] | None) -> None:
        self._bins, self._columns, self._fresh = bins, columns, fresh
        self._numeric, self._matrix = self._stacked("numeric", "loss")
        self._edges = bins.edges[self._numeric]
        self._magnitude, self._measured = self._stacked("magnitude")
        self._octaves = bins.octaves[np.searchsorted(bins.kinds["magnitude"], self._magnitude)]
        self._others = [(index, self._coded(bins.streams[index])) for index in self._given("category", "classes")]
        self._scores, self._inputs = self._components()
        order = [*self._numeric, *self._scores, *self._magnitude, *(index for index, _ in self._others)]
        self._first = bins.offsets[np.array(order, np.intp)]

    def _given(self, *kinds: Kind) -> list[int]:
        indices = sorted(index for kind in kinds for index in self._bins.kinds[kind])
        return [index for index in indices if self._bins.streams[index].name in self._columns]

    def _stacked(self, *kinds: Kind) -> tuple[list[int], npt.NDArray[np.float64]]:
        indices = self._given(*kinds)
        columns = [codes.numbers(self._columns[self._bins.streams[index].name]) for index in indices]
        return indices, np.array(columns)

    def _coded(self, stream: Stream) -> npt.NDArray[np.integer]:
        column = self._columns[stream.name]
        if stream.kind == "classes":
            return codes.classes(column, len(stream.values))
        once = 0 if self._fresh is None else stream.once
        return codes.categories(column, codes.Known(stream.values, stream.leading, once, stream.closed))

    def _components(self) -> tuple[list[int], npt.NDArray[np.intp]]:
        """The scores that can be computed, and in which row of the matrix each of their features is."""
        axes, none = self._bins.axes, np.empty(0, np.intp)
        if axes is None or not all(name in self._columns for name in axes.columns):
            return [], none
        self._normal, self._loadings = axes.normal.astype(np.float32).ravel(), axes.loadings.astype(np.float32)
        indices = self._bins.kinds["score"]
        self._score_edges = self._bins.edges[indices]
        rows = {self._bins.streams[index].name: row for row, index in enumerate(self._numeric)}
        return indices, np.array([rows[name] for name in axes.columns], np.intp)

    def count(self, rows: slice, shift: npt.NDArray[np.intp], panes: int) -> npt.NDArray[np.intp]:
        """Counts of a chunk, shape (panes, cells).

        Args:
            rows: The chunk.
            shift: Of each row, the first cell of its pane.
            panes: Number of panes.
        """
        size, begin = panes * self._bins.cells, 0
        cells = self._first[:, None] + shift
        for coded in self._codes(rows):
            cells[begin : begin + len(coded)] += coded
            begin += len(coded)
        if self._fresh is not None:
            scores = slice(len(self._numeric), len(self._numeric) + len(self._scores))
            cells[scores, ~self._fresh[rows]] = size  # nowhere
        return np.bincount(cells.ravel(), minlength=size + 1)[:size].reshape(panes, -1)

    def _codes(self, rows: slice) -> Iterator[npt.NDArray[np.integer]]:
        """The bin of each value, shape (streams, rows); numbers, scores, magnitudes, then the others."""
        if self._numeric:
            ranks = codes.ranks(self._matrix[:, rows], self._edges)
            yield ranks
            if self._scores:
                yield self._scored(ranks)
        if self._magnitude:
            yield codes.magnitudes(self._measured[:, rows], self._octaves)
        for _, coded in self._others:
            yield coded[None, rows]

    def _scored(self, ranks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        index = ranks[self._inputs].astype(np.intp)
        index += (np.arange(len(index)) * codes.RANKS)[:, None]
        return codes.ranks(codes.product(self._loadings, self._normal.take(index)), self._score_edges)
