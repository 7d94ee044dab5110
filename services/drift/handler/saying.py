"""What the judge says of an episode: the fact for everybody, and the decision with its evidence for the ledger."""

from __future__ import annotations

import logging

from runtime.ports import LogReader, Outgoing, Place
from schemas import cloudevents
from schemas.batch import EVENTS
from schemas.messages import Decision, DriftEpisode, Message, Scalar, Statistic, StreamChange, moment
from schemas.quantities import duration
from schemas.spec import Pipeline
from services.drift.domain.density import FEWEST, Density
from services.drift.domain.evidence import Episode, Transition
from services.drift.domain.evidence import StreamChange as Change

logger = logging.getLogger("headrace.drift")

DRIFT = Place("drift", 0)
PANE = "drift.pane"
"""Subject of what is said of the setting."""
TAIL = 64
"""Messages of the drift topic that are looked through after a restart; a crash leaves at most two to say again."""


class Sayings:
    """Makes the messages of transitions, and remembers which facts are on the log already.

    Args:
        spec: The pipeline.
        form: How its CloudEvents are laid into Kafka messages.
    """

    def __init__(self, spec: Pipeline, form: cloudevents.Form = "structured") -> None:
        self._source, self._form = cloudevents.source_of(spec.pipeline, "drift"), form
        self._pane = spec.drift.pane
        self._said: set[str] = set()
        self.newest = ""
        """Id of the newest fact; empty before the first."""

    def remember(self, log: LogReader) -> int:
        """Read what was said before a crash that came before its checkpoint; the highest epoch that said it."""
        end, epoch = log.end(DRIFT), 0
        for message in log.read(DRIFT, max(log.begin(DRIFT), end - TAIL), end):
            try:
                envelope = cloudevents.decode(message.value or b"", message.headers)
                epoch = max(epoch, envelope.read(DriftEpisode).epoch)
            except cloudevents.EnvelopeError as error:
                logger.warning("foreign_message_ignored", extra={"offset": message.offset, "error": str(error)})
            else:
                self._said.add(envelope.id)
                self.newest = envelope.id
        return epoch

    def say(self, transition: Transition, positions: dict[str, int], epoch: int) -> list[Outgoing]:
        """Facts and decisions that follow from a transition; none where an episode neither opened nor closed."""
        outgoing: list[Outgoing] = []
        if transition.opened is not None:
            outgoing += self._tell(_opened(transition.opened, positions, epoch), transition)
        if transition.closed is not None:
            outgoing += self._tell(_closed(transition.closed, transition, positions, epoch), transition)
        return outgoing

    def advise(self, density: Density, better: int) -> list[Outgoing]:
        """That panes hold too few rows.

        Args:
            density: What they hold.
            better: Length of those that would hold enough, milliseconds.
        """
        advised, time = duration(better), (density.last + 1) * self._pane
        decision = Decision.written(
            subject=PANE,
            step="advised",
            service="drift",
            outcome=f"set {PANE} to {advised}",
            reason=f"a pane of {duration(self._pane)} holds {density.mean:.1f} rows on average: panes of fewer than "
            f"{FEWEST} are judged badly, and many of their episodes mean little. Set {PANE} to {advised}",
            evidence={"rows_per_pane": round(density.mean, 2), "pane": duration(self._pane), "advised": advised},
            time=moment(time),
        )
        return [self._event("decisions", decision, decision.id, decision.subject, time)]

    def _tell(self, episode: DriftEpisode, transition: Transition) -> list[Outgoing]:
        decision = _decision(episode, transition)
        outgoing = [self._event("decisions", decision, decision.id, episode.id, transition.time)]
        name = f"{episode.id}:{episode.state}"
        if name not in self._said:
            self.newest = name
            outgoing.insert(0, self._event(DRIFT.topic, episode, name, episode.id, transition.time))
        return outgoing

    def _event(self, topic: str, message: Message, name: str, subject: str, time: int) -> Outgoing:
        value, headers = cloudevents.encode(
            message, id=name, source=self._source, subject=subject, time=moment(time), form=self._form
        )
        return Outgoing(topic, 0, value, subject.encode(), headers)


def _opened(episode: Episode, positions: dict[str, int], epoch: int) -> DriftEpisode:
    return DriftEpisode.written(
        id=episode.id,
        state="opened",
        family=episode.family,
        kind=episode.kind,
        anchor=episode.anchor,
        detector=episode.detector,
        statistic=episode.statistic,
        threshold=episode.threshold,
        detected_at=moment(episode.at),
        estimated_start=moment(episode.start),
        rows=episode.rows,
        evidence=_evidence(episode),
        positions=positions,
        reason=episode.reason,
        epoch=epoch,
        streams=tuple(map(_stream, episode.streams)),
        history=tuple(Statistic(at=moment(each.at), value=each.value) for each in episode.history),
        recurs=episode.recurs,
    )


def _closed(episode: Episode, transition: Transition, positions: dict[str, int], epoch: int) -> DriftEpisode:
    opened = _opened(episode, positions, epoch)
    return opened.model_copy(update={"state": "closed", "reason": transition.reason})


def _stream(change: Change) -> StreamChange:
    return StreamChange(
        name=change.name,
        kind=change.kind,
        share=change.share,
        effect=change.effect,
        start=moment(change.start),
        bins=change.bins,
        before=change.before,
        after=change.after,
        source=None if change.source is None else f"{EVENTS}/{change.source}",
    )


def _evidence(episode: Episode) -> dict[str, Scalar]:
    told: dict[str, Scalar] = {"pane": episode.pane, **dict(episode.figures)}
    if episode.source is not None:
        told["source"] = f"{EVENTS}/{episode.source}"
    return {**told, "cause": episode.cause} if episode.cause else told


def _decision(episode: DriftEpisode, transition: Transition) -> Decision:
    kind = str(episode.kind).replace("_", " ")
    outcome = f"{kind}: an episode is open" if episode.state == "opened" else f"{kind}: the episode is over"
    return Decision.written(
        subject=episode.id,
        step=episode.state,
        service="drift",
        outcome=outcome,
        reason=episode.reason,
        evidence=episode.evidence,
        positions=episode.positions,
        time=moment(transition.time),
    )
