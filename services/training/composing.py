"""Composes the pool anew, and says so: the announcement, and the checkpoint of its weights."""

from __future__ import annotations

from runtime.ports import Outgoing
from runtime.weighed import outgoing
from schemas.messages import Cause, Member, Pool, Scalar
from schemas.pipeline import Pipeline
from services.training.domain.announcements import pool_of
from services.training.domain.pool import Seat, composed, pane_behind, seat, watched
from services.training.domain.triggers import Before, Trigger
from services.training.knowledge import Knowledge
from services.training.saying import Saying

REMEMBERED = 20
"""Compositions that one may roll back to."""
WAITS, EVICTED, BARRED = "waits for a seat", "evicted", "barred by an operator"
RECALLED = "recalled"

Steps = list[list[Outgoing]]


class Composing:
    """Who is in the pool.

    Args:
        spec: The pipeline.
        saying: Makes the messages.
    """

    def __init__(self, spec: Pipeline, saying: Saying) -> None:
        self._spec, self._saying = spec, saying

    def admit(self, member: Member, start: int, at: int, known: Knowledge) -> tuple[Seat, list[Outgoing]]:
        """Give a fit a seat, if there is one; what is said of the pool then.

        Args:
            member: The fit.
            start: Label time of its oldest row, milliseconds.
            at: Event time at which it was made.
            known: What is known.
        """
        before, pane, strategy = known.announced.pool, self._spec.drift.pane, self._spec.strategy
        known.announced.members[member.version] = member
        known.state.member = max(known.state.member, member.version)
        if before is None:
            self._follow(pool_of(member, known.state.pool + 1, at, pane, known.state.epoch, strategy.name), known)
            return Seat(taken=True), self.said(known, at)
        watch: dict[str, object] = {}
        if strategy.members == 1 or watched(before, start, known.episodes.opened.values(), pane):
            watch = {"anchor": member.version, "reference_pane": pane_behind(at, pane)}
        taken, _ = self._seat(member.version, before, member.cause, known, **watch)
        return taken, self.said(known, at) if taken.taken else []

    def recall(self, trigger: Trigger, at: int, known: Knowledge) -> Steps | None:
        """Bring a member back that knew this world; None where it is not to be had, so that a fit is needed."""
        version, pool = trigger.recall, known.announced.pool
        if pool is None or version not in known.announced.members or known.state.left.get(version) == BARRED:
            return None
        if version in pool.members:
            outcome, reason = f"no fit: it answers in pool {pool.version} already", trigger.story
            return [[self._saying.decision(trigger, "recalled", outcome, reason, at, {"version": version})]]
        before = self.checkpoint(known)
        taken, pool = self._seat(version, pool, trigger.cause, known)
        if not taken.taken:
            outcome = "no fit: it waits for a seat"
            return [[self._saying.decision(trigger, "recalled", outcome, trigger.story, at, {"version": version})]]
        evidence: dict[str, Scalar] = {"version": version, "pool": pool.version, "left": taken.left}
        outcome = f"no fit: it answers from pool {pool.version} on"
        told = self._saying.decision(trigger, "recalled", outcome, trigger.story, at, evidence)
        return [before, self.said(known, at), [told]]

    def known_by(self, trigger: Trigger, at: int, known: Knowledge) -> Steps | None:
        """No fit where the new world is a member's own; None where it is nobody's."""
        pool, sense = known.announced.pool, "mae" if self._spec.target.is_regression else "log_loss"
        found = known.weighing.served.over(trigger.since, at)
        if pool is None or pool.anchor not in found:
            return None
        best = min(found.values(), key=lambda each: each.loss)
        member, anchor = known.announced.members.get(best.member), found[pool.anchor]
        if member is None or sense not in member.metrics:
            return None
        usual = member.metrics[sense]
        if not best.at_home(usual, member.rows, anchor.loss):
            return None
        reason = (
            f"member {best.member} knew this world: its {sense.replace('_', ' ')} is {best.loss:.4f} on the "
            f"{best.rows} rows since the change, was {usual:.4f} when it was checked, and is {anchor.loss:.4f} of the "
            "anchor"
        )
        evidence: dict[str, Scalar] = {"version": best.member, sense: best.loss, "rows": best.rows, "usual": usual}
        return [[self._saying.decision(trigger, "recalled", "no fit", reason, at, evidence)]]

    def seat_waiting(self, known: Knowledge, at: int) -> list[Outgoing]:
        """Give seats to members that wait for one, as soon as somebody may leave."""
        before = known.announced.pool
        if before is None or known.state.frozen:
            return []
        pool = before
        for version in sorted(each for each, why in known.state.left.items() if why == WAITS):
            if (member := known.announced.members.get(version)) is not None:  # who signed it may be trusted no more
                _, pool = self._seat(version, pool, member.cause, known)
        return [] if pool is before else self.said(known, at)

    def _seat(self, version: int, pool: Pool, cause: Cause, known: Knowledge, **watch: object) -> tuple[Seat, Pool]:
        """Give a member a seat, if there is one, else it waits; the pool then, which is not said yet.

        Whoever answers alone stays, and so does the anchor, unless the newcomer becomes it.
        """
        spared = [each for each in (None if watch else pool.anchor, pool.alone) if each is not None]
        taken = seat(known.weighing.blend, version, self._spec.strategy.members, spared)
        if not taken.taken:
            known.state.left[version] = WAITS
            return taken, pool
        return taken, self.change(known, cause, **watch)

    def change(self, known: Knowledge, cause: Cause, **changed: object) -> Pool:
        """The pool with the members that the blend has by now, and other fields that change."""
        before = known.announced.pool
        if before is None:
            raise LookupError("there is no pool that could change")
        if before.leader not in known.weighing.blend.members and "leader" not in changed:
            changed["leader"] = known.weighing.blend.leader
        return self._follow(composed(before, known.weighing.blend, known.state.epoch, cause, **changed), known)

    def said(self, known: Knowledge, at: int) -> list[Outgoing]:
        """The announcement of the pool, with a checkpoint for it."""
        pool = known.announced.pool
        if pool is None:
            return []
        return [self._saying.announcement(pool, at), *self.checkpoint(known)]

    def checkpoint(self, known: Knowledge) -> list[Outgoing]:
        """What the labels taught so far, where there is a pool."""
        pool = known.announced.pool
        return [] if pool is None else [outgoing(known.weighing.checkpoint(pool, known.state.epoch), self._saying.keys)]

    def _follow(self, pool: Pool, known: Knowledge) -> Pool:
        before, state = known.announced.pool, known.state
        if before is not None:
            state.pools = [*state.pools, Before(before.version, before.members, before.leader)][-REMEMBERED:]
            state.left |= {each: EVICTED for each in before.members if each not in pool.members}
        for each in pool.members:
            state.left.pop(each, None)
        known.announced.pool, state.pool = pool, pool.version
        known.weighing.agree(pool)
        return pool
