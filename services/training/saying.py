"""What a controller writes: announcements, decisions and its checkpoint, each with the same id whenever it is said."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from runtime.ports import Outgoing
from schemas import cloudevents
from schemas.messages import Decision, Member, Pool, Scalar, Step, moment
from services.training.domain.triggers import State, Trigger
from services.training.reading import KEY

log = logging.getLogger("headrace.training")

SERVICE = "training"


class Saying:
    """Makes the messages of one pipeline's controller.

    Args:
        pipeline: Name of the pipeline.
    """

    def __init__(self, pipeline: str) -> None:
        self._source = cloudevents.source_of(pipeline, SERVICE)

    def decision(
        self,
        trigger: Trigger,
        step: Step,
        outcome: str,
        reason: str,
        at: int,
        evidence: Mapping[str, Scalar] | None = None,
    ) -> Outgoing:
        """A decision about a trigger, at an event time in milliseconds."""
        log.info("decided", extra={"subject": trigger.cause.id, "step": step, "outcome": outcome, "reason": reason})
        decision = Decision(
            subject=trigger.cause.id,
            step=step,
            service=SERVICE,
            outcome=outcome,
            reason=reason,
            evidence={**(evidence or {}), "cause": trigger.cause.kind},
            time=moment(max(at, 0)),
        )
        value, headers = cloudevents.encode(
            decision, id=f"{decision.id}@{at}", source=self._source, subject=decision.subject, time=decision.time
        )
        return Outgoing("decisions", 0, value, decision.subject.encode(), headers)

    def announcement(self, said: Member | Pool, at: int) -> Outgoing:
        """A member, or the pool, at an event time in milliseconds."""
        name = said.key if isinstance(said, Member) else f"{said.key}/{said.version}"
        value, headers = cloudevents.encode(said, id=name, source=self._source, subject=said.key, time=moment(at))
        return Outgoing("models", 0, value, said.key.encode(), headers)

    @staticmethod
    def checkpoint(state: State) -> Outgoing:
        """The controller's state."""
        return Outgoing("state", 0, msgspec.json.encode(state), KEY)
