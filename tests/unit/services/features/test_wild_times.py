"""Event time and arrival time may differ wildly: a day in one poll, a backlog, sources that are a day apart.

What counts is that every source is in order by itself, within the lateness. Who dies when, and which source is read
first, changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.memory import MemoryBroker, MemoryCarrier, VirtualClock
from runtime.ports import Place, Polled
from tests.unit.services.features.world import HORIZON, SOURCES, P, Process, drain, event, label, letters, rows

DAY = 24 * 3_600_000
START = 40 * DAY


class OneAtATime(MemoryCarrier):
    """Each poll is of one partition, as from a broker that has much to say; the others wait for as long."""

    def _fetch(self, positions: dict[Place, int]) -> Iterator[Polled]:
        for place in sorted(positions):
            if found := list(super()._fetch({place: positions[place]})):
                positions[place] = found[0].messages[-1].offset + 1
                yield found[0]
                return


class Backwards(OneAtATime):
    """The same, and the last partition of the last topic comes first."""

    def _fetch(self, positions: dict[Place, int]) -> Iterator[Polled]:
        for place in sorted(positions, reverse=True):
            if found := list(super()._fetch({place: positions[place]})):
                positions[place] = found[0].messages[-1].offset + 1
                yield found[0]
                return


CARRIERS = [MemoryCarrier, OneAtATime, Backwards]


@dataclass(frozen=True)
class Day:
    """What the outside says of a day, by source, each in the order of its time.

    Attributes:
        said: Place: its messages with the times at which they are due.
        examples: Event id: label.
        strays: The same of events that come a day after their time, when nobody waits for a label of theirs any more.
    """

    said: dict[Place, list[tuple[int, bytes]]]
    examples: dict[str, int]
    strays: dict[str, int]


@st.composite
def days(draw: st.DrawFn) -> Day:
    """Events of a day, many of one source and few of another, or a day older; labels within the horizon, or earlier."""
    day = Day({Place(topic, each): [] for topic in ("events", "labels") for each in range(SOURCES)}, {}, {})
    for source in range(SOURCES):
        begin = START - draw(st.sampled_from([0, 0, DAY]))
        times = draw(st.lists(st.integers(0, DAY), min_size=1, max_size=25))
        for n, due in enumerate(begin + each for each in times):
            stray, back = draw(st.integers(0, 9)) == 0, draw(st.booleans())
            at = due - DAY * stray
            delay = draw(st.integers(-HORIZON // 2, HORIZON))
            name = f"{source}-{n}"
            day.said[Place("events", source)].append((due, event(name, at)))
            day.said[Place("labels", draw(st.integers(0, 1)))].append((due + delay, label(name, at + delay, back)))
            (day.strays if stray else day.examples)[f"o{name}"] = int(back)
    for said in day.said.values():
        said.sort()
    return day


def world() -> MemoryBroker:
    counts = dict.fromkeys(("records", "outcomes", "features", "scored", "examples", "dead-letters"), P)
    return MemoryBroker({"events": SOURCES, "labels": 2, **counts}, VirtualClock())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ingestion", "serving", "features"]), st.integers(1, 4)),
        st.tuples(st.just("kill"), st.integers(0, 6)),
        st.tuples(st.just("wait"), st.sampled_from([1, 11])),
    ),
    max_size=25,
)


class Run:
    """A day told to processes that die; the next ones go on."""

    def __init__(self, carry: type[MemoryCarrier], size: int) -> None:
        self.on, self._carry, self._size = world(), carry, size
        self.processes: dict[str, Process] = {}
        self.up()

    def up(self) -> bool:
        """Whether somebody was down."""
        names = [each for each in ("ingestion", "serving", "features") if not self._lives(each)]
        self.processes |= {each: Process(self.on, each, self._size, carry=self._carry) for each in names}
        return bool(names)

    def down(self) -> None:
        """Everybody says what is left, and ends."""
        self.settle()
        for process in self.processes.values():
            process.kill()

    def hear(self, said: dict[Place, list[tuple[int, bytes]]]) -> None:
        for place, each in said.items():
            for _, value in each:
                self.on.append(place, value)

    def play(self, steps: Sequence[tuple[str, int]]) -> None:
        for what, number in steps:
            if what == "wait":
                self.on.clock.advance(number)
            elif what == "kill":
                self.processes["features"].fuse = number
            else:
                self.up()
                for _ in range(number):
                    self.processes[what].step()
        self.settle()

    def pass_by(self) -> dict[str, int]:
        """The next day begins, everywhere: nobody waits for a label of this one any more. Its own examples."""
        names = [f"{source}-next-{n}" for source in range(SOURCES) for n in range(4 * P)]
        for n, name in enumerate(names):
            self.on.append(Place("events", int(name[0])), event(name, START + 3 * DAY))
            self.on.append(Place("labels", n % 2), label(name, START + 3 * DAY, False))
        self.settle()
        return {f"o{name}": 0 for name in names}

    def settle(self) -> None:
        self.up()
        while drain(*self.processes.values()) or self.up():
            pass
        self.on.clock.advance(2)
        drain(*self.processes.values())

    def _lives(self, name: str) -> bool:
        return name in self.processes and self.processes[name].alive


def holds(on: MemoryBroker, day: Day) -> None:
    """Every label has met its event once; that of a stray has, or it is a dead letter, which says so."""
    found = {str(each["_event_id"]): each["_label"] for each in rows(on, "examples")}
    assert len(found) == len(rows(on, "examples"))
    assert day.examples.items() <= found.items() <= (day.examples | day.strays).items()
    refused = {f"{json.loads(each['value'])['order']}" for each in letters(on)}
    assert day.strays.keys() - found.keys() <= refused <= day.strays.keys()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(day=days(), steps=STEPS, carry=st.sampled_from(CARRIERS), size=st.integers(1, 30))
def test_a_day_that_comes_at_once_has_the_examples_of_a_day(
    day: Day, steps: list[tuple[str, int]], carry: type[MemoryCarrier], size: int
) -> None:
    run = Run(carry, size)
    run.hear(day.said)
    run.play(steps)
    holds(run.on, replace(day, examples=day.examples | run.pass_by()))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(day=days(), cut=st.integers(0, DAY), asleep=st.booleans(), steps=STEPS, carry=st.sampled_from(CARRIERS))
def test_a_backlog_has_the_examples_of_a_day(
    day: Day, cut: int, asleep: bool, steps: list[tuple[str, int]], carry: type[MemoryCarrier]
) -> None:
    before = {place: [each for each in said if each[0] < START + cut] for place, said in day.said.items()}
    after = {place: [each for each in said if each[0] >= START + cut] for place, said in day.said.items()}
    run = Run(carry, 5)
    run.hear(before)
    run.settle()
    if asleep:  # every source is idle when the services end
        for _ in range(15):
            run.on.clock.advance(1)
            drain(*run.processes.values())
    run.down()
    run.hear(after)
    run.play(steps)
    holds(run.on, replace(day, examples=day.examples | run.pass_by()))
