"""The monitor of one family: pane after pane of counts, one statistic, one threshold.

It is a fold: the same reference and the same panes give the same alarms, also through a checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.bins import Counts, Family
from schemas.bins_codes import RANKS
from schemas.reference import Reference
from services.drift.domain.chains import Chains
from services.drift.domain.counts_detector import ALTERNATIVES, Learnt
from services.drift.domain.monitor_state import State
from services.drift.domain.plan import Plan

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Suspect:
    """A stream and what it contributes.

    Attributes:
        stream: Index among the bins' streams.
        evidence: Logarithm of its share of the statistic.
        start: Pane with which the change that describes it best begins.
    """

    stream: int
    evidence: float
    start: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What a pane did.

    Attributes:
        pane: Its index.
        statistic: Logarithm of the weighted mean of all R; minus infinity before anything was judged.
        threshold: Logarithm of A.
    """

    pane: int
    statistic: float
    threshold: float

    @property
    def alarm(self) -> bool:
        """Whether the statistic has reached the threshold."""
        return self.statistic >= self.threshold


class Monitor:
    """Judges the panes of one family.

    Args:
        reference: What is normal.
        family: Which streams.
        threshold: A: panes, or rows, to the first false alarm on average, at least.
        by_rows: Whether A is a number of rows of a stream.
        known: Variance ratios from another monitor's `dependence`, for a reference of few panes.
    """

    def __init__(
        self,
        reference: Reference,
        family: Family,
        threshold: float,
        *,
        by_rows: bool = False,
        known: Floats | None = None,
    ) -> None:
        self._threshold, self._by_rows = float(np.log(threshold)), by_rows
        self._plan = Plan.of(reference, family, known)
        self.restart()

    @property
    def dependence(self) -> Floats:
        """By how much more than exchangeable rows each stream of the family varies, shape (streams,)."""
        return self._plan.dependence

    @property
    def streams(self) -> list[int]:
        """Indices of the family's streams among those of the bins."""
        return list(self._plan.streams)

    @property
    def judged(self) -> dict[int, bool]:
        """Indices of the streams that are judged, and whether by their counts; the others by forecasts' errors."""
        rows = self._plan.rows.tolist()
        return {self._plan.streams[row]: place < len(self._plan.plain) for place, row in enumerate(rows)}

    def restart(self) -> None:
        """Forget every pane."""
        plan = self._plan
        self._state = State(
            Learnt.nothing(*plan.counts.prior.shape),
            Learnt.nothing(1, len(plan.whitening.streams), RANKS),
            plan.whitening.last.copy(),
            Chains.fresh(ALTERNATIVES, len(plan.rows)),
        )

    def checkpoint(self) -> bytes:
        """All that the panes have taught it."""
        return self._state.to_bytes()

    def resume(self, value: bytes) -> None:
        """Go on from the checkpoint of a monitor with the same reference, exactly as that one would.

        Raises:
            BadStateError: It is of another.
        """
        self._state = self._state.resumed(value)

    def judge(self, counts: Counts, pane: int, stratum: int = 0) -> Judged:
        """Take in a pane.

        Args:
            counts: Of all streams, shape (cells,).
            pane: Its index; ascending.
            stratum: Of its time. Without two visits of it in the reference, the pane changes nothing.
        """
        if self._plan.visited[stratum] and len(self._plan.rows):
            self._move(self._plan.layout.told(counts), pane, stratum)
        return Judged(pane, self._state.chains.statistic(self._plan.weights), self._threshold)

    def _move(self, counts: Floats, pane: int, stratum: int) -> None:
        plan, state = self._plan, self._state
        plain = counts[plan.plain]
        ratios = plan.counts.ratios(state.counted, plain, stratum)
        state.counted.behind(plain, stratum)
        if len(plan.whitening.streams):
            ranked, state.past = plan.whitening.errors(counts, stratum, state.past)
            tempered = plan.errors.ratios(state.ranked, ranked, 0) / plan.whitening.temper
            ratios = np.concatenate((ratios, tempered), axis=1)
            state.ranked.behind(ranked, 0)
        rows = counts.sum(-1)[plan.rows]
        state.chains = state.chains.moved(ratios, rows if self._by_rows else (rows > 0).astype(float), pane)

    def suspects(self) -> list[Suspect]:
        """The judged streams, most evidence first."""
        evidence, start = self._state.chains.log + self._plan.weights, self._state.chains.start
        found = []
        for row in np.unique(self._plan.rows).tolist():
            own = self._plan.rows == row
            total = float(np.logaddexp.reduce(evidence[:, own].ravel()))
            begun = int(start[:, own].ravel()[evidence[:, own].argmax()])
            found.append(Suspect(self._plan.streams[row], total, begun))
        return sorted(found, key=lambda each: -each.evidence)
