"""What a running pipeline does, read from its topics: nobody is asked, so nobody is slowed down."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from headrace.following import Follower, places
from headrace.score import Figures, Prequential
from runtime.ports import Clock, LogReader, Message, Place
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Decision, DriftEpisode, Member, Pool, moment

GROUPS: Mapping[str, tuple[str, ...]] = {
    "ingestion": ("events", "labels"),
    "features": ("records", "scored", "outcomes"),
    "serving": ("features",),
    "drift": ("examples", "scored"),
}
"""The consumer groups that work through rows, and what they read."""
COUNTED = ("events", "labels", "predictions", "examples", "dead-letters")
HEARD = ("examples", "models", "drift", "decisions")
DECISIONS = 8
MADE = frozenset({"fitted", "rejected", "failed", "suppressed"})
"""Decisions that end a fit."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """A fit that is being made.

    Attributes:
        cause: What it is made for.
        since: When it was begun, UTC.
        rows: Rows of its dataset.
        estimator: What is fitted.
    """

    cause: str
    since: datetime
    rows: int
    estimator: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A pipeline at one moment.

    Attributes:
        messages: Messages in each topic of COUNTED.
        per_second: Their growth since the snapshot before; 0 in the first one.
        recent: Prequential scores of the newest judged rows.
        overall: Prequential scores of all judged rows.
        unjudged: Labelled rows that no model had predicted.
        pool: The pool in service, None before the first model.
        members: The announced models, oldest first.
        episodes: The drift episodes in their newest state, oldest first.
        decisions: The newest decisions, oldest first.
        fitting: The fit that is being made, None for none.
        lag: Messages that each group has not worked through yet.
        unreadable: Messages left out because this version cannot read them: foreign ones, or a newer version's.
    """

    messages: dict[str, int]
    per_second: dict[str, float]
    recent: Figures
    overall: Figures
    unjudged: int
    pool: Pool | None
    members: list[Member]
    episodes: list[DriftEpisode]
    decisions: list[Decision]
    fitting: Fitting | None
    lag: dict[str, int]
    unreadable: int

    @property
    def open_episodes(self) -> list[DriftEpisode]:
        """The episodes that have not ended."""
        return [each for each in self.episodes if each.state == "opened"]

    def as_json(self) -> dict[str, object]:
        """Plain values for `--json`."""
        return {
            "messages": self.messages,
            "per_second": self.per_second,
            "recent": asdict(self.recent),
            "overall": asdict(self.overall),
            "unjudged": self.unjudged,
            "pool": self.pool and self.pool.model_dump(mode="json"),
            "members": [each.model_dump(mode="json") for each in self.members],
            "episodes": [each.model_dump(mode="json") for each in self.episodes],
            "decisions": [each.model_dump(mode="json") for each in self.decisions],
            "fitting": self.fitting and asdict(self.fitting) | {"since": self.fitting.since.isoformat()},
            "lag": self.lag,
            "unreadable": self.unreadable,
        }


class Watcher:
    """Follows the topics of one pipeline from their beginning.

    Args:
        log: The pipeline's log.
        committed: The committed offset of a group, None where there is none.
        clock: What rates are measured by.
    """

    def __init__(
        self,
        log: LogReader,
        committed: Callable[[str, Place], int | None],
        clock: Clock,
    ) -> None:
        self._log, self._committed, self._clock = log, committed, clock
        self._follower = Follower(log)
        self._score = Prequential()
        self._pool: Pool | None = None
        self._members: dict[int, Member] = {}
        self._episodes: dict[str, DriftEpisode] = {}
        self._decisions: deque[Decision] = deque(maxlen=DECISIONS)
        self._fitting: Fitting | None = None
        self._before: tuple[float, dict[str, int]] | None = None
        self._unreadable = 0

    def look(self) -> Snapshot:
        """Read what is new and tell how things stand; raises `Transient` while the broker is away."""
        for topic in HEARD:
            for message in self._follower.new(topic):
                self._take(topic, message)
        messages = {topic: self._count(topic) for topic in COUNTED}
        return Snapshot(
            messages=messages,
            per_second=self._rates(messages),
            recent=self._score.recent,
            overall=self._score.overall,
            unjudged=self._score.unjudged,
            pool=self._pool,
            members=list(self._members.values()),
            episodes=list(self._episodes.values()),
            decisions=list(self._decisions),
            fitting=self._fitting,
            lag={group: self._lag(group, topics) for group, topics in GROUPS.items()},
            unreadable=self._unreadable,
        )

    def _take(self, topic: str, message: Message) -> None:
        try:
            if topic == "examples":
                self._score.add(b.decode(message.value))
            else:
                self._hear(message)
        except (b.BatchError, cloudevents.EnvelopeError):
            self._unreadable += 1

    def _hear(self, message: Message) -> None:
        if message.value is None:
            return
        told = cloudevents.decode(message.value, message.headers).message()
        if isinstance(told, Pool):
            self._pool = told
        elif isinstance(told, Member):
            self._members[told.version] = told
        elif isinstance(told, DriftEpisode):
            self._episodes[told.id] = told
        elif isinstance(told, Decision):
            self._decisions.append(told)
            self._note_fit(told, message.timestamp)

    def _note_fit(self, told: Decision, timestamp: int) -> None:
        """One fit is made at a time; a controller that goes on after a crash begins it anew."""
        if told.step == "fitting":
            rows, estimator = told.evidence.get("rows"), told.evidence.get("estimator")
            self._fitting = Fitting(told.subject, moment(timestamp), int(rows or 0), str(estimator))
        elif self._fitting is not None and told.step in MADE and told.subject == self._fitting.cause:
            self._fitting = None

    def _rates(self, messages: dict[str, int]) -> dict[str, float]:
        now = self._clock.monotonic()
        then, before = self._before or (now, messages)
        self._before = (now, messages)
        seconds = now - then
        return {topic: (count - before[topic]) / seconds if seconds > 0 else 0.0 for topic, count in messages.items()}

    def _count(self, topic: str) -> int:
        return sum(self._log.end(place) - self._log.begin(place) for place in places(self._log, topic))

    def _lag(self, group: str, topics: tuple[str, ...]) -> int:
        return sum(self._behind(group, place) for topic in topics for place in places(self._log, topic))

    def _behind(self, group: str, place: Place) -> int:
        committed = self._committed(group, place)
        return self._log.end(place) - (self._log.begin(place) if committed is None else committed)
