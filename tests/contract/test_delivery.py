"""What a carrier and the worker promise about every message: in order, confirmed before committed, never lost."""

from __future__ import annotations

import pytest

from runtime.ports import Place
from tests.contract.rig import KILLED, Rig
from tests.contract.rows import covered, record, rows_in, rows_seen

RECORDS, FEATURES = Place("records", 0), Place("features", 0)
LETTERS = Place("dead-letters", 0)


def feed(rig: Rig, place: Place, first: int, count: int) -> None:
    """One row per message, position = `first` and up, source = the partition."""
    for position in range(first, first + count):
        after = position - 1 if position else None
        rig.append(place, *record(place.partition, [position], after=after))


def committed(rig: Rig, place: Place = RECORDS) -> int:
    return rig.log().committed(place) or 0


def expected(source: int, count: int) -> list[tuple[int, int]]:
    return [(source, position) for position in range(count)]


def test_messages_of_a_partition_arrive_in_order_and_all_of_them(rig: Rig) -> None:
    rig.make({"records": 3, "features": 3})
    for partition in range(3):
        feed(rig, Place("records", partition), 0, 200)
    rig.start("relay")
    outputs = [Place("features", partition) for partition in range(3)]
    rig.until(lambda: all(len(rows_in(rig.read(each))) >= 200 for each in outputs), "600 rows relayed")
    for each in outputs:
        assert rows_in(rig.read(each)) == expected(each.partition, 200)


def test_key_value_and_headers_arrive_as_they_were_written(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1, "dead-letters": 2})
    written = [(b"a", b"1"), (b"", None), (None, None), (b"\x00\xff", b"")]
    for value, key in written:
        rig.append(RECORDS, value, [("trace", b"\x01\x02"), ("empty", b"")], key)
    rig.start("relay")
    rig.until(lambda: len(rig.read(LETTERS)) >= len(written), "four dead letters")
    letters = rig.read(LETTERS)
    assert [each.value for each in letters] == [value for value, _ in written]
    assert [each.key or None for each in letters] == [key or None for _, key in written]
    assert all(list(each.headers)[:2] == [("trace", b"\x01\x02"), ("empty", b"")] for each in letters)


def test_a_header_without_a_value_is_an_empty_one_of_the_dead_letter(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1, "dead-letters": 1})
    rig.append(RECORDS, b"no batch", [("null", None)])  # type: ignore[list-item]  # Kafka allows it
    rig.start("relay")
    rig.until(lambda: rig.read(LETTERS), "the dead letter")
    assert next(iter(rig.read(LETTERS)[0].headers)) == ("null", b"")


def test_nothing_is_committed_before_it_is_delivered(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1})
    feed(rig, RECORDS, 0, 300)
    rig.start("relay")

    def committed_is_covered() -> bool:
        offset = committed(rig)  # first the commit, then the output: never the other way round
        assert offset - 1 <= covered("records", rig.read(FEATURES))
        return offset == 300

    rig.until(committed_is_covered, "300 messages committed")


def test_a_poison_message_becomes_a_dead_letter_with_its_bytes_and_the_rest_goes_on(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1, "dead-letters": 1})
    feed(rig, RECORDS, 0, 5)
    rig.append(RECORDS, b"\x80 no batch", [("who", b"me")], b"key")
    feed(rig, RECORDS, 5, 5)
    rig.start("relay")
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 10, "the rest relayed")
    (letter,) = rig.read(LETTERS)
    headers = dict(letter.headers)
    assert (letter.value, letter.key, headers["who"]) == (b"\x80 no batch", b"key", b"me")
    assert headers["headrace-topic"] == b"records"
    assert headers["headrace-offset"] == b"5"
    assert headers["headrace-reason"] == b"undecodable_batch"
    assert rows_in(rig.read(FEATURES)) == expected(0, 10)


def test_a_poison_message_at_the_end_does_not_stop_the_next_start(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1, "dead-letters": 1})
    feed(rig, RECORDS, 0, 3)
    rig.append(RECORDS, b"no batch")
    first = rig.start("relay")
    rig.until(lambda: rig.read(LETTERS), "the dead letter")
    assert first.drain().code == 0
    rig.start("relay")
    feed(rig, RECORDS, 3, 3)
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 6, "the rest relayed by the next one")
    assert rows_in(rig.read(FEATURES)) == expected(0, 6)
    assert {dict(each.headers)["headrace-offset"] for each in rig.read(LETTERS)} == {b"3"}


def test_a_crash_between_the_pieces_of_a_batch_loses_and_repeats_nothing(rig: Rig) -> None:
    rig.make({"records": 1, "features": 1})
    feed(rig, RECORDS, 0, 2)
    rig.append(RECORDS, *record(0, range(2, 9002), after=1))
    crashing = rig.start("relay", crash_topic="features", crash_after=3)
    rig.until(crashing.ended, "the crash")
    assert crashing.ended() == KILLED
    assert 2 < len(rows_in(rig.read(FEATURES))) < 9002
    assert committed(rig) <= 2
    rig.start("relay")
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 9002, "the rest relayed by the next one")
    assert rows_in(rig.read(FEATURES)) == expected(0, 9002)
    assert rows_seen("features", rig.read(FEATURES)) == expected(0, 9002)


def test_a_message_that_the_log_refuses_ends_the_worker_and_nothing_is_committed(
    rig: Rig, request: pytest.FixtureRequest
) -> None:
    if rig.name == "memory":
        request.applymarker(pytest.mark.xfail(reason="memory takes messages of any size", strict=True))
    rig.make({"records": 1, "features": 1})
    feed(rig, RECORDS, 0, 3)
    relay = rig.start("relay", inflate=True)
    rig.until(relay.ended, "the worker's end")
    ending = relay.ended()
    assert ending is not None
    assert (ending.code, ending.error) == (1, "DeliveryFailed")
    assert "features/0" in ending.text
    assert committed(rig) == 0


def test_a_drained_worker_has_committed_all_that_it_did(rig: Rig) -> None:
    rig.make({"records": 2, "features": 2})
    feed(rig, RECORDS, 0, 20)
    relay = rig.start("relay")
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 20, "20 rows relayed")
    assert relay.drain().code == 0
    assert committed(rig) == 20
    rig.start("relay")
    feed(rig, RECORDS, 20, 1)
    rig.until(lambda: len(rows_in(rig.read(FEATURES))) >= 21, "a next one goes on at once")
    assert rows_in(rig.read(FEATURES)) == expected(0, 21)


def test_a_missing_topic_is_named_with_the_mend(rig: Rig) -> None:
    rig.make({"features": 1})
    relay = rig.start("relay")
    rig.until(relay.ended, "the worker's end")
    ending = relay.ended()
    assert ending is not None
    assert (ending.code, ending.error) == (1, "WrongSetup")
    assert "records" in ending.text
