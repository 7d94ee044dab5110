"""What was replayed already: decisions on the log, written in the same transaction as the messages put back."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from headrace.dead_letters.identity import Identities, Identity
from headrace.dead_letters.reading import Letter
from headrace.following import whole
from runtime.ports import LogReader, Outgoing
from schemas import cloudevents
from schemas.messages import Decision, moment

SERVICE = "dead-letters"
STEP = "replayed"
TOPIC = "decisions"


class _Entry(msgspec.Struct):
    """As much of a decision as is needed: unknown fields and steps of newer versions do not hurt."""

    subject: str = ""
    step: str = ""
    evidence: dict[str, bool | int | float | str | None] = {}


def entry(letter: Letter, pipeline: str, who: str, now: int) -> Outgoing:
    """The decision that a letter was replayed, at a time in milliseconds."""
    story = letter.story
    decision = Decision(
        subject=story.id,
        step=STEP,
        service=SERVICE,
        outcome=f"put back on {story.topic}/{story.partition}",
        reason=f"{who} replayed what was refused as {story.reason}",
        evidence={"who": who, "reason": story.reason, "path": story.path, "refused_by": story.pipeline},
    )
    value, headers = cloudevents.encode(
        decision,
        id=decision.id,
        source=cloudevents.source_of(pipeline, SERVICE),
        subject=decision.subject,
        time=moment(now),
    )
    return Outgoing(TOPIC, 0, value, decision.subject.encode(), headers)


def replayed(log: LogReader) -> Identities:
    """Everything that was ever replayed."""
    found = Identities()
    for identity, _ in _entries(log):
        found.add(identity)
    return found


def replay_of(log: LogReader, identity: Identity) -> dict[str, object] | None:
    """When a letter was replayed and by whom, None where it was not."""
    return next((told for each, told in _entries(log) if each == identity), None)


def _entries(log: LogReader) -> Iterator[tuple[Identity, dict[str, object]]]:
    for _, message in whole(log, TOPIC):
        try:
            envelope = cloudevents.decode(message.value or b"", message.headers)
            said = msgspec.json.decode(envelope.data, type=_Entry)
            if said.step == STEP and envelope.type == cloudevents.type_of(Decision):
                yield Identity.parse(said.subject), {"time": envelope.time, "who": said.evidence.get("who")}
        except (cloudevents.EnvelopeError, msgspec.DecodeError, ValueError):
            continue  # others write here, too, and none of theirs is an entry of ours
