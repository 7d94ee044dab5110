"""What happens in the demo, told from the log: four changes, what was found of each, and what followed.

Pure: it is told of everything that can be seen on the topics, in any order, and knows when all has gone as it must.
An episode that says anything else than what was done to the stream is false, and fails the demo.
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.demo.accuracy import Accuracy
from headrace.demo.progress import Progress, Step
from headrace.demo.stream import CYCLIC, GATEWAY, WORN, WRONG, Course, row_at
from schemas import batch as b
from schemas.artefact import Quarantine
from schemas.messages import Decision, DriftEpisode, Member, Pool, moment

FIRST, CHANGE, ALARM, FITTED, SWAPPED, RECOVERED, UNIT, NAMED, HELD, RIGHT, WEAR, SHIFT, EARLY = range(13)
TITLES = (
    "the first model answers",
    "the world changes",
    "drift is found: concept",
    "a new model is announced",
    "the new model answers",
    "the predictions are as good as before",
    "a gateway sends another unit",
    "drift is found: bad data",
    "these rows are held back",
    "the data is right again",
    "vibration rises slowly",
    "drift is found: covariate",
    "an early fit, without the bad rows",
)
BEGINS = {CHANGE: (ALARM, FITTED, SWAPPED, RECOVERED), UNIT: (NAMED, HELD, RIGHT), WEAR: (SHIFT, EARLY)}
"""What is done to the stream, and what must follow from it."""
CALM = f"{CYCLIC} follows the hours of the day, always"
"""The change that must not be found."""


def proves(said: DriftEpisode, course: Course) -> int | None:
    """The step that an episode is; None where it is false. While vibration rises there may be several."""
    row, names = row_at(said.detected_at), [each.name for each in said.streams]
    if said.kind == "concept" and course.change <= row < course.known:
        return ALARM
    if said.kind == "bad_data" and row in course.wrong and _wrong_unit(said):
        return NAMED
    if said.kind == "covariate" and row >= course.wear.start and WORN in names and names[0] != CYCLIC:
        return SHIFT
    return None


def _wrong_unit(said: DriftEpisode) -> bool:
    leading = said.streams[0] if said.streams else None
    found = leading is not None and (leading.name, leading.source) == (WRONG, f"{b.EVENTS}/{GATEWAY}")
    return found and said.evidence.get("cause") == "unit"


class Story:
    """The steps of one run, in the order of TITLES.

    Args:
        course: What is done to the stream.

    Attributes:
        accuracy: How often the predictions are right.
        details: What was said of a step, by its place in TITLES.
        wrong: What must not have happened.
    """

    def __init__(self, course: Course) -> None:
        self._course, self._progress = course, Progress()
        self._times: dict[int, int] = {}
        self._rows: dict[int, int] = {}
        self._episodes: dict[str, int | None] = {}
        self._members: dict[str, tuple[int, Member]] = {}
        self._left_out: dict[int, tuple[Quarantine, ...]] = {}
        self._pools: dict[int, int] = {}
        self._answered: dict[int, int] = {}
        self._decisions: dict[tuple[str, str], tuple[int, Decision]] = {}
        self.accuracy = Accuracy(course.change)
        self.details: dict[int, str] = {}
        self.wrong: list[str] = []

    # --- what is told -------------------------------------------------------------------------------

    def sent(self, time: int, row: int) -> None:
        """So many events had been sent at a time; called in order of time."""
        self._progress.tell(time, row)
        begins = (self._course.change, self._course.wrong.start, self._course.wear.start)
        for step, first in zip(BEGINS, begins, strict=True):
            if row > first and step not in self._times:
                self._reach(step, self._progress.time_of(first))

    def episode(self, time: int, said: DriftEpisode) -> None:
        """The judge said something of an episode."""
        if said.state != "opened" or said.id in self._episodes:
            return
        step = self._episodes[said.id] = proves(said, self._course)
        if step is None:
            kind = str(said.kind).replace("_", " ")
            self.wrong.append(f"{kind} was found at row {row_at(said.detected_at):,}, and should not: {said.reason}")
        else:
            self._reach(step, time, said.reason, row_at(said.detected_at))
            self._follow()

    def member(self, time: int, said: Member, quarantined: Iterable[Quarantine] = ()) -> None:
        """A model was announced, fitted without the rows that were in quarantine."""
        self._members.setdefault(said.cause.id, (time, said))
        self._left_out.setdefault(said.version, tuple(quarantined))
        self._follow()

    def pool(self, said: Pool) -> None:
        """The pool was composed anew."""
        for member in said.members:
            self._pools.setdefault(member, said.version)
        self._follow()

    def decided(self, time: int, said: Decision) -> None:
        """A line of the ledger."""
        self._decisions.setdefault((said.subject, said.step), (time, said))
        self._follow()

    def scored(self, time: int, pool: int) -> None:
        """A batch was scored by a pool, 0 for none."""
        if pool > 0 and pool not in self._answered:
            self._reach(FIRST, time)
            self._answered[pool] = time
            self._follow()

    def judged(self, time: int, row: int, pool: int, *, right: bool) -> None:
        """A row's label came: whether the pool had been right."""
        self.accuracy.judged(row, pool, right=right)
        if SWAPPED in self._times and RECOVERED not in self._times and self.accuracy.recovered:
            self._reach(RECOVERED, time)

    # --- what follows -------------------------------------------------------------------------------

    def _follow(self) -> None:
        follow = {ALARM: self._retrained, NAMED: self._held_back, SHIFT: self._fitted_early}
        for episode, step in self._episodes.items():
            if step is not None:
                follow[step](episode)

    def _retrained(self, episode: str) -> None:
        if episode not in self._members:
            return
        time, member = self._members[episode]
        self._reach(FITTED, time, f"member {member.version}, on {member.rows:,} rows")
        pool = self.accuracy.pool = self.accuracy.pool or self._pools.get(member.version)
        if pool is not None and (answered := [time for each, time in self._answered.items() if each >= pool]):
            self._reach(SWAPPED, min(answered))

    def _held_back(self, episode: str) -> None:
        if (told := self._decisions.get((episode, "quarantined"))) is not None:
            self._reach(HELD, told[0], told[1].outcome)
        if (told := self._decisions.get((episode, "released"))) is not None:
            self._reach_right(*told)
        if episode in self._members:
            self._blame(f"member {self._members[episode][1].version} was fitted because of bad data")

    def _reach_right(self, time: int, said: Decision) -> None:
        """An end before the rows were right again is none."""
        row = -1 if said.time is None else row_at(said.time)
        if row >= self._course.wrong.stop:
            self._reach(RIGHT, time, said.outcome, row)

    def _fitted_early(self, episode: str) -> None:
        if episode not in self._members:
            return
        time, member = self._members[episode]
        if any(map(self._is_wrong_one, self._left_out[member.version])):
            self._reach(EARLY, time, f"member {member.version}, on {member.rows:,} rows")
        else:
            self._blame(f"member {member.version} was fitted on bad data")

    def _is_wrong_one(self, rows: Quarantine) -> bool:
        """Whether the rows with another unit are held back by it: from about their first on until behind their last."""
        first, end = (row_at(moment(each)) for each in (rows.start, rows.stop or rows.start))
        return rows.source in (GATEWAY, None) and first < self._course.wrong.stop <= end

    def _blame(self, what: str) -> None:
        if what not in self.wrong:
            self.wrong.append(what)

    def _reach(self, step: int, time: int, detail: str = "", row: int | None = None) -> None:
        if step not in self._times:
            self._times[step], self.details[step] = time, detail
            if row is not None:
                self._rows[step] = row

    # --- how it stands ------------------------------------------------------------------------------

    @property
    def steps(self) -> dict[int, Step]:
        """What has happened, by its place in TITLES: at which row it was certain, else how far the stream was."""
        at = {step: self._progress.at(time) for step, time in self._times.items()}
        return {step: Step(each.time, self._rows.get(step, each.row)) for step, each in at.items()}

    @property
    def missing(self) -> list[str]:
        """What has not happened yet."""
        return [title for step, title in enumerate(TITLES) if step not in self._times]

    @property
    def closed(self) -> bool:
        """Whether everything in TITLES has happened, and nothing else."""
        return not self.missing and not self.wrong

    @property
    def passed(self) -> int:
        """How many of the stream's waiting places it may pass: a change needs a loop that has dealt with the last."""
        done = (bool(self._members), self._serves(), RIGHT in self._times)
        return next((place for place, each in enumerate(done) if not each), len(done))

    def _serves(self) -> bool:
        """Whether serving has the model of the new world: it needs no rows to say so."""
        swaps = [said for (_, step), (_, said) in self._decisions.items() if step == "swapped"]
        pool = self.accuracy.pool
        return pool is not None and any(int(said.evidence.get("pool") or 0) >= pool for said in swaps)
