"""One budget of false alarms, shared by the families of streams.

Family i alarms when the weighted mean of its R reaches A / w_i, where the weights w sum to one and A is what one
false alarm on average is worth in panes (`1 per 30d`) or rows (`1 per 1000000 rows`). The families' rates of false
alarms, w_i / A each, then add up to 1 / A at most.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from schemas.bins import Counts, Family
from schemas.quantities import Rate
from schemas.reference import Reference
from services.drift.domain.monitor import Judged, Monitor

SHARES: Mapping[Family, float] = {"concept": 0.4, "features": 0.25, "prediction": 0.1, "label": 0.1, "quality": 0.15}


def budget(rate: Rate, pane: int) -> float:
    """A: panes per false alarm, or rows where the rate is of rows.

    Args:
        rate: What the pipeline allows.
        pane: Length of a pane in milliseconds.
    """
    stretch = rate.per_rows if rate.per_ms is None else rate.per_ms / pane
    return max(1.0, (stretch or 1.0) / rate.count)


class Families:
    """A monitor for each family that has streams; they share panes, budget and nothing else.

    An episode in one family replaces that family's monitor and leaves the others as they are.

    Args:
        reference: What is normal.
        rate: The false alarms that are allowed.
        pane: Length of a pane in milliseconds.
    """

    def __init__(self, reference: Reference, rate: Rate, pane: int) -> None:
        self._budget, self._by_rows = budget(rate, pane), rate.per_ms is None
        present = {each.family for each in reference.bins.streams}
        self.monitors = {family: self._monitor(reference, family) for family in SHARES if family in present}

    def judge(self, counts: Counts, pane: int, stratum: int = 0) -> dict[Family, Judged]:
        """What a pane did to each family; see `Monitor.judge`."""
        return {family: each.judge(counts, pane, stratum) for family, each in self.monitors.items()}

    def settle(self, family: Family, reference: Reference) -> None:
        """Judge a family by another reference from now on, as after an alarm.

        What is known of its streams' dependence stays known: the new reference may have few panes.
        """
        known = self.monitors[family].dependence
        self.monitors[family] = self._monitor(reference, family, known)

    def _monitor(self, reference: Reference, family: Family, known: npt.NDArray[np.float64] | None = None) -> Monitor:
        threshold = self._budget / SHARES[family]
        return Monitor(reference, family, threshold, by_rows=self._by_rows, known=known)
