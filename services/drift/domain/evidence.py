"""An episode and all that it is founded on, as plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from schemas.bins import Family, Kind, Stream
from services.drift.domain.counts_detector import PRIOR

Floats = npt.NDArray[np.float64]

Kinds = Literal["concept", "covariate", "prediction", "label", "bad_data", "recurring"]
Cause = Literal["", "unit", "swap", "stuck", "nulls", "missing", "unknown", "late", "duplicates", "schema", "rejected"]
"""What bad data is: nothing for other kinds."""

MOST_STREAMS, MOST_HISTORY = 5, 120
CLEARLY = 3.0
"""Standard deviations by which a bin has moved besides chance."""
FLOOR = -12.0
"""Least logarithm of a statistic that is told."""


@dataclass(frozen=True, slots=True)
class StreamChange:
    """How one stream changed.

    Attributes:
        name: Of the feature, score or role.
        kind: How its values are binned.
        share: Of the statistic, 0 to 1.
        effect: Shift in standard deviations for ordered bins, else total variation.
        start: When it probably began, milliseconds.
        bins: What each bin holds; only bins that rows can fall into.
        before: Rows of the reference.
        after: Rows behind the start.
        source: The partition of events that alone has moved, if it is one.
    """

    name: str
    kind: Kind
    share: float
    effect: float
    start: int
    bins: tuple[str, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    source: int | None = None

    def odds(self, stream: Stream) -> Floats:
        """What a row in each cell of the stream says for half of this change, and against it if below 0: logarithm.

        Half, because a change is found where it stands out most, and may be mended in part. Only bins that have clearly
        moved say something: the few rows behind a change place all others by chance. Both histograms are known, so it
        needs no bound that rows which depend on each other would break.
        """
        usual, rows = (np.array(each) + PRIOR for each in (self.before, self.after))
        usual = usual / usual.sum()
        expected = usual * rows.sum()
        moved = np.abs(rows - expected) > CLEARLY * np.sqrt(expected)
        rest = rows[~moved].sum() / max(expected[~moved].sum(), PRIOR)
        said = np.log((1 + np.where(moved, rows / expected, rest)) / 2)
        by = dict(zip(self.bins, said.tolist(), strict=True))
        return np.array([by.get(label, 0.0) for label in stream.labels])


@dataclass(frozen=True, slots=True)
class Statistic:
    """A family's statistic behind a pane.

    Attributes:
        at: End of the pane, milliseconds.
        value: Logarithm to base 10.
    """

    at: int
    value: float


@dataclass(frozen=True, slots=True)
class Episode:
    """An alarm and what it is called.

    Attributes:
        id: The same for every reading of the log.
        family: What alarmed.
        kind: What sort of change it is.
        cause: Of bad data.
        anchor: The member that was watched.
        pane: Index of the pane that raised the alarm.
        at: When it was certain, milliseconds: the pane's end, or the time of the row that told the second witness.
        start: When it probably began, milliseconds.
        detector: `counts` or `adwin`.
        statistic: Logarithm to base 10; of adwin, the rise of the error.
        threshold: Likewise; of adwin, its delta.
        rows: From the start to the alarm.
        reason: A sentence for people.
        streams: The leading ones, at most five.
        history: The newest statistics, at most 120.
        recurs: Version of the member that knew this world.
        figures: More of the evidence, by name.
        source: The partition of events that alone has moved, in every stream that clearly has.
    """

    id: str
    family: Family
    kind: Kinds
    cause: Cause
    anchor: int
    pane: int
    at: int
    start: int
    detector: str
    statistic: float
    threshold: float
    rows: int
    reason: str
    streams: tuple[StreamChange, ...] = ()
    history: tuple[Statistic, ...] = ()
    recurs: int | None = None
    figures: tuple[tuple[str, float], ...] = ()
    source: int | None = None

    def told(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        streams, history = map(_plain, self.streams), map(_plain, self.history)
        return {**_plain(self), "streams": list(streams), "history": list(history)}

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Episode:
        """The episode that was told."""
        texts = ("bins", "before", "after")
        streams = tuple(StreamChange(**each | {name: tuple(each[name]) for name in texts}) for each in told["streams"])
        history = tuple(Statistic(**each) for each in told["history"])
        figures = tuple((name, value) for name, value in told["figures"])
        return cls(**{**told, "streams": streams, "history": history, "figures": figures})


@dataclass(frozen=True, slots=True)
class Transition:
    """An episode opened or closed.

    Attributes:
        family: Of which family.
        pane: The pane that made it so.
        time: End of that pane, milliseconds.
        reason: Why.
        opened: The episode that this opened.
        closed: The episode that this closed.
    """

    family: Family
    pane: int
    time: int
    reason: str
    opened: Episode | None = None
    closed: Episode | None = None


def _plain(told: Episode | StreamChange | Statistic) -> dict[str, Any]:
    """The fields by name. `asdict` would copy them, down to every number of a tuple."""
    return {each.name: getattr(told, each.name) for each in fields(told)}


def named(anchor: int, family: Family, pane: int) -> str:
    """The id of an episode: a family has at most one alarm per pane."""
    return hashlib.sha256(f"{anchor}/{family}/{pane}".encode()).hexdigest()[:16]
