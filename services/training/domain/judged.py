"""Rows whose label came, with what the pool said of them: the input of everything that is learnt about members."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.pooling import Floats

Members = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Neighbouring rows that the same members scored.

    Attributes:
        members: The members, ascending.
        outputs: Their outputs, shape (rows, members, K).
        labels: Index of the class, or the value; shape (rows,).
        online: The online member's outputs, shape (rows, K); None without one.
    """

    members: tuple[int, ...]
    outputs: Floats
    labels: Floats
    online: Floats | None

    def part(self, rows: slice | npt.NDArray[np.bool_], members: npt.NDArray[np.int64]) -> Run:
        """Some of the rows, and some of the members, by place."""
        return Run(
            tuple(self.members[each] for each in members.tolist()),
            self.outputs[rows][:, members],
            self.labels[rows],
            None if self.online is None else self.online[rows],
        )

    def pieces(self) -> Iterator[Run]:
        """The run, cut where another set of members gave finite numbers; those that did not are left out."""
        there = np.asarray(np.isfinite(self.outputs).all(axis=2))
        if there.all():
            yield self
            return
        for start, stop in _same(there):
            yield self.part(slice(start, stop), np.flatnonzero(there[start]))


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A message's rows, in its order. A row without a finite label says nothing.

    Attributes:
        offsets: Where each row's members begin, and behind the last one's where they end; shape (rows + 1,).
        members: The members that scored, row by row.
        outputs: Their outputs, K for each member.
        labels: Index of the class, or the value; shape (rows,).
        online: The online member's outputs, shape (rows, K), NaN in rows that it did not score; None without one.
    """

    offsets: npt.NDArray[np.int64]
    members: Members
    outputs: Floats
    labels: Floats
    online: Floats | None = None

    @classmethod
    def of(cls, members: pa.ListArray, outputs: pa.ListArray, labels: Floats, online: Floats | None = None) -> Self:
        """From the columns of a batch; rows that no pool scored are null, or have no members."""
        lengths = members.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = members.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
        values = outputs.flatten().to_numpy(zero_copy_only=False).astype(float)
        return cls(offsets, flat, values, np.asarray(labels, float), online)

    def runs(self) -> Iterator[Run]:
        """The rows in runs of the same members; rows without any are left out."""
        lengths = np.diff(self.offsets)
        for start, stop in _same(lengths[:, None]):
            if lengths[start]:
                flat = self.members[self.offsets[start] : self.offsets[stop]].reshape(stop - start, lengths[start])
                yield from (self._run(start + first, start + last, flat[first]) for first, last in _same(flat))

    def _run(self, start: int, stop: int, members: Members) -> Run:
        width = len(self.outputs) // len(self.members)
        flat = self.outputs[self.offsets[start] * width : self.offsets[stop] * width]
        whole = Run(
            tuple(members.tolist()),
            flat.reshape(stop - start, len(members), width),
            self.labels[start:stop],
            None if self.online is None else self.online[start:stop],
        )
        return whole.part(np.isfinite(whole.labels), np.argsort(members))


def _same(rows: npt.NDArray[np.generic]) -> Iterator[tuple[int, int]]:
    """Where runs of equal rows begin and end."""
    if len(rows):
        changed = np.flatnonzero((rows[1:] != rows[:-1]).any(axis=1)) + 1
        edges = [0, *changed.tolist(), len(rows)]
        yield from pairwise(edges)
