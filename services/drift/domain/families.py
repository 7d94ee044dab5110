"""One budget of false alarms, shared by the families of streams.

Family i alarms when the weighted mean of its R reaches A / w_i, where the weights w sum to one and A is what one
false alarm on average is worth in panes (`1 per 30d`) or rows (`1 per 1000000 rows`). The families' rates of false
alarms, w_i / A each, then add up to 1 / A at most.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.bins import Family
from schemas.quantities import Rate

SHARES: Mapping[Family, float] = {"concept": 0.4, "features": 0.25, "prediction": 0.1, "label": 0.1, "quality": 0.15}


def budget(rate: Rate, pane: int) -> float:
    """A: panes per false alarm, or rows where the rate is of rows.

    Args:
        rate: What the pipeline allows.
        pane: Length of a pane in milliseconds.
    """
    stretch = rate.per_rows if rate.per_ms is None else rate.per_ms / pane
    return max(1.0, (stretch or 1.0) / rate.count)
