"""Who rules under the strategy `champion`: each other member is tried against the champion, row by row.

Only rows that both have served count: none of them was there when the younger one was fitted or checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from schemas.pooling import IDENTITY, Calibrator, Floats, Task, Trial, Weights, mix
from services.training.domain.gate import Gate, Verdict, begun, losses
from services.training.domain.judged import Judged, Run


class Referee:
    """The trials of a champion's challengers.

    Args:
        task: What is predicted.
        gate: The rule.
        given: Where to go on; None: no champion yet.

    Attributes:
        champion: Who rules, None before the first.
        challengers: How many there were since the last promotion.
        trials: Member to how far its trial has come.
    """

    def __init__(self, task: Task, gate: Gate, given: Weights | None = None) -> None:
        self._task: Task = task
        self._gate = gate
        self.champion = None if given is None else given.champion
        self.challengers = 0 if given is None else given.challengers
        self.trials: dict[int, Trial] = {} if given is None else dict(given.trials)

    def crown(self, champion: int, before: Collection[int] = ()) -> None:
        """Another one rules; those before try to win it back, in this order, and all else begins anew."""
        self.champion, self.challengers, self.trials = champion, 0, {}
        for each in before:
            self.challenge(each)

    def challenge(self, member: int) -> None:
        """A member is tried from now on; what is tried already goes on."""
        if self.champion is None:
            self.champion = member
        elif member != self.champion and member not in self.trials:
            self.challengers += 1
            self.trials[member] = begun(self.challengers)

    def leave(self, member: int) -> None:
        """A member is tried no longer."""
        self.trials.pop(member, None)

    def fold(self, judged: Judged, deviation: float) -> None:
        """Go on with all trials.

        Args:
            judged: A message's rows.
            deviation: Regression: standard deviation of residuals on earlier rows; no row counts while it is 0.
        """
        for run in judged.runs():
            for piece in run.pieces():
                self._try(piece, deviation)

    def _try(self, run: Run, deviation: float) -> None:
        tried = [each for each in run.members if each in self.trials]
        if self.champion not in run.members or not tried or (self._task == "regression" and not deviation > 0):
            return
        of_champion = self._losses(run, self.champion, deviation)
        for member in tried:
            self.trials[member] = self._gate.judge(
                self.trials[member], of_champion - self._losses(run, member, deviation)
            )

    def _losses(self, run: Run, member: int, deviation: float) -> Floats:
        """Of a member's own output: what it would cost if it ruled."""
        outputs = run.outputs[:, [run.members.index(member)]]
        answers = mix(self._task, outputs, np.ones(1), Calibrator(IDENTITY[self._task]))
        return losses(self._task, answers, run.labels, deviation)

    def verdicts(self) -> Iterator[tuple[int, Verdict]]:
        """The members whose trial is over, with what came of it, promotions first."""
        found = [(member, self._gate.verdict(trial)) for member, trial in sorted(self.trials.items())]
        yield from sorted((each for each in found if each[1] != "undecided"), key=lambda each: each[1] != "promoted")
