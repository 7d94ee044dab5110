"""What a family knows but for its monitor and its second witness, and the bytes of that."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.bins import Family
from schemas.quantities import Rate
from schemas.reference import Reference
from services.drift.domain.evidence import MOST_HISTORY, Episode, Statistic
from services.drift.domain.families import SHARES, budget
from services.drift.domain.learning import Learning
from services.drift.domain.recent import Apart, Bucket, Recent

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

WITNESSED = 0.5
"""Share of the concept family's budget that its counts have; the rest is for ADWIN, whose rate is measured."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the pipeline says of drift.

    Attributes:
        pane: Length of a pane, milliseconds.
        settle: Rows of a provisional reference, at least.
        rate: False alarms that are allowed, of all families together.
    """

    pane: int
    settle: int
    rate: Rate

    def threshold(self, family: Family) -> float:
        """A of a family's counts."""
        share = SHARES[family] * (WITNESSED if family == "concept" else 1)
        return budget(self.rate, self.pane) / share

    @property
    def by_rows(self) -> bool:
        """Whether A is a number of rows."""
        return self.rate.per_ms is None


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A provisional reference that was in force.

    Attributes:
        anchor: The member that was watched and whose bins it has.
        counts: Shape (cells of the family,).
    """

    anchor: int
    counts: Ints


@dataclass(slots=True)
class Standing:
    """The state of a family.

    Attributes:
        anchor: The member that is watched, 0 before the first.
        last: The newest pane that was judged.
        current: The reference in force, or of which only the bins are known so far; None where none is known.
        own: Whether that is the anchor's own.
        learning: The reference that is to come.
        alarm: An alarm that has no name yet: its pane, the statistic there, and the rows since.
        episode: The open episode.
        rest: Labelled rows until a concept episode closes.
        block: Rows and panes of the present block of bad data, and what they say for the data being bad as before.
        members: Earlier anchors, the newest last.
        worlds: Provisional references that were in force, the newest last.
        recent: The newest panes.
        history: Newest statistics.
    """

    anchor: int = 0
    last: int = -1
    current: Reference | None = None
    own: bool = True
    learning: Learning | None = None
    alarm: tuple[int, float, int] | None = None
    episode: Episode | None = None
    rest: int = 0
    block: tuple[int, int, float] = (0, 0, 0.0)
    members: tuple[int, ...] = ()
    worlds: tuple[World, ...] = ()
    recent: Recent = field(default_factory=Recent)
    history: deque[Statistic] = field(default_factory=lambda: deque(maxlen=MOST_HISTORY))

    def parts(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """What JSON can hold, and the arrays; the anchor's own reference is in neither, its artefact has it."""
        learning, recent = self.learning, self.recent
        plain = {
            **{name: getattr(self, name) for name in ("anchor", "last", "own", "alarm", "rest", "block", "members")},
            "episode": self.episode.told() if self.episode else None,
            "learning": (learning.strata, learning.rows, learning.need, learning.stratum) if learning else None,
            "worlds": [each.anchor for each in self.worlds],
            "buckets": [(each.first, each.last, each.level) for each in recent.buckets],
            "apart": [(each.pane, each.sources, each.size) for each in recent.apart],
            "history": [(each.at, each.value) for each in self.history],
        }
        arrays: dict[str, Array] = {f"world{i}": each.counts for i, each in enumerate(self.worlds)}
        arrays |= {f"bucket{i}": each.counts for i, each in enumerate(recent.buckets)}
        arrays |= {f"strata{i}": each.strata for i, each in enumerate(recent.buckets)}
        arrays |= {f"apart{i}": each.counts for i, each in enumerate(recent.apart)}
        if learning:
            panes = np.array(learning.panes, np.int32).reshape(-1, learning.counts.shape[1])
            arrays |= {"learnt": learning.counts, "learnt_visits": learning.visits, "learnt_panes": panes}
        if self.current is not None and not self.own:
            names = ("counts", "visits", "panes", "strata")
            arrays |= {f"current_{name}": getattr(self.current, name) for name in names}
        return plain, arrays

    @classmethod
    def read(cls, plain: Mapping[str, Any], arrays: Mapping[str, Array], like: Reference | None) -> Standing:
        """The state of these parts.

        Args:
            plain: See `parts`.
            arrays: Likewise.
            like: The anchor's own reference, of this family.
        """
        buckets = [
            Bucket(first, last, level, arrays[f"bucket{i}"], arrays[f"strata{i}"])
            for i, (first, last, level) in enumerate(plain["buckets"])
        ]
        apart = [
            Apart(at, tuple(sources), arrays[f"apart{i}"], size) for i, (at, sources, size) in enumerate(plain["apart"])
        ]
        current = like
        if like is not None and not plain["own"]:
            panes, strata = arrays["current_panes"], arrays["current_strata"]
            current = replace(
                like, counts=arrays["current_counts"], visits=arrays["current_visits"], panes=panes, strata=strata
            )
        return cls(
            anchor=plain["anchor"],
            last=plain["last"],
            current=current,
            own=plain["own"],
            learning=_learning(plain["learning"], arrays),
            alarm=tuple(plain["alarm"]) if plain["alarm"] else None,
            episode=Episode.read(plain["episode"]) if plain["episode"] else None,
            rest=plain["rest"],
            block=tuple(plain["block"]),
            members=tuple(plain["members"]),
            worlds=tuple(World(each, arrays[f"world{i}"]) for i, each in enumerate(plain["worlds"])),
            recent=Recent(buckets, apart),
            history=deque((Statistic(*each) for each in plain["history"]), MOST_HISTORY),
        )


def _learning(told: list[Any] | None, arrays: Mapping[str, Array]) -> Learning | None:
    if told is None:
        return None
    strata, rows, need, stratum = told
    panes = list(arrays["learnt_panes"])
    return Learning(arrays["learnt"], arrays["learnt_visits"], panes, strata, rows, need, stratum)
