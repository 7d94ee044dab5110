"""The log is the state: whoever dies whenever, the examples are those of a run in which nobody died."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import HoleFound
from runtime.memory import MemoryBroker, MemoryLog
from runtime.metrics import Metrics
from runtime.ports import Message, Outgoing, Place, Polled
from schemas import batch as b
from schemas.pipeline import Pipeline
from services.features.domain.waiting import Spill
from services.features.handler import Features
from services.features.joining import Joiner
from tests.unit.services.features.world import (
    ABSENT,
    HORIZON,
    LATENESS,
    REVISED,
    SPEC,
    P,
    Process,
    broker,
    drain,
    event,
    everybody,
    label,
    letters,
    messages,
    rest,
    rows,
)

MESSAGE = tuple[int, Place, bytes, bytes]
"""When it comes, to where, and what it is."""


@dataclass(frozen=True)
class Story:
    """What happens outside, in the order in which it happens.

    Attributes:
        script: The messages.
        examples: Event id: label that the examples must have.
        late: Labels that must become dead letters.
    """

    script: tuple[MESSAGE, ...]
    examples: dict[str, int]
    late: frozenset[str]


@st.composite
def stories(draw: st.DrawFn, spec: Pipeline = SPEC) -> Story:
    script: list[MESSAGE] = []
    examples: dict[str, int] = {}
    late: set[str] = set()
    now = 0
    for n in range(draw(st.integers(1, 40))):
        now += draw(st.integers(0, 20_000))
        source = draw(st.integers(0, 1))
        kind = draw(
            st.sampled_from(["labelled", "labelled", "labelled", "late", "twice", "again", "unlabelled", "unknown"])
        )
        if kind != "unknown":
            script.append((now, Place("events", source), event(n, now), b""))
        if kind == "again":
            at = now + draw(st.integers(0, 30_000))
            script.append((at, Place("events", source), event(n, at, amount=2), b""))
        if spec is ABSENT and kind in {"unlabelled", "late"}:
            examples[f"o{n}"] = 0
        if kind == "unlabelled":
            continue
        delay = HORIZON + 1 + draw(st.integers(0, 50_000)) if kind == "late" else draw(st.integers(0, HORIZON))
        back, key = draw(st.booleans()), f"{n}".encode()
        script.append((now + delay, Place("labels", 0), label(n, now + delay, back), key))
        if kind == "twice":
            at = now + delay + draw(st.integers(0, 30_000))
            script.append((at, Place("labels", 0), label(n, at, not back), key))
        if kind in {"late", "unknown"}:
            late.add(str(n))
        else:
            examples[f"o{n}"] = int(back)
    end = max(at for at, *_ in script) + 2 * (HORIZON + LATENESS) + 30_000
    script += [(end, Place("events", s), event(f"end{s}-{n}", end), b"") for s in (0, 1) for n in range(4)]
    script += [(end, Place("labels", 0), label(f"end{s}-{n}", end), b"end") for s in (0, 1) for n in range(4)]
    examples |= {f"oend{s}-{n}": 1 for s in (0, 1) for n in range(4)}
    # Events and labels are two streams: an index breaks ties so that each one is ascending by time.
    return Story(tuple(sorted(script, key=lambda each: each[0])), examples, frozenset(late))


def holds(on: MemoryBroker, story: Story, extra: Sequence[Outgoing] = ()) -> None:
    found = rows(on, "examples")
    assert {str(row["_event_id"]): row["_label"] for row in found} == story.examples
    copies = Counter(row["_event_id"] for each in extra for row in b.decode(each.value).to_pylist())
    written = Counter(row["_event_id"] for row in found)
    assert all(count - copies[each] <= 1 for each, count in written.items())
    assert {letter["key"] for letter in letters(on)} == story.late


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("flow"), st.integers(1, 12)),
        st.tuples(st.just("flow"), st.integers(1, 12)),
        st.tuples(st.sampled_from(["ingestion", "serving", "features"]), st.integers(1, 3)),
        st.tuples(st.just("another"), st.integers(0, 3)),
        st.tuples(st.just("kill"), st.integers(0, 6)),
        st.tuples(st.just("zombie"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["freeze", "thaw"]), st.just(1)),
        st.tuples(st.just("wait"), st.integers(1, 2)),
    ),
    min_size=5,
    max_size=40,
)


def on_disk(rows: pa.RecordBatch) -> pa.RecordBatch:
    return b.decode(b.encode(rows))


class Run:
    """A story told to processes that are killed, doubled and moved."""

    def __init__(self, story: Story, size: int, spec: Pipeline = SPEC) -> None:
        self.on, self.size, self.spec = broker(), size, spec
        self.script = list(story.script)
        self.processes = {name: self.process(name) for name in ("ingestion", "serving", "features")}
        self.second: Process | None = None
        self.zombies: list[Outgoing] = []
        self.frozen: list[Outgoing] = []

    def process(self, name: str) -> Process:
        return Process(self.on, name, self.size, spec=self.spec, spill=Spill(3, on_disk))

    def play(self, steps: Sequence[tuple[str, int]]) -> None:
        for what, number in steps:
            self.play_one(what, number)
        self.outside(len(self.script))
        if self.second is not None:
            self.second.kill()
        self.thaw(1)
        for _ in range(2_000):
            moved = sum(process.step() for process in self.processes.values())
            if not (self.revive() | moved):  # whoever died in this very round has something left to say
                return
        raise AssertionError("the processes never come to rest")

    def play_one(self, what: str, number: int) -> None:
        if what in self.processes:
            self.revive()
            for _ in range(number):
                self.processes[what].step()
        else:
            getattr(self, what)(number)

    def revive(self) -> bool:
        dead = [name for name, process in self.processes.items() if not process.alive]
        self.processes |= {name: self.process(name) for name in dead}
        return bool(dead)

    def outside(self, number: int) -> None:
        for _, place, value, key in self.script[:number]:
            self.on.append(place, value, key or None)
        del self.script[:number]

    def flow(self, number: int) -> None:
        """Something comes from outside and goes most of the way."""
        self.outside(number)
        for name in ("ingestion", "features", "serving", "features"):
            self.play_one(name, 1)

    def another(self, number: int) -> None:
        """A second features works for some steps; partitions move there, and back when it is killed."""
        if self.second is None or not self.second.alive:
            self.second = self.process("features")
        for _ in range(number):
            self.second.step()
        if not number:
            self.second.kill()

    def kill(self, number: int) -> None:
        """The features dies in the middle of its next messages, or at once."""
        self.revive()
        self.processes["features"].fuse = number
        if not number:
            self.processes["features"].kill()

    def zombie(self, number: int) -> None:
        """A copy of an earlier message lands again, as that of a process does that was frozen while it wrote."""
        for partition in range(P):
            log = self.on.log(Place("examples", partition))
            if len(log) > number and (message := log[-1 - number]) is not None:
                self.on.append(Place("examples", partition), message.value or b"", None, message.headers)
                self.zombies.append(Outgoing("examples", partition, message.value))

    def freeze(self, _: int) -> None:
        """The features stands still with its messages on their way, until another one has its partitions."""
        self.revive()
        process = self.processes["features"]
        process.step()
        if process.alive and not (poll := process.carrier.poll(0)).gained | poll.lost and poll.polled:
            self.frozen += [each for out in process.handler.handle(poll.polled) for each in out]
        process.kill()

    def thaw(self, _: int) -> None:
        """What was on its way lands."""
        for each in self.frozen:
            self.on.append(Place(each.topic, each.partition), each.value or b"", each.key, each.headers)
        self.zombies += [each for each in self.frozen if each.topic == "examples"]
        self.frozen = []

    def wait(self, number: int) -> None:
        self.on.clock.advance(number)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=stories(), steps=STEPS, size=st.integers(1, 20))
def test_examples_are_those_of_an_undisturbed_run(story: Story, steps: list[tuple[str, int]], size: int) -> None:
    run = Run(story, size)
    run.play(steps)
    holds(run.on, story, run.zombies)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=stories(ABSENT), steps=STEPS, size=st.integers(1, 20))
def test_rows_without_label_are_examples_once_whoever_dies(
    story: Story, steps: list[tuple[str, int]], size: int
) -> None:
    run = Run(story, size, ABSENT)
    run.play(steps)
    holds(run.on, story, run.zombies)


@st.composite
def corrected_stories(draw: st.DrawFn) -> tuple[tuple[MESSAGE, ...], set[tuple[str, int, int, bool]]]:
    """A script, and the examples that must come of it: event id, revision, label, whether it is a correction."""
    script: list[MESSAGE] = []
    examples: set[tuple[str, int, int, bool]] = set()
    now = 0
    for n in range(draw(st.integers(1, 20))):
        now += draw(st.integers(0, 20_000))
        early = draw(st.sampled_from([0, 0, 0, 20_000]))
        script.append((now + early, Place("events", n % 2), event(n, now), b""))
        at, newest = now, -1
        for revision in draw(st.lists(st.integers(0, 3), max_size=5)):
            at += draw(st.integers(0, HORIZON // 2))
            back = draw(st.booleans())
            script.append((at, Place("labels", 0), label(n, at, back, revision), f"{n}".encode()))
            late = at - now > HORIZON
            if newest < 0 and late:
                break
            if revision > newest and not late:
                examples.add((f"o{n}", revision, int(back), newest >= 0))
                newest = revision
    return tuple(sorted(script, key=lambda each: each[0])), examples


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(told=corrected_stories(), steps=STEPS, size=st.integers(1, 20))
def test_each_correction_is_an_example_once_whoever_dies(
    told: tuple[tuple[MESSAGE, ...], set[tuple[str, int, int, bool]]], steps: list[tuple[str, int]], size: int
) -> None:
    script, examples = told
    run = Run(Story(script, {}, frozenset()), size, REVISED)
    run.play(steps)
    found = Counter(revised(row) for row in rows(run.on, "examples"))
    copies = Counter(revised(row) for each in run.zombies for row in b.decode(each.value).to_pylist())
    assert set(found) == examples
    assert all(count - copies[each] <= 1 for each, count in found.items())


def revised(row: dict[str, object]) -> tuple[object, ...]:
    return row["_event_id"], row["_revision"], row["_label"], row["_correction"]


def test_a_run_in_which_somebody_died_last_has_not_come_to_rest() -> None:
    script = ((1000, Place("events", 0), event(1, 1000), b""), (2000, Place("labels", 0), label(1, 2000), b""))
    story = Story(script, {"o1": 1}, frozenset())
    run = Run(story, size=1)
    run.outside(len(script))
    dying = run.processes["features"]
    dying.fuse = 1
    run.play([("ingestion", 3), ("features", 1), ("serving", 1)])
    assert not dying.alive
    assert run.processes["features"].alive
    holds(run.on, story)


def handled_alone(on: MemoryBroker, topic: str) -> list[Outgoing]:
    """What a features says that restores, reads the whole of one input, and dies before it publishes."""
    handler, log = Features(SPEC, P, Metrics()), MemoryLog(on, "nobody")
    out: list[Outgoing] = []
    for partition in range(P):
        handler.restore(Place(topic, partition), log)
        polled = Polled(topic, partition, [m for m in on.log(Place(topic, partition)) if m is not None])
        out += [each for said in handler.handle([polled]) for each in said]
    return out


def land(on: MemoryBroker, outgoing: Sequence[Outgoing]) -> None:
    for each in outgoing:
        on.append(Place(each.topic, each.partition), each.value or b"", each.key, each.headers)


def test_a_pair_that_two_owners_saw_half_of_each_is_said_at_the_next_restart_even_if_nothing_moves() -> None:
    on = broker()
    on.append(Place("events", 0), event(1, 1000))
    on.append(Place("labels", 0), label(1, 2000))
    drain(Process(on, "ingestion"))
    land(on, handled_alone(on, "records"))
    drain(Process(on, "serving"))
    land(on, [*handled_alone(on, "scored"), *handled_alone(on, "outcomes")])
    assert rows(on, "examples") == []
    for _ in range(2):
        features = Process(on, "features")
        features.step()
        assert [row["_event_id"] for row in rows(on, "examples")] == ["o1"]
        features.kill()


def test_the_last_message_may_be_a_zombies_that_had_seen_less() -> None:
    on = broker()
    group = everybody(on)
    for n in range(12):
        on.append(Place("events", 0), event(n, 1000 * n))
        on.append(Place("labels", 0), label(n, 1000 * n))
        drain(*group)
    on.clock.advance(2)
    drain(*group)
    group[1].kill()
    for partition in range(P):
        message = on.log(Place("examples", partition))[0]
        assert message is not None
        on.append(Place("examples", partition), message.value or b"", None, message.headers)
    ends = [len(on.log(Place("examples", p))) for p in range(P)]
    again = Process(on, "features")
    drain(again)
    assert again.alive
    assert [len(on.log(Place("examples", p))) for p in range(P)] == ends


@pytest.mark.parametrize("fuse", [1, 2, 5])
def test_a_crash_between_the_pieces_of_a_result_loses_and_repeats_nothing(fuse: int) -> None:
    on = broker()
    ingestion, features, serving = everybody(on, max_messages=50_000)
    for n in range(20_000):
        on.append(Place("events", n % 2), event(n, n))
    drain(ingestion, features, serving)
    for n in range(20_000):
        on.append(Place("labels", 0), label(n, n))
    drain(ingestion)
    features.fuse = fuse
    drain(features)
    assert not features.alive
    assert 0 < len(rows(on, "examples")) < 20_000
    drain(Process(on, "features", 50_000))
    found = [row["_event_id"] for row in rows(on, "examples")]
    assert len(found) == len(set(found)) == 20_000


def test_a_commit_beyond_what_the_examples_cover_stops_the_service() -> None:
    on = broker()
    group = everybody(on)
    on.append(Place("events", 0), event(1, 1000))
    rest(*group)
    group[1].kill()
    partition = next(p for p, _, _ in messages(on, "examples"))
    on.groups["features"].committed[Place("scored", partition)] = 99
    with pytest.raises(HoleFound, match="committed up to offset 98"):
        Process(on, "features", 50).step()


@pytest.mark.parametrize("every", [900, 2_500, 10_000])
def test_a_restart_reads_back_by_the_horizon_and_not_the_whole_log(every: int) -> None:
    on = broker()
    group = everybody(on)
    for n in range(300):
        on.append(Place("events", n % 2), event(n, every * n))
        if n % 3:
            on.append(Place("labels", 0), label(n, every * n + every // 2))
        rest(*group)
    read: list[int] = []

    class Counting(MemoryLog):
        def read(self, place: Place, start: int, stop: int) -> Iterator[Message]:
            for message in super().read(place, start, stop):
                read.append(message.offset)
                yield message

    joiner = Joiner(SPEC, 0, group[1].handler._computation.schema, P)  # type: ignore[attr-defined]
    assert joiner.restore(Counting(on, "nobody")) == []
    living = group[1].handler._joiners[0]  # type: ignore[attr-defined]
    assert 0 < living.waiting[0] <= joiner.waiting[0] <= living.waiting[0] + 4
    if every == 10_000:
        assert len(read) < 300 < len(on.log(Place("examples", 0))) + len(on.log(Place("scored", 0)))
    assert joiner._fold.through() == living._fold.through()
