"""What is told of a fit: that it begins, what came of it, and where its member has its seat."""

from __future__ import annotations

from runtime.ports import Outgoing
from schemas.messages import Member, Pool, Scalar
from services.training import quarantining
from services.training.domain.fitting import Fit
from services.training.domain.pool import Seat
from services.training.domain.taking import Taken
from services.training.domain.triggers import Trigger
from services.training.knowledge import Knowledge
from services.training.saying import Saying


def begun(trigger: Trigger, rows: int, at: int, saying: Saying) -> Outgoing:
    """An early fit was triggered."""
    outcome = f"an early fit on {rows} rows, the window as labelled so far"
    return saying.decision(trigger, "triggered", outcome, trigger.story, at)


def under_way(trigger: Trigger, estimator: str, rows: int, at: int, saying: Saying) -> Outgoing:
    """Another process makes the fit."""
    reason = f"{estimator} is fitted on {rows} rows, outside of the controller"
    evidence: dict[str, Scalar] = {"rows": rows, "estimator": estimator}
    return saying.decision(trigger, "fitting", "a fit is under way", reason, at, evidence)


def fitted(
    trigger: Trigger, made: Fit, taken: Taken, member: Member, at: int, known: Knowledge, saying: Saying
) -> Outgoing:
    """A fit became a member; on which rows, and which were left out."""
    evidence: dict[str, Scalar] = {**made.verdict.metrics, **made.spent}
    evidence |= {"rows": member.rows, "version": member.version}
    if taken.sampling is not None:
        evidence["sampled_from"] = taken.sampling.of
    if left_out := known.window.left_out(at, trigger.since):
        evidence |= {"left_out": left_out, quarantining.EPISODE: quarantining.culprit(known.state, known.window)}
    return saying.decision(trigger, "fitted", f"member {member.version}", made.verdict.reason, at, evidence)


def announced(trigger: Trigger, member: Member, seat: Seat, pool: Pool | None, at: int, saying: Saying) -> Outgoing:
    """Where a member has its seat, and who made room."""
    evidence: dict[str, Scalar] = {"digest": member.digest, "version": member.version}
    stored = f"member {member.version} was stored at {member.uri}"
    if pool is None or not seat.taken:
        reason = f"{stored}; no member of the full pool may leave before it is judged"
        return saying.decision(trigger, "announced", "it waits for a seat", reason, at, evidence)
    evidence |= {"pool": pool.version, "weight": pool.weights[member.version], "anchor": pool.anchor}
    reason = f"{stored} and answers from pool {pool.version} on"
    if seat.left is not None:
        evidence["left"], reason = seat.left, f"{reason}; member {seat.left} makes room"
    return saying.decision(trigger, "announced", f"pool {pool.version}", reason, at, evidence)
