"""Acts on verdicts of the gate: a challenger that proved to be better rules, one that did not leaves."""

from __future__ import annotations

from runtime.ports import Outgoing
from schemas.messages import Cause, Scalar
from schemas.pooling import Trial
from services.training.composing import Composing
from services.training.domain.triggers import Trigger
from services.training.knowledge import Knowledge
from services.training.saying import Saying


class Refereeing:
    """Promotes and rejects.

    Args:
        composing: Composes the pool.
        saying: Makes the messages.
    """

    def __init__(self, composing: Composing, saying: Saying) -> None:
        self._composing, self._saying = composing, saying

    def verdicts(self, known: Knowledge) -> list[list[Outgoing]]:
        """What follows from the trials that are over; nothing while an operator holds the pool."""
        referee, pool = known.weighing.referee, known.announced.pool
        if referee is None or pool is None or pool.pinned is not None or known.state.frozen:
            return []
        steps: list[list[Outgoing]] = []
        for member, verdict in list(referee.verdicts()):
            if member not in referee.trials:  # a promotion before it began all trials anew
                continue
            if verdict == "promoted":
                steps += self._promote(member, referee.trials[member], known)
            elif known.announced.pool is not None and member != known.announced.pool.anchor:
                steps += self._reject(member, referee.trials[member], known)
        return steps

    def _promote(self, member: int, trial: Trial, known: Knowledge) -> list[list[Outgoing]]:
        before = known.announced.pool
        back = before is not None and any(each.leader == member for each in known.state.pools)
        champion = None if before is None else before.leader
        pool = self._composing.change(known, self._cause(member, known), leader=member)
        what = "rolls back to an earlier champion" if back else "has a new champion"
        reason = f"member {member} proved better than {champion} on {trial.rows} rows that both served: the pool {what}"
        return self._told(member, trial, "rolled_back" if back else "promoted", f"pool {pool.version}", reason, known)

    def _reject(self, member: int, trial: Trial, known: Knowledge) -> list[list[Outgoing]]:
        known.weighing.blend.remove(member)
        pool = self._composing.change(known, self._cause(member, known))
        reason = f"member {member} did not prove better than {pool.leader} on {trial.rows} rows that both served"
        return self._told(member, trial, "rejected", f"it leaves; pool {pool.version}", reason, known)

    def _told(
        self, member: int, trial: Trial, step: str, outcome: str, reason: str, known: Knowledge
    ) -> list[list[Outgoing]]:
        at = max(known.window.frontier, 0)
        evidence: dict[str, Scalar] = {"version": member, "rows": trial.rows, "challenger": trial.number}
        subject = Trigger(self._cause(member, known), at)
        decision = self._saying.decision(subject, step, outcome, reason, at, evidence)  # type: ignore[arg-type]
        return [self._composing.said(known, at), [decision]]

    @staticmethod
    def _cause(member: int, known: Knowledge) -> Cause:
        return known.announced.members[member].cause
