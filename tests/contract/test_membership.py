"""Who owns what: joining, leaving, freezing, following, leading."""

from __future__ import annotations

from runtime.ports import Place
from schemas import batch as b
from tests.contract.rig import Member, Rig
from tests.contract.rows import record, rows_in, rows_seen
from tests.contract.test_delivery import FEATURES, RECORDS, expected, feed

TAKEOVER_SECONDS = 60


def places(member: Member, event: str) -> set[Place]:
    return {Place(each["topic"], each["partition"]) for each in member.said(event)}


def relayed(rig: Rig, partitions: int, count: int) -> bool:
    outputs = [Place("features", partition) for partition in range(partitions)]
    return all(len(rows_in(rig.read(each))) >= count for each in outputs)


def test_partitions_are_forgotten_by_the_old_owner_and_restored_by_the_new_one(rig: Rig) -> None:
    rig.make({"records": 4, "features": 4})
    everything = {Place("records", partition) for partition in range(4)}
    for place in everything:
        feed(rig, place, 0, 10)
    first = rig.start("relay")
    rig.until(lambda: relayed(rig, 4, 10), "all relayed by the first one")
    second = rig.start("relay")
    rig.until(lambda: places(second, "restored"), "the second one joins")
    taken = places(second, "restored")
    assert taken < everything
    rig.until(lambda: taken <= places(first, "forgotten"), "the first one forgets what it lost")
    for place in everything:
        feed(rig, place, 10, 10)
    rig.until(lambda: relayed(rig, 4, 20), "all relayed by both")
    assert second.drain().code == 0
    before = len(first.said("restored"))
    for place in everything:
        feed(rig, place, 20, 10)
    rig.until(lambda: relayed(rig, 4, 30), "all relayed by the first one again")
    regained = {Place(each["topic"], each["partition"]) for each in first.said("restored")[before:]}
    assert taken <= regained
    for partition in range(4):
        assert rows_seen("features", rig.read(Place("features", partition))) == expected(partition, 30)


def test_the_owner_of_a_partition_of_one_input_owns_it_of_all(rig: Rig) -> None:
    rig.make({"scored": 3, "outcomes": 3, "examples": 3})
    members = [rig.start("pair"), rig.start("pair")]
    rig.until(lambda: all(member.said("restored") for member in members), "both have partitions")
    for partition in range(3):
        for position in range(10):
            rig.append(Place("scored", partition), *record(0, [position]))
            rig.append(Place("outcomes", partition), *record(1, [position]))
    outputs = [Place("examples", partition) for partition in range(3)]
    rig.until(lambda: all(len(rows_in(rig.read(each))) >= 20 for each in outputs), "both inputs are joined")
    for each in outputs:
        assert sorted(rows_in(rig.read(each))) == expected(0, 10) + expected(1, 10)
    for member in members:
        restored = places(member, "restored")
        assert {p for topic, p in restored if topic == "scored"} == {p for topic, p in restored if topic == "outcomes"}


def test_several_inputs_restart_behind_what_the_output_covers_of_each(rig: Rig) -> None:
    rig.make({"scored": 1, "outcomes": 1, "examples": 1})
    for position in range(6):
        rig.append(Place("scored", 0), *record(0, [position]))
        rig.append(Place("outcomes", 0), *record(1, [position]))
    crashing = rig.start("pair", crash_topic="examples", crash_after=5)
    rig.until(crashing.ended, "the crash")
    rig.start("pair")
    output = Place("examples", 0)
    rig.until(lambda: len(rows_in(rig.read(output))) >= 12, "the rest by the next one")
    assert sorted(rows_in(rig.read(output))) == expected(0, 6) + expected(1, 6)


