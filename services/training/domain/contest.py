"""Strategy `champion`: the trials of the challengers, as a fold over `examples`.

Only rows that both members scored count, so none that the challenger was fitted or checked on.
"""

from __future__ import annotations

from typing import Any

from schemas.pooling import Floats, Task, Trial, Weights
from services.training.domain.gate import Gate, Verdict, begun, losses
from services.training.domain.judged import Judged, Run


class Contest:
    """The fold.

    Args:
        task: What is predicted.
        gate: The rule.
        champion: The member that rules.
        given: A checkpoint to go on from; None: nothing was tried yet.
    """

    def __init__(self, task: Task, gate: Gate, champion: int, given: Weights | None = None) -> None:
        self._task, self._gate, self.champion = task, gate, champion
        self.challengers = 0
        self.trials: dict[int, Trial] = {}
        if given is not None and given.champion == champion:
            self.challengers, self.trials = given.challengers, dict(given.trials)

    def identity(self) -> dict[str, Any]:
        """The fields of a checkpoint that are its own, for `Blend.checkpoint`."""
        return {"champion": self.champion, "challengers": self.challengers, "trials": dict(self.trials)}

    def add(self, member: int) -> None:
        """A member challenges the champion, with the next part of alpha."""
        self.challengers += 1
        self.trials[member] = begun(self.challengers)

    def remove(self, member: int) -> None:
        """A challenger left; the part of alpha that it had is spent."""
        self.trials.pop(member, None)

    def promote(self, member: int) -> None:
        """A challenger rules; the others challenge it from the beginning, and alpha is whole again."""
        waiting = sorted(self.trials.keys() - {member})
        self.champion, self.challengers, self.trials = member, 0, {}
        for each in waiting:
            self.add(each)

    def fold(self, judged: Judged, deviation: float) -> dict[int, Verdict]:
        """Learn from a message's rows.

        Args:
            judged: The rows.
            deviation: Regression: standard deviation of the residuals in front of them; while 0, no row counts.

        Returns:
            Whoever is not undecided, ascending, with the verdict.
        """
        if self._task != "regression" or deviation > 0.0:
            for run in judged.runs():
                for piece in run.pieces():
                    self._learn(piece, deviation)
        said = {member: self._gate.verdict(trial) for member, trial in sorted(self.trials.items())}
        return {member: verdict for member, verdict in said.items() if verdict != "undecided"}

    def _learn(self, run: Run, deviation: float) -> None:
        if self.champion not in run.members:
            return
        ruling = self._losses(run, self.champion, deviation)
        for member in self.trials.keys() & set(run.members):
            differences = ruling - self._losses(run, member, deviation)
            self.trials[member] = self._gate.judge(self.trials[member], differences)

    def _losses(self, run: Run, member: int, deviation: float) -> Floats:
        outputs = run.outputs[:, run.members.index(member)]
        return losses(self._task, outputs if self._task == "multiclass" else outputs[:, 0], run.labels, deviation)
