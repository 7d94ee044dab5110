"""The episodes of a pipeline, each with what followed from it, from the public topics `drift` and `decisions`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from headrace.following import whole
from runtime.ports import LogReader
from schemas import cloudevents
from schemas.messages import Decision, DriftEpisode, rfc3339

DECIDER = "training"
EPISODE = "episode"
"""Name of the evidence of a decision that rests on an episode which is not its subject."""


def kind_of(name: str) -> str:
    """How a kind of episode is called for people."""
    return name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Story:
    """One episode.

    Attributes:
        episode: Its evidence, as it was told first.
        closed: What was told at its end, None while it is open.
        ended: Event time of its end; empty while it is open.
        decisions: What was decided because of it, oldest first.
    """

    episode: DriftEpisode
    closed: DriftEpisode | None = None
    ended: str = ""
    decisions: tuple[Decision, ...] = ()

    @property
    def kind(self) -> str:
        """What sort of change it is, for people."""
        return kind_of(self.episode.kind)

    @property
    def state(self) -> str:
        """`open` or `closed`."""
        return "open" if self.closed is None else "closed"

    @property
    def consequence(self) -> str:
        """The last thing that was decided because of it."""
        decided = [each for each in self.decisions if each.service == DECIDER]
        return f"{decided[-1].step}: {decided[-1].outcome}" if decided else "none yet"

    def as_json(self) -> dict[str, object]:
        """Plain values for `--json`."""
        return {
            "episode": self.episode.model_dump(mode="json"),
            "closed": self.closed and {"time": self.ended, "reason": self.closed.reason},
            "decisions": [each.model_dump(mode="json") for each in self.decisions],
        }


def stories(log: LogReader) -> dict[str, Story]:
    """Every episode that is kept, by id, in the order in which they were told."""
    found: dict[str, Story] = {}
    for time, said in _episodes(log):
        story = found.setdefault(said.id, Story(said))
        if said.state == "closed" and story.closed is None:
            found[said.id] = replace(story, closed=said, ended=time or rfc3339(said.detected_at))
    for decision in _decisions(log):
        for name in {decision.subject, decision.evidence.get(EPISODE)} & found.keys():
            story = found[str(name)]
            found[str(name)] = replace(story, decisions=(*story.decisions, decision))
    return found


def advice(log: LogReader) -> list[str]:
    """What the judge says of how it is set: that panes hold too few rows."""
    return [each.reason for each in _decisions(log) if each.step == "advised" and each.service == "drift"]


def _episodes(log: LogReader) -> list[tuple[str | None, DriftEpisode]]:
    """What judges said, each with its event time, but for judges that were replaced; foreign messages are left out."""
    episodes, epoch = [], 0
    for _, message in whole(log, "drift"):
        try:
            envelope = cloudevents.decode(message.value or b"", message.headers)
            said = envelope.read(DriftEpisode)
        except cloudevents.EnvelopeError:
            continue
        if said.epoch >= epoch:
            epoch = said.epoch
            episodes.append((envelope.time, said))
    return episodes


def _decisions(log: LogReader) -> list[Decision]:
    """Every decision once; services may repeat them after a crash."""
    found: dict[str, Decision] = {}
    for _, message in whole(log, "decisions"):
        try:
            envelope = cloudevents.decode(message.value or b"", message.headers)
            found.setdefault(envelope.id, envelope.read(Decision))
        except cloudevents.EnvelopeError:
            continue
    return list(found.values())
