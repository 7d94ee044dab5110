"""All families judged, in two lanes: panes of event time and panes of label time.

The two lanes may come in any order against each other; each has its own ascending panes. Everything is a fold: the same
panes give the same transitions, also through a checkpoint at any pane.
"""

from __future__ import annotations

from schemas.bins import Family
from services.drift.domain.evidence import Transition
from services.drift.domain.keeping import BadCheckpointError
from services.drift.domain.pane_counts import PaneCounts
from services.drift.domain.ruler import References
from services.drift.domain.standing import Rules
from services.drift.domain.watch import Watch
from services.drift.domain.witness import Errors

EVENTS: tuple[Family, ...] = ("features", "prediction", "quality")
LABELS: tuple[Family, ...] = ("label", "concept")


class Judge:
    """The watches of all families.

    Args:
        rules: Of the pipeline.
        references: What is normal, by member.
    """

    def __init__(self, rules: Rules, references: References) -> None:
        self.watches: dict[Family, Watch] = {family: Watch(family, rules, references) for family in EVENTS + LABELS}

    def events(self, pane: PaneCounts) -> list[Transition]:
        """What a pane of event time changes."""
        return [each for family in EVENTS for each in self.watches[family].judge(pane)]

    def labels(self, pane: PaneCounts, errors: Errors) -> list[Transition]:
        """What a pane of label time changes.

        Args:
            pane: Counts of labels and losses.
            errors: What the pane's anchor got wrong, in merged order.
        """
        return [*self.watches["label"].judge(pane), *self.watches["concept"].judge(pane, errors)]

    def release(self, episode: str) -> list[Transition]:
        """An operator ends an episode; nothing if it is not open."""
        return [each for watch in self.watches.values() for each in watch.release(episode)]

    @property
    def anchor(self) -> int:
        """The oldest member that a family is judged by; 0 before the first. No older one is asked for again."""
        return min(watch.standing.anchor for watch in self.watches.values())

    @property
    def since(self) -> tuple[int, int]:
        """Panes of event time and of label time from which on a resumed judge has to be shown everything again."""
        return min(self.watches[each].since for each in EVENTS), min(self.watches[each].since for each in LABELS)

    @property
    def pending(self) -> list[int]:
        """Panes with an alarm that waits for its name."""
        return [watch.standing.alarm[0] for watch in self.watches.values() if watch.standing.alarm is not None]

    def checkpoint(self) -> dict[str, bytes]:
        """Of each family, all that the panes have taught it; a family's own pane is in it."""
        return {family: watch.checkpoint() for family, watch in self.watches.items()}

    def resume(self, value: dict[str, bytes]) -> None:
        """Go on from a checkpoint.

        Raises:
            BadCheckpointError: It is none.
        """
        for family, watch in self.watches.items():
            if family not in value:
                raise BadCheckpointError(f"the judge's checkpoint has no {family}")
            watch.resume(value[family])