def test_a_frozen_worker_leaves_before_its_next_write(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1})
    feed(rig, RECORDS, 0, 5)
    frozen = rig.start("relay", freeze=5)
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 5, "five rows relayed")
    feed(rig, RECORDS, 5, 5)
    rig.until(frozen.frozen, "the freeze")
    rig.start("relay")
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 10, "the next one takes over", TAKEOVER_SECONDS)
    frozen.thaw()
    rig.until(frozen.ended, "the end of the one that was frozen")
    ending = frozen.ended()
    assert ending is not None
    assert (ending.code, ending.error) == (1, "LeaseLost")
    assert rows_in(rig.read(FEATURES)) == expected(0, 10)


def test_what_a_zombie_writes_without_a_lease_is_dropped_by_every_reader(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1})
    feed(rig, RECORDS, 0, 5)
    zombie = rig.start("relay", freeze=5, lease=False)
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 5, "five rows relayed")
    feed(rig, RECORDS, 5, 5)
    rig.until(zombie.frozen, "the freeze")
    successor = rig.start("relay")
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 10, "the next one takes over", TAKEOVER_SECONDS)
    zombie.thaw()
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) > 10, "the zombie's late write")
    assert zombie.drain().code == 0
    assert successor.drain().code == 0
    rig.start("relay")
    feed(rig, RECORDS, 10, 5)
    rig.until(lambda: (0, 14) in rows_in(rig.read(FEATURES)), "the next ones relayed")
    assert rows_seen("features", rig.read(FEATURES)) == expected(0, 15)


def test_what_is_followed_is_read_whole_before_any_input(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1, "models": 1})
    for _ in range(150):
        rig.append(Place("models", 0), b"{}")
    rig.marker(Place("models", 0))
    feed(rig, RECORDS, 0, 5)
    rig.start("follower")
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 5, "five rows relayed")
    assert known(rig) == {150}
    rig.append(Place("models", 0), b"{}")

    def later_one_is_followed() -> bool:
        position = len(rows_in(rig.read(FEATURES)))
        feed(rig, RECORDS, position, 1)
        rig.until(lambda: len(rows_in(rig.read(FEATURES))) > position, "one more row")
        return 151 in known(rig)

    rig.until(later_one_is_followed, "a message that came later is followed, too")


def known(rig: Rig) -> set[int]:
    return {b.decode_headers(message.headers).pool for message in rig.read(FEATURES)}


def decisions(rig: Rig) -> list[tuple[bytes | None, bytes | None]]:
    return [(message.value, message.key) for message in rig.read(Place("decisions", 0))]


def test_only_one_leads_and_another_takes_over_where_it_was(rig: Rig) -> None:
    rig.make({"operator": 1, "examples": 2, "decisions": 1, "state": 1})
    for number in range(5):
        rig.append(Place("examples", number % 2), b"%d" % number)
    rig.append(Place("operator", 0), b"retrain")
    members = [rig.start("leader"), rig.start("leader")]

    def leading() -> list[Member]:
        return [member for member in members if len(member.said("leading")) > len(member.said("deposed"))]

    rig.until(lambda: len(decisions(rig)) >= 5, "five decisions")
    (leader,) = leading()
    assert sorted(value for value, _ in decisions(rig)) == [b"0", b"1", b"2", b"3", b"4"]  # type: ignore[type-var]
    rig.until(lambda: [each for member in members for each in member.said("wished")], "the operator's wish")
    wished = [each for member in members for each in member.said("wished")]
    assert all(each["partitions"] == 2 for each in wished), "the wish came before what was followed"
    epochs = {each["epoch"] for each in leader.said("leading")}
    leader.kill()
    for number in range(5, 10):
        rig.append(Place("examples", number % 2), b"%d" % number)
    rig.until(lambda: len({value for value, _ in decisions(rig)}) >= 10, "ten decisions", TAKEOVER_SECONDS)
    assert sorted(int(value or b"") for value, _ in decisions(rig)) == list(range(10))
    (successor,) = (member for member in members if member is not leader)
    assert max(each["epoch"] for each in successor.said("leading")) > max(epochs)
