"""The worker: three fates, commit behind delivery, rebalances in order, leases, leaders that catch up first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pytest

from runtime.errors import DeliveryFailed, HoleFound, InvalidMessage, LeaseLost, Transient
from runtime.lease import Lease
from runtime.memory import MemoryBroker, MemoryCarrier, MemoryLog, VirtualClock
from runtime.ports import LogReader, Outgoing, Place, Poll, Polled, Stored
from runtime.progress import LOOK_SECONDS, STUCK_SECONDS
from runtime.pulse import LIVE_SECONDS, READY_SECONDS
from runtime.worker import BACK_OFF_SECONDS, Worker

A, OUT, LETTERS = Place("a", 0), Place("out", 0), Place("dead-letters", 0)


class Script:
    """A carrier whose polls are written down; it notes what it is told."""

    def __init__(self, polls: Sequence[Poll], log: LogReader) -> None:
        self.log, self._polls = log, list(polls)
        self.told: list[tuple[str, object]] = []
        self.followed: dict[Place, int] = {}
        self.read: dict[Place, int] = {}
        self.refuse = False
        self.confirming: Callable[[], None] = lambda: None

    def subscribe(self, topics: Sequence[str]) -> None:
        self.told.append(("subscribe", tuple(topics)))

    def follow(self, positions: Mapping[Place, int]) -> None:
        self.followed = dict(positions)
        self.told.append(("follow", dict(positions)))

    def following(self) -> Mapping[Place, int]:
        return self.followed

    def poll(self, timeout: float) -> Poll:  # noqa: ARG002 - the port's signature
        poll = self._polls.pop(0) if self._polls else poll_of()
        for run in poll.polled:
            if Place(run.topic, run.partition) in self.followed:
                self.followed[Place(run.topic, run.partition)] = run.messages[-1].offset + 1
        return poll

    def positions(self) -> Mapping[Place, int]:
        return self.read

    def ends(self, places: Sequence[Place]) -> Mapping[Place, int]:
        return {place: self.log.end(place) for place in places}

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        self.told.append(("publish", [each.value for each in outgoing]))

    def confirm(self) -> None:
        if self.refuse:
            raise DeliveryFailed("refused")
        self.confirming()
        self.told.append(("confirm", None))

    def commit(self, positions: Mapping[Place, int], *, wait: bool = False) -> None:
        self.told.append(("commit wait" if wait else "commit", dict(positions)))

    def close(self) -> None:
        self.told.append(("close", None))

    def of(self, what: str) -> list[object]:
        return [value for name, value in self.told if name == what]


class Echo:
    """Publishes each message; `trouble` is asked first."""

    follows: tuple[str, ...] = ()

    def __init__(self, *, leads: bool = False, trouble: Callable[[Sequence[Polled]], None] | None = None) -> None:
        self.inputs, self.leads = ("a",), leads
        self.follows = ("f",) if leads else ()
        self._trouble = trouble or (lambda polled: None)  # noqa: ARG005 - what a handler's trouble is told
        self.story: list[object] = []

    def restore(self, place: Place, log: LogReader) -> Iterable[Outgoing]:  # noqa: ARG002 - the port's signature
        self.story.append(("restore", place))
        return [Outgoing("out", 0, b"owed")] if place.partition == 9 else []

    def follow(self, log: LogReader) -> Mapping[Place, int]:  # noqa: ARG002 - the port's signature
        self.story.append("follow")
        return {Place("f", 0): 0}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        self._trouble(polled)
        for run in polled:
            self.story.append((run.topic, [each.offset for each in run.messages]))
            yield [Outgoing("out", run.partition, each.value) for each in run.messages]

    def tick(self, now: int) -> Sequence[Outgoing]:
        self.story.append(("tick", now))
        return [Outgoing("out", 0, b"tick")]

    def forget(self, place: Place) -> None:
        self.story.append(("forget", place))


def poll_of(*runs: tuple[str, int, list[int]], lost: Iterable[Place] = (), gained: Iterable[Place] = ()) -> Poll:
    polled = [
        Polled(topic, partition, [Stored(offset, 0, b"k", b"%d" % offset) for offset in found])
        for topic, partition, found in runs
    ]
    return Poll(frozenset(lost), frozenset(gained), polled)


class World:
    """A worker with a scripted carrier, in virtual time."""

    def __init__(
        self, handler: Echo, *polls: Poll, lease: float | None = None, followed: int = 0, overlap: bool = False
    ) -> None:
        self.clock = VirtualClock()
        self.broker = MemoryBroker({"a": 2, "f": 1, "out": 1, "dead-letters": 1}, self.clock)
        for _ in range(followed):
            self.broker.append(Place("f", 0), b"f")
        self.carrier = Script(polls, MemoryLog(self.broker, "g"))
        held = None if lease is None else Lease(self.clock, lease)
        self.worker = Worker(handler, self.carrier, pipeline="p", clock=self.clock, lease=held, overlap=overlap)

    def run(self, steps: int) -> None:
        self.worker.start()
        for _ in range(steps):
            self.worker.step()


def test_a_commit_says_what_was_confirmed_and_comes_once_a_second() -> None:
    world = World(Echo(), poll_of(("a", 0, [0, 1]), gained=[A]), poll_of(("a", 0, [2])))
    world.run(1)
    assert world.carrier.of("commit") == []
    world.clock.advance(1)
    world.worker.step()
    assert world.carrier.told[-3:] == [("publish", [b"tick"]), ("confirm", None), ("commit", {A: 3})]


def test_nothing_is_committed_when_a_message_is_refused_by_the_log() -> None:
    world = World(Echo(), poll_of(("a", 0, [0]), gained=[A]))
    world.carrier.refuse = True
    with pytest.raises(DeliveryFailed):
        world.worker.run()
    assert world.carrier.of("commit") + world.carrier.of("commit wait") == []
    assert world.carrier.told[-1] == ("close", None)


def test_who_overlaps_confirms_before_the_next_list_and_before_every_commit() -> None:
    world = World(Echo(), poll_of(("a", 0, [0]), gained=[A]), poll_of(("a", 0, [1])), overlap=True)
    world.run(1)
    assert world.carrier.told[-1] == ("publish", [b"0"])
    world.clock.advance(1)
    world.worker.step()
    told = world.carrier.told[-6:]
    assert told[:3] == [("publish", [b"0"]), ("confirm", None), ("publish", [b"1"])]
    assert told[3:] == [("publish", [b"tick"]), ("confirm", None), ("commit", {A: 2})]


def test_who_overlaps_commits_nothing_that_the_log_refused() -> None:
    world = World(Echo(), poll_of(("a", 0, [0]), gained=[A]), overlap=True)
    world.run(1)
    world.carrier.refuse = True
    world.clock.advance(1)
    with pytest.raises(DeliveryFailed):
        world.worker.step()
    assert world.carrier.of("commit") == []


def test_a_transient_error_is_retried_in_place_with_growing_pauses() -> None:
    failures = iter([True] * 7 + [False])

    def away(polled: Sequence[Polled]) -> None:  # noqa: ARG001 - what a handler's trouble is told
        if next(failures):
            raise Transient("away")

    world = World(Echo(trouble=away), poll_of(("a", 0, [0]), gained=[A]))
    world.run(1)
    pauses = [*BACK_OFF_SECONDS, BACK_OFF_SECONDS[-1], BACK_OFF_SECONDS[-1]]
    assert world.clock.monotonic() == pytest.approx(sum(pauses))
    assert world.carrier.of("publish")[0] == [b"0"]


def test_a_worker_that_shall_stop_does_not_wait_for_the_world_to_come_back() -> None:
    def away(polled: Sequence[Polled]) -> None:  # noqa: ARG001 - what a handler's trouble is told
        world.worker.stop()
        raise Transient("away")

    world = World(Echo(trouble=away), poll_of(("a", 0, [0]), gained=[A]))
    with pytest.raises(Transient):
        world.worker.run()


def test_an_invalid_message_is_a_dead_letter_and_the_others_are_handled_without_it() -> None:
    def poison(polled: Sequence[Polled]) -> None:
        for run in polled:
            for each in run.messages:
                if each.offset == 1:
                    raise InvalidMessage("a", 0, 1, "no_json", "not JSON", "$.x")

    handler = Echo(trouble=poison)
    world = World(handler, poll_of(("a", 0, [0, 1, 2]), gained=[A]))
    world.run(1)
    assert world.carrier.of("publish") == [[b"1"], [b"0", b"2"]]
    assert ("a", [0, 2]) in handler.story


@pytest.mark.parametrize(("offsets", "committed"), [([0, 1], {A: 1}), ([1], None)], ids=["behind others", "alone"])
def test_a_refused_message_at_the_end_is_not_committed(offsets: list[int], committed: dict[Place, int] | None) -> None:
    def poison(polled: Sequence[Polled]) -> None:
        if any(each.offset == 1 for run in polled for each in run.messages):
            raise InvalidMessage("a", 0, 1, "no_json", "not JSON")

    world = World(Echo(trouble=poison), poll_of(("a", 0, offsets), gained=[A]))
    world.run(1)
    world.clock.advance(1)
    world.worker.step()
    assert world.carrier.of("commit") == ([committed] if committed else [])


def test_an_invalid_message_that_was_never_polled_is_a_crash() -> None:
    def strange(polled: Sequence[Polled]) -> None:  # noqa: ARG001 - what a handler's trouble is told
        raise InvalidMessage("a", 0, 99, "no_json", "not JSON")

    with pytest.raises(InvalidMessage):
        World(Echo(trouble=strange), poll_of(("a", 0, [0]), gained=[A])).run(1)


def test_any_other_error_leaves_and_the_carrier_is_closed() -> None:
    def broken(polled: Sequence[Polled]) -> None:  # noqa: ARG001 - what a handler's trouble is told
        raise HoleFound("a hole")

    world = World(Echo(trouble=broken), poll_of(("a", 0, [0]), gained=[A]))
    with pytest.raises(HoleFound):
        world.worker.run()
    assert world.carrier.told[-1] == ("close", None)
    assert world.carrier.of("commit wait") == []


def test_lost_is_forgotten_before_gained_is_restored_before_messages_are_handled() -> None:
    handler, nine = Echo(), Place("a", 9)
    world = World(handler, poll_of(gained=[A]), poll_of(("a", 9, [5]), lost=[A], gained=[nine]))
    world.run(2)
    assert handler.story[1:] == [("forget", A), ("restore", nine), ("a", [5])]
    assert world.carrier.of("publish") == [[b"owed"], [b"5"]]
    assert world.worker.owned == {nine}


def test_a_lost_partition_is_not_committed_any_more() -> None:
    world = World(Echo(), poll_of(("a", 0, [0]), gained=[A]), poll_of(lost=[A]))
    world.run(2)
    world.clock.advance(1)
    world.worker.step()
    assert world.carrier.of("commit") == []


def test_stop_commits_and_waits_for_the_answer_before_it_closes() -> None:
    handler = Echo(trouble=lambda polled: world.worker.stop())  # noqa: ARG005 - what a handler's trouble is told
    world = World(handler, poll_of(("a", 0, [0]), gained=[A]))
    world.worker.run()
    assert world.carrier.told[-2:] == [("commit wait", {A: 1}), ("close", None)]


def test_time_ticks_about_once_a_second() -> None:
    handler = Echo()
    world = World(handler)
    world.worker.start()
    for _ in range(8):
        world.clock.advance(0.3)
        world.worker.step()
    assert [each for each in handler.story if each[0] == "tick"] == [("tick", 1200), ("tick", 2400)]  # type: ignore[index]


def test_a_step_that_stood_still_publishes_nothing() -> None:
    handler = Echo(trouble=lambda polled: world.clock.advance(4.1))  # noqa: ARG005 - what a handler's trouble is told
    world = World(handler, poll_of(("a", 0, [0]), gained=[A]), lease=4)
    with pytest.raises(LeaseLost, match=r"stood still for 4.1 s"):
        world.run(1)
    assert world.carrier.of("publish") == []


def test_a_long_step_is_no_stand_still_while_its_thread_beats() -> None:
    def fit(polled: Sequence[Polled]) -> None:  # noqa: ARG001 - what a handler's trouble is told
        for _ in range(60):
            world.clock.advance(1)
            world.worker.beat()

    world = World(Echo(trouble=fit), poll_of(("a", 0, [0]), gained=[A]), lease=4)
    world.run(1)
    assert world.carrier.of("publish")[0] == [b"0"]


def test_the_time_before_the_first_beat_does_not_count() -> None:
    clock = VirtualClock()
    lease = Lease(clock)
    clock.advance(60)
    lease.check()
    clock.advance(5)
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_worker_that_waits_for_the_log_is_live_but_not_ready() -> None:
    seen: list[tuple[bool, bool]] = []

    def wait() -> None:
        world.clock.advance(10 * LIVE_SECONDS)
        seen.append((world.worker.live, world.worker.ready))

    world = World(Echo(), poll_of(gained=[A]), poll_of(("a", 0, [0])))
    world.run(1)
    world.carrier.confirming = wait
    world.worker.step()
    assert seen[0] == (True, False)
    assert (world.worker.live, world.worker.ready) == (True, True)


def test_a_worker_that_waits_for_the_world_to_come_back_is_live_but_not_ready() -> None:
    failures = iter([True] * 100 + [False])
    seen: list[tuple[bool, bool]] = []

    def away(polled: Sequence[Polled]) -> None:  # noqa: ARG001 - what a handler's trouble is told
        seen.append((world.worker.live, world.worker.ready))
        if next(failures):
            raise Transient("away")

    world = World(Echo(trouble=away), poll_of(("a", 0, [0]), gained=[A]))
    world.run(1)
    assert world.clock.monotonic() > LIVE_SECONDS
    assert {live for live, _ in seen} == {True}
    assert not seen[-1][1]


def test_a_worker_that_gets_nowhere_is_not_live() -> None:
    seen: list[bool] = []

    def hang(polled: Sequence[Polled]) -> None:  # noqa: ARG001 - what a handler's trouble is told
        world.clock.advance(LIVE_SECONDS)
        seen.append(world.worker.live)

    world = World(Echo(trouble=hang), poll_of(("a", 0, [0]), gained=[A]))
    world.run(1)
    assert seen == [False]


def test_every_restored_place_and_every_published_list_is_progress() -> None:
    class Laborious(Echo):
        def restore(self, place: Place, log: LogReader) -> Iterable[Outgoing]:
            world.clock.advance(LIVE_SECONDS * 0.9)
            live.append(world.worker.live)
            return super().restore(place, log)

        def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
            for outgoing in super().handle(polled):
                world.clock.advance(LIVE_SECONDS * 0.9)
                live.append(world.worker.live)
                yield outgoing

    live: list[bool] = []
    places = [A, Place("a", 1)]
    world = World(Laborious(), poll_of(("a", 0, [0]), ("a", 1, [0]), gained=places))
    world.run(1)
    assert live == [True] * 4


def test_who_has_joined_is_ready_even_without_a_partition_and_only_while_it_steps() -> None:
    world = World(Echo(), poll_of(), poll_of()._replace(joined=True))
    world.run(1)
    assert not world.worker.ready
    world.worker.step()
    assert world.worker.ready
    world.clock.advance(READY_SECONDS)
    assert not world.worker.ready


def test_who_has_not_caught_up_with_what_it_follows_is_not_ready() -> None:
    ready: list[bool] = []
    handler = Echo(leads=True, trouble=lambda polled: ready.append(world.worker.ready))  # noqa: ARG005
    world = World(handler, poll_of(gained=[A]), poll_of(("f", 0, [0])), poll_of(("f", 0, [1])), followed=2)
    world.run(1)
    assert ready == [False, False]
    assert world.worker.ready


def test_a_broker_that_is_away_for_a_moment_hinders_nobody_from_joining() -> None:
    class Away(Script):
        def subscribe(self, topics: Sequence[str]) -> None:
            super().subscribe(topics)
            if len(self.of("subscribe")) < 3:
                raise Transient("away")

    world = World(Echo(), poll_of(("a", 0, [0]), gained=[A]))
    world.carrier.__class__ = Away
    world.run(1)
    assert len(world.carrier.of("subscribe")) == 3
    assert world.carrier.of("publish") == [[b"0"]]


def test_a_leader_handles_all_that_it_follows_before_the_first_wish() -> None:
    handler = Echo(leads=True)
    polls = [poll_of(("a", 0, [0]), gained=[A]), poll_of(("a", 0, [1]), ("f", 0, [0, 1])), poll_of(("f", 0, [2]))]
    world = World(handler, *polls, followed=3)
    world.run(1)
    assert handler.story == [("restore", A), "follow", ("f", [0, 1]), ("f", [2]), ("a", [0]), ("a", [1])]


def test_a_leader_that_is_deposed_while_it_catches_up_drops_what_it_polled() -> None:
    handler = Echo(leads=True)
    polls = [poll_of(("a", 0, [0]), gained=[A]), poll_of(("f", 0, [0]), lost=[A]), poll_of()]
    world = World(handler, *polls, followed=3)
    world.run(2)
    assert handler.story == [("restore", A), "follow", ("forget", A)]
    assert world.carrier.followed == {}


def test_a_leader_that_gets_its_seat_back_follows_anew() -> None:
    handler = Echo(leads=True)
    polls = [
        poll_of(gained=[A]),
        poll_of(("a", 0, [0]), ("f", 0, [0])),
        poll_of(("a", 0, [0]), ("f", 0, [1]), lost=[A], gained=[A]),
        poll_of(("f", 0, [0, 1, 2])),
    ]
    world = World(handler, *polls, followed=3)
    world.run(1)
    assert handler.story == [
        ("restore", A), "follow", ("f", [0]), ("forget", A), ("restore", A), "follow", ("f", [0, 1, 2]), ("a", [0]),
    ]  # fmt: skip


def test_who_does_not_lead_follows_from_the_start_and_joins_then() -> None:
    handler = Echo()
    handler.follows = ("f",)
    world = World(handler, poll_of(("f", 0, [0, 1])), followed=2)
    world.worker.start()
    assert handler.story == ["follow", ("f", [0, 1])]
    assert [name for name, _ in world.carrier.told if name in ("follow", "subscribe")] == ["follow", "subscribe"]


def test_a_worker_on_memory_relays_in_order() -> None:
    broker = MemoryBroker({"a": 1, "out": 1, "dead-letters": 1})
    for number in range(5):
        broker.append(A, b"%d" % number)
    worker = Worker(Echo(), MemoryCarrier(broker, "g", max_messages=2), clock=broker.clock)
    worker.start()
    while worker.step():
        assert worker.ready
    assert [each.value for each in MemoryLog(broker, "g").read(OUT, 0, 9)] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_stuck_partition_takes_the_readiness_away_until_it_moves_and_is_no_reason_to_be_restarted() -> None:
    world = World(Echo(), poll_of(gained=[A]))
    world.carrier.read = {A: 0}
    world.run(1)
    world.broker.append(A, b"x")
    for _ in range(int(STUCK_SECONDS / LOOK_SECONDS) + 1):
        assert world.worker.ready
        world.clock.advance(LOOK_SECONDS)
        world.worker.step()
    assert (world.worker.ready, world.worker.live) == (False, True)
    assert world.worker.stuck == ["a/0 stands at 0, the log ends at 1"]
    world.carrier.read = {A: 1}
    world.clock.advance(LOOK_SECONDS)
    world.worker.step()
    assert (world.worker.ready, world.worker.stuck) == (True, [])
