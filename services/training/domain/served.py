"""What each member's answers to the newest labelled rows cost: whether a world that came is one that a member knows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.task import Target, shaped
from services.training.domain.judged import Judged, Run

MOST = 1 << 18
"""So many answers are remembered, of all members together."""
PRESENT = 0.9
"""A member knows a stretch only if it has answered this part of its rows."""
DEVIATIONS = 2.0
"""So many standard errors may lie between two losses that count as equal."""
HELD_OUT = 0.2
"""Part of a fit's rows that its metrics were measured on."""


class Answers(NamedTuple):
    """Answers in a row, arrays of equal length.

    Attributes:
        order: When the label was there, see `rows`.
        time: The label's time, milliseconds.
        member: Who answered.
        loss: What it cost.
    """

    order: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    member: npt.NDArray[np.int64]
    loss: npt.NDArray[np.float64]


class Knows(NamedTuple):
    """A member and its loss over some rows."""

    member: int
    loss: float
    error: float
    rows: int

    def at_home(self, usual: float, rows: int, anchor: float) -> bool:
        """Whether this is the member's own world.

        It does as well as on the rows of its check, chance allowed for, and costs at most half of what the anchor does,
        to which the world is new.

        Args:
            usual: Its loss on held-out rows.
            rows: Rows of its fit.
            anchor: The anchor's loss over the same rows.
        """
        deviation = self.error * np.sqrt(self.rows)
        noise = deviation * np.sqrt(1 / self.rows + 1 / max(1.0, HELD_OUT * rows))
        return bool(self.loss <= usual + DEVIATIONS * noise and self.loss <= anchor / 2)


class Served:
    """The newest answers of all members.

    Args:
        target: What is predicted.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._parts: list[Answers] = []
        self._size = 0

    def add(self, judged: Judged, orders: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> None:
        """Remember a message's rows.

        Args:
            judged: What members said of them.
            orders: Order of each row.
            times: Label time of each row.
        """
        lengths, place = np.diff(judged.offsets), 0
        answered = np.flatnonzero((lengths > 0) & np.isfinite(judged.labels))
        for run in judged.runs():
            rows = answered[place : place + len(run.labels)]
            place += len(run.labels)
            self._add(run, orders[rows], times[rows])

    def _add(self, run: Run, orders: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> None:
        width = run.outputs.shape[2]
        for index, member in enumerate(run.members):
            loss = self._target.losses(shaped(run.outputs[:, index], width), run.labels)
            self._parts.append(Answers(orders, times, np.full(len(loss), member), loss))
            self._size += len(loss)
        while self._size - len(self._parts[0].loss) >= MOST:
            self._size -= len(self._parts.pop(0).loss)

    def over(self, since: int, until: int) -> dict[int, Knows]:
        """Those members that answered nearly all of a stretch of rows, with what that cost.

        Args:
            since: Least label time.
            until: Highest order.
        """
        if not self._parts:
            return {}
        self._parts = [Answers(*map(np.concatenate, zip(*self._parts, strict=True)))]
        order, time, member, loss = self._parts[0]
        within = (time >= since) & (order <= until) & np.isfinite(loss)
        found = [self._over(each, loss[within & (member == each)]) for each in np.unique(member[within]).tolist()]
        most = max((each.rows for each in found), default=0)
        return {each.member: each for each in found if each.rows >= max(2.0, PRESENT * most)}

    @staticmethod
    def _over(member: int, losses: npt.NDArray[np.float64]) -> Knows:
        return Knows(member, float(losses.mean()), float(losses.std() / np.sqrt(len(losses))), len(losses))
