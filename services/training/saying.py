"""What a controller writes: announcements, decisions and its checkpoint, each with the same id whenever it is said."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from runtime.ports import Outgoing
from runtime.signing import Keys, signed
from schemas import cloudevents
from schemas.messages import Decision, Member, Message, Pool, Scalar, Step, moment
from services.training.domain.triggers import State, Trigger
from services.training.reading import KEY

log = logging.getLogger("headrace.training")

SERVICE = "training"


class Saying:
    """Makes the messages of one pipeline's controller.

    Args:
        pipeline: Name of the pipeline.
        form: How its CloudEvents are laid into Kafka messages.
        keys: Who signs announcements.

    Attributes:
        keys: The same.
    """

    def __init__(self, pipeline: str, form: cloudevents.Form = "structured", keys: Keys | None = None) -> None:
        self._source, self._form = cloudevents.source_of(pipeline, SERVICE), form
        self.keys = keys or Keys()

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
        return self._event("decisions", decision, f"{decision.id}@{at}", decision.subject, at)

    def announcement(self, said: Member | Pool, at: int) -> Outgoing:
        """A member, or the pool, signed, at an event time in milliseconds."""
        name = said.key if isinstance(said, Member) else f"{said.key}/{said.version}"
        return self._event("models", signed(self.keys, said), name, said.key, at)

    def _event(self, topic: str, message: Message, name: str, subject: str, at: int) -> Outgoing:
        value, headers = cloudevents.encode(
            message, id=name, source=self._source, subject=subject, time=moment(max(at, 0)), form=self._form
        )
        return Outgoing(topic, 0, value, subject.encode(), headers)

    @staticmethod
    def checkpoint(state: State) -> Outgoing:
        """The controller's state."""
        return Outgoing("state", 0, msgspec.json.encode(state), KEY)
