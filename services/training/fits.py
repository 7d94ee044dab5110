"""The port for fits: asked for until they are done, for a fit may take minutes and the controller goes on meanwhile."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from time import process_time
from typing import Protocol

from runtime.metrics import Metrics
from services.training.domain.fitting import Fit
from services.training.domain.work import Work


class Pending(Exception):
    """The fit is not done yet: ask again."""


class Failed(Exception):
    """The fit came to no end: it crashed, or took more time or memory than it may.

    Args:
        reason: What happened, for a person.
        figures: What it took until then.
    """

    def __init__(self, reason: str, figures: Mapping[str, float]) -> None:
        super().__init__(reason)
        self.figures = dict(figures)


class Fits(Protocol):
    """Makes fits, one at a time."""

    def prepare(self) -> None:
        """Be quick about the next fit: one may come from now on."""

    def fit(self, key: Hashable, work: Work) -> Fit:
        """The fit of a key. It is begun at the first call and kept until another key is asked for, which drops it.

        Raises:
            Pending: It is under way.
            Failed: It came to no end.
            Refused: The estimator does not take the rows.
        """

    def drop(self) -> None:
        """Give up what is under way, and let go of what was prepared."""


class InCaller:
    """Fits at once, where it is asked: deterministic, so nothing else happens meanwhile.

    Args:
        metrics: Where processor time is counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._made: tuple[Hashable, Fit] | None = None

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def fit(self, key: Hashable, work: Work) -> Fit:
        """As there; never pending, never failed."""
        if self._made is None or self._made[0] != key:
            began = process_time()
            self._made = key, work.do()
            self._metrics.fit_seconds.observe(process_time() - began)
        return self._made[1]

    def drop(self) -> None:
        """Nothing is ever under way."""
