"""The carrier in memory: deterministic, co-partitioned, and as strict about ownership as a broker."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import DeliveryFailed, WrongSetup
from runtime.memory import MemoryBroker, MemoryCarrier, MemoryLog, VirtualClock
from runtime.ports import Outgoing, Place, Poll

A, B = Place("a", 0), Place("b", 0)


def carrier(broker: MemoryBroker, *topics: str, group: str = "g", max_messages: int = 500) -> MemoryCarrier:
    made = MemoryCarrier(broker, group, max_messages=max_messages)
    made.subscribe(topics)
    return made


def offsets(poll: Poll) -> list[tuple[str, int, list[int]]]:
    return [(topic, partition, [each.offset for each in messages]) for topic, partition, messages in poll.polled]


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 4))
def test_every_partition_has_one_owner_who_owns_it_of_all_topics(left: int, right: int, members: int) -> None:
    broker = MemoryBroker({"a": left, "b": right})
    owned = [carrier(broker, "a", "b") for _ in range(members)]
    places = [place for each in owned for place in each.target]
    assert len(places) == len(set(places)) == left + right
    if left == right:
        for each in owned:
            assert {p for topic, p in each.target if topic == "a"} == {p for topic, p in each.target if topic == "b"}


def test_a_gained_partition_begins_at_the_commit_and_a_lost_one_brings_nothing() -> None:
    broker = MemoryBroker({"a": 2})
    for number in range(4):
        broker.append(Place("a", number % 2), b"%d" % number)
    first = carrier(broker, "a")
    assert offsets(first.poll(0)) == [("a", 0, [0, 1]), ("a", 1, [0, 1])]
    first.commit({Place("a", 0): 2, Place("a", 1): 1})
    second = carrier(broker, "a")
    poll = second.poll(0)
    assert poll.gained == {Place("a", 1)}
    assert offsets(poll) == [("a", 1, [1])]
    broker.append(Place("a", 1), b"4")
    poll = first.poll(0)
    assert poll == Poll(frozenset({Place("a", 1)}), frozenset(), [])


def test_a_commit_of_a_partition_that_is_no_longer_owned_is_left_out() -> None:
    broker = MemoryBroker({"a": 1})
    broker.append(A, b"0")
    first = carrier(broker, "a")
    first.poll(0)
    broker.leave("g", first)
    first.commit({A: 1})
    assert MemoryLog(broker, "g").committed(A) is None


def test_a_member_that_crashed_leaves_its_messages_to_the_next_one() -> None:
    broker = MemoryBroker({"a": 1})
    broker.append(A, b"0")
    first = carrier(broker, "a")
    assert first.poll(0).polled
    broker.leave("g", first)
    assert offsets(carrier(broker, "a").poll(0)) == [("a", 0, [0])]


def test_groups_do_not_know_of_each_other() -> None:
    broker = MemoryBroker({"a": 1})
    broker.append(A, b"0")
    for group in ("g", "h"):
        assert offsets(carrier(broker, "a", group=group).poll(0)) == [("a", 0, [0])]


def test_what_is_followed_comes_first_and_needs_no_group() -> None:
    broker = MemoryBroker({"a": 1, "b": 1})
    for number in range(3):
        broker.append(A, b"%d" % number)
        broker.append(B, b"%d" % number)
    member = carrier(broker, "a")
    member.follow({B: 1})
    assert offsets(member.poll(0)) == [("b", 0, [1, 2]), ("a", 0, [0, 1, 2])]
    assert member.following() == {B: 3}
    member.follow({})
    broker.append(B, b"3")
    assert offsets(member.poll(0)) == []


def test_a_poll_is_bounded_and_offsets_without_a_message_use_their_place() -> None:
    broker = MemoryBroker({"a": 1})
    broker.append(A, b"0")
    broker.skip(A)
    broker.append(A, b"2")
    member = carrier(broker, "a", max_messages=2)
    assert offsets(member.poll(0)) == [("a", 0, [0])]
    assert offsets(member.poll(0)) == [("a", 0, [2])]
    assert [each.offset for each in MemoryLog(broker, "g").read(A, 0, 3)] == [0, 2]


def test_a_crash_on_publish_leaves_the_messages_before_it() -> None:
    broker = MemoryBroker({"a": 1})

    def crash(outgoing: Outgoing) -> None:
        if outgoing.value == b"1":
            raise KeyboardInterrupt

    member = MemoryCarrier(broker, "g", on_publish=crash)
    with pytest.raises(KeyboardInterrupt):
        member.publish([Outgoing("a", 0, b"%d" % number) for number in range(3)])
    assert [each.value for each in MemoryLog(broker, "g").read(A, 0, 9)] == [b"0"]


def test_a_closed_carrier_publishes_nothing() -> None:
    broker = MemoryBroker({"a": 1})
    member = carrier(broker, "a")
    member.close()
    with pytest.raises(DeliveryFailed):
        member.publish([Outgoing("a", 0, b"")])


def test_messages_carry_the_virtual_time_of_their_writing() -> None:
    clock = VirtualClock(1_000)
    broker = MemoryBroker({"a": 1}, clock)
    broker.append(A, b"0")
    clock.sleep(2.5)
    broker.append(A, b"1")
    assert [each.timestamp for each in MemoryLog(broker, "g").read(A, 0, 2)] == [1_000, 3_500]
    assert clock.monotonic() == 2.5


def test_topics_and_partitions_that_do_not_exist_are_named() -> None:
    broker = MemoryBroker({"a": 1})
    with pytest.raises(WrongSetup, match="'b'"):
        MemoryLog(broker, "g").partitions("b")
    with pytest.raises(WrongSetup, match="partition 3 of topic 'a'"):
        MemoryLog(broker, "g").end(Place("a", 3))
