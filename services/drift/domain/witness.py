"""The second witness of concept drift: ADWIN on the anchor's 0/1 losses, in regression on their quantiles, by panes.

What ADWIN knows is in no checkpoint: it is read again, from the pane behind which it began anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.drift.domain.concept import Concept
from services.drift.domain.opening import Witnessed


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """The anchor's losses of one pane, in merged order.

    Attributes:
        times: Label times, milliseconds.
        losses: 0 or 1; in regression between them, the higher the greater the loss.
    """

    times: npt.NDArray[np.int64]
    losses: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Since:
    """Where the witness was empty: in front of that row of that pane."""

    pane: int = -1
    row: int = 0


class Witness:
    """Watches losses while no episode is open.

    Args:
        since: Where to go on.
    """

    def __init__(self, since: Since) -> None:
        self.since = since
        self._concept = Concept()

    def restart(self, since: Since) -> None:
        """Forget everything and go on there."""
        self.since = since
        self._concept.restart()

    def hear(self, pane: int, errors: Errors) -> Witnessed | None:
        """Learn a pane's losses up to the first rise; what lies before `since` was heard already."""
        start = self.since.row if pane == self.since.pane else 0
        if pane < self.since.pane:
            return None
        while start < len(errors.losses):
            count, change = self._concept.update(errors.losses[start:], errors.times[start:])
            start += count
            if change is not None:
                self.since = Since(pane, start)  # it forgets at every change
                if change.rise > 0:
                    return Witnessed(change, int(errors.times[start - 1]))
        return None
