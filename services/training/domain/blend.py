"""Whom the labels trust: weights of the pool's members, and the calibrator on top, as a fold over `examples`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.pooling import Floats, Task, Weights

Members = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Rows whose label came, with what the pool said of them when they were served, in the order of the log.

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
    def of(
        cls, members: pa.ListArray, outputs: pa.ListArray, labels: Floats, online: pa.ListArray | None = None
    ) -> Self:
        """From the columns of a batch; rows that no pool scored have no members."""
        raise NotImplementedError


class Blend:
    """The fold.

    Args:
        task: What is predicted.
        width: K, how many numbers a member's output has.
    """

    def __init__(self, task: Task, width: int = 1) -> None:
        raise NotImplementedError

    @classmethod
    def resumed(cls, task: Task, weights: Weights, width: int = 1) -> Self:
        """The fold as a checkpoint left it."""
        raise NotImplementedError

    def checkpoint(self, **identity: Any) -> Weights:
        """What the fold knows; `identity` are the fields of `Weights` that are not its own."""
        raise NotImplementedError

    def add(self, member: int) -> None:
        """A member joins: with a weight of 5 %, the others keep their proportions; the first has all."""
        raise NotImplementedError

    def remove(self, member: int) -> None:
        """A member leaves; the others keep their proportions."""
        raise NotImplementedError

    def fold(self, judged: Judged) -> None:
        """Learn from a message's rows, one after the other."""
        raise NotImplementedError

    def weights(self) -> dict[int, float]:
        """Weight of each member, ascending; sums to 1."""
        raise NotImplementedError

    def labels(self) -> dict[int, int]:
        """Labels by which each member was judged."""
        raise NotImplementedError

    @property
    def leader(self) -> int:
        """The heaviest member, the newest of several."""
        raise NotImplementedError

    def redundant(self, spared: Collection[int]) -> int | None:
        """Who leaves a full pool: of the members judged enough, the one nearest to another's outputs (the lighter).

        Args:
            spared: Who stays whatever comes: the anchor, the newest.
        """
        raise NotImplementedError
