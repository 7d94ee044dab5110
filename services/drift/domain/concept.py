"""The monitor of concept drift: river's ADWIN on the anchor's 0/1 losses. The only module that knows river."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from river.drift import ADWIN

DELTA = 0.002
"""Chance of a false cut that each check accepts; with real checks 0 alarms in two million rows were measured."""

CLOCK = 32
"""Rows between two checks: a rise is found up to 31 rows later than with 1, at a fraction of the cost."""

REMEMBERED = 50_000
"""Rows whose time and loss are known. A change that took longer is said to have begun at the oldest of them."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Change:
    """Where ADWIN cut its window.

    Attributes:
        rows_before: Rows in front of the cut.
        rows_after: Rows behind it.
        error_before: Share of wrong answers in front of the cut.
        error_after: Share behind it.
        start: Time of the first row behind the cut, milliseconds.
        likely_rows: Rows since the likeliest moment of a single change. ADWIN cuts where its buckets end, often
            hundreds of rows too early; this is the split that explains the remembered losses best.
        likely_start: Time of the first of them, milliseconds.
    """

    rows_before: int
    rows_after: int
    error_before: float
    error_after: float
    start: int
    likely_rows: int
    likely_start: int

    @property
    def rise(self) -> float:
        """By how much the error rose; negative where it fell."""
        return self.error_after - self.error_before


class Concept:
    """Watches one stream of losses; begins anew after every change that it found."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything, as after a change or when another member is watched."""
        self._adwin = ADWIN(delta=DELTA, clock=CLOCK)
        self._rows, self._total = 0, 0.0
        self._times: deque[Ints] = deque()
        self._losses: deque[Floats] = deque()
        self._remembered = 0

    def update(self, losses: Floats, times: Ints) -> tuple[int, Change | None]:
        """Learn losses up to the first change.

        Returns:
            How many rows were learnt: all of them unless there is a change, which is at the last one learnt.
        """
        adwin = self._adwin
        learn: Callable[[float], object] = adwin.update
        for count, loss in enumerate(losses.tolist(), 1):
            learn(loss)
            if adwin.drift_detected:
                self._remember(losses[:count], times[:count])
                change = self._change()
                self.restart()
                return count, change
        self._remember(losses, times)
        return len(losses), None

    def _remember(self, losses: Floats, times: Ints) -> None:
        self._rows += len(losses)
        self._total += float(losses.sum())
        self._times.append(times)
        self._losses.append(losses)
        self._remembered += len(times)
        while self._remembered - len(self._times[0]) >= REMEMBERED:
            self._remembered -= len(self._times.popleft())
            self._losses.popleft()

    def _change(self) -> Change:
        after, before = int(self._adwin.width), self._rows - int(self._adwin.width)
        times, losses = np.concatenate(self._times)[-REMEMBERED:], np.concatenate(self._losses)[-REMEMBERED:]
        likely = _likely(losses)
        return Change(
            rows_before=before,
            rows_after=after,
            error_before=(self._total - self._adwin.total) / before,
            error_after=self._adwin.total / after,
            start=int(times[-min(after, len(times))]),
            likely_rows=likely,
            likely_start=int(times[-likely]),
        )


def _likely(losses: Floats) -> int:
    """Rows behind the split with the greatest difference of means, weighed by how sure the difference is."""
    before = np.arange(1, len(losses))
    after = len(losses) - before
    front = np.cumsum(losses)[:-1]
    rise = (losses.sum() - front) / after - front / before
    return int(after[np.argmax(rise**2 * before * after)])
