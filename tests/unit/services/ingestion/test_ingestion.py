"""Every valid row in its partition, every other one in dead letters, in a log without holes."""

import json
from collections.abc import Iterator
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import DeliveryFailed, WrongSetup
from runtime.fold import Fold
from runtime.memory import MemoryBroker, MemoryCarrier, MemoryLog, VirtualClock
from runtime.metrics import Metrics
from runtime.ports import Message, Outgoing, Place, Polled, Stored
from runtime.worker import Worker
from schemas import batch as b
from schemas.pipeline import Pipeline, parse
from services.ingestion.handler import PORTION_BYTES, Ingestion, portions

P, SOURCES = 3, 4
UNHEARD = dict.fromkeys(range(1, SOURCES), (b.UNHEARD, False))
"""What is told of the other sources when the first one speaks: they may be about to."""

ASLEEP = dict.fromkeys(range(1, SOURCES), (b.UNHEARD, True))

SPEC = """
pipeline: shop
task: binary
events:
  id: order
  time: at
  {entity}
  fields:
    at: {{type: timestamp}}
    who: {{type: text}}
    amount: {{type: number, min: 0}}
    note: {{type: text, nullable: true}}
labels: {{id: order, time: known, field: back, type: boolean, horizon: 1h}}
features: {{amount: amount}}
"""


def spec(entity: bool = True) -> Pipeline:
    return parse(SPEC.format(entity="entity: who" if entity else ""))


def broker(clock: VirtualClock | None = None) -> MemoryBroker:
    counts = {"events": SOURCES, "labels": SOURCES, "records": P, "outcomes": P, "dead-letters": P}
    return MemoryBroker(counts, clock)


def worker(on: MemoryBroker, pipeline: Pipeline | None = None, crash_at: int | None = None, **options: int) -> Worker:
    def crash(outgoing: Outgoing) -> None:
        nonlocal crash_at
        if crash_at is not None:
            crash_at -= 1
            if crash_at < 0:
                raise DeliveryFailed(f"crash before {outgoing.topic}")

    carrier = MemoryCarrier(on, "ingestion", on_publish=crash, **options)
    made = Worker(Ingestion(pipeline or spec(), P, Metrics()), carrier, clock=on.clock, overlap=True)
    made.start()
    made.carrier = carrier  # type: ignore[attr-defined]  # the tests crash it
    return made


def event(number: int, **changes: object) -> bytes:
    fields: dict[str, object] = {"order": f"o{number}", "at": 1000 * number, "who": f"w{number % 7}", "amount": 1.5}
    return json.dumps(fields | changes).encode()


def label(number: int, **changes: object) -> bytes:
    fields: dict[str, object] = {"order": f"o{number}", "who": f"w{number % 7}", "known": 1000 * number, "back": True}
    return json.dumps(fields | changes).encode()


def messages(on: MemoryBroker, topic: str) -> Iterator[tuple[int, Message, b.Headers]]:
    for partition in range(on.partitions(topic)):
        for message in on.log(Place(topic, partition)):
            assert message is not None
            yield partition, message, b.decode_headers(message.headers)


def rows(on: MemoryBroker, topic: str) -> list[dict[str, object]]:
    return [row for _, m, _ in messages(on, topic) for row in b.decode(m.value).to_pylist()]


def letters(on: MemoryBroker) -> list[dict[str, str | bytes | None]]:
    return [
        {name.removeprefix("headrace-"): value.decode() for name, value in message.headers} | {"value": message.value}
        for p in range(P)
        for message in on.log(Place("dead-letters", p))
        if message is not None
    ]


def drain(*workers: Worker) -> None:
    while sum(each.step() for each in workers):
        pass


def test_each_event_becomes_one_row_with_its_identity() -> None:
    on = broker()
    on.append(Place("events", 2), event(1, note="hello"))
    drain(worker(on))
    (row,) = rows(on, "records")
    assert (row["_source"], row["_position"], row["_row"]) == (2, 0, 0)
    assert (row["_event_id"], row["_entity"], row["amount"], row["note"]) == ("o1", "w1", 1.5, "hello")
    assert row["_time"].timestamp() == 1.0  # type: ignore[attr-defined]
    assert [name for name in row if not name.startswith("_")] == ["amount", "note"], "an identity is not sent twice"


def test_rows_go_to_the_partition_of_their_entity_whatever_the_producer_did() -> None:
    on = broker()
    for n in range(60):
        on.append(Place("events", n % SOURCES), event(n))
    drain(worker(on))
    for partition, message, _ in messages(on, "records"):
        for row in b.decode(message.value).to_pylist():
            assert crc32(row["_entity"].encode()) % P == partition


def test_without_an_entity_the_id_decides_and_a_label_follows_its_event() -> None:
    on = broker()
    pipeline = spec(entity=False)
    for n in range(40):
        on.append(Place("events", 0), event(n))
        fields = json.loads(label(n))
        del fields["who"]
        on.append(Place("labels", 1), json.dumps(fields).encode())
    drain(worker(on, pipeline))
    at = {
        t: {r["_event_id"]: p for p, m, _ in messages(on, t) for r in b.decode(m.value).to_pylist()}
        for t in ("records", "outcomes")
    }
    assert len(at["records"]) == 40
    assert at["records"] == at["outcomes"]


def test_an_event_without_id_and_time_is_named_by_its_place_and_timed_by_the_broker() -> None:
    clock = VirtualClock(5_000)
    on = broker(clock)
    text = SPEC.format(entity="").replace("  id: order\n  time: at\n", "").replace("known, field", "known, field")
    pipeline = parse(text.replace("time: known, ", ""))
    on.append(Place("events", 3), json.dumps({"at": 1, "who": "w", "amount": 1}).encode())
    drain(worker(on, pipeline))
    (row,) = rows(on, "records")
    assert row["_event_id"] == "shop.events.v1/3/0"
    assert row["_time"].timestamp() == 5.0  # type: ignore[attr-defined]


def test_a_label_is_the_index_of_its_class_and_carries_its_message() -> None:
    on = broker()
    on.append(Place("labels", 1), label(5), b"key")
    drain(worker(on))
    (row,) = rows(on, "outcomes")
    assert (row["_label"], row["_key"], row["_value"], row["_source"]) == (1, b"key", label(5), 1)


@pytest.mark.parametrize(
    ("value", "reason", "path"),
    [
        (b"{not json", "not_json", "$"),
        (b"[1, 2]", "not_an_object", "$"),
        (event(1, amount="much"), "wrong_type", "$.amount"),
        (event(1, colour="red"), "unknown_field", "$.colour"),
        (event(1, note="x" * (1 << 20)), "too_large", "$"),
        (event(1, amount=-1), "out_of_range", "$.amount"),
        (None, "empty", "$"),
    ],
)
def test_a_bad_event_goes_to_dead_letters_untouched_and_the_rest_goes_on(
    value: bytes | None, reason: str, path: str
) -> None:
    on = broker()
    for each in (event(0), value, event(2)):
        on.append(Place("events", 1), each)
    drain(worker(on))
    (letter,) = letters(on)
    assert (letter["reason"], letter["path"], letter["value"]) == (reason, path, value)
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("events", "1", "1")
    assert sorted(row["_position"] for row in rows(on, "records")) == [0, 2]  # type: ignore[type-var]
    rejects = [(p, h.rejects) for p, _, h in messages(on, "records") if h.rejects]
    assert rejects == [(1 % P, {1: [(1, 0, reason)]})]


def test_a_writer_says_what_it_sent_before_and_a_reader_finds_no_hole() -> None:
    on = broker()
    feeding = worker(on, max_messages=5)
    for n in range(100):
        on.append(Place("events", n % SOURCES), b"nonsense" if n % 9 == 0 else event(n))
    drain(feeding)
    for partition in range(P):
        fold, seen = Fold(("records",)), []
        for _, message, headers in (m for m in messages(on, "records") if m[0] == partition):
            taken, rejects = fold.take("records", message.offset, b.decode(message.value), headers)
            seen += [*taken.to_pylist(), *rejects]
        assert any(headers.after for p, _, headers in messages(on, "records") if p == partition)


def test_refusals_never_overtake_rows_of_their_source_even_over_several_messages() -> None:
    on = broker()
    for n in range(9_000):
        on.append(Place("events", 0), b"nonsense" if n % 1000 == 7 else event(n, who="same"))
    drain(worker(on, max_messages=20_000))
    seen, fold = 0, {p: Fold(("records",)) for p in range(P)}
    refused = 0
    for partition, message, headers in messages(on, "records"):
        taken, rejects = fold[partition].take("records", message.offset, b.decode(message.value), headers)
        assert taken.num_rows <= b.MAX_ROWS
        seen += taken.num_rows
        refused += sum(map(len, rejects.values()))
    assert (seen, refused) == (9_000 - 9, 9)


def test_only_the_last_message_of_a_poll_carries_its_watermark() -> None:
    on = broker()
    for n in range(9_000):
        on.append(Place("events", 0), event(n, who="same"))
    drain(worker(on, max_messages=20_000))
    partition = crc32(b"same") % P
    told = [h.watermarks for p, _, h in messages(on, "records") if p == partition]
    assert len(told) > 2
    assert told == [{}] * (len(told) - 1) + [{0: (8_999_000, False), **UNHEARD}]


def test_a_silent_partition_hears_of_each_new_pane_and_of_nothing_else() -> None:
    on = broker()
    feeding = worker(on)
    silent = next(p for p in range(P) if p != crc32(b"same") % P)
    for at in (0, 10_000, 59_999, 60_000, 61_000):
        on.append(Place("events", 0), event(1, at=at, who="same"))
        drain(feeding)
    told = [h.watermarks for p, _, h in messages(on, "records") if p == silent]
    assert told == [{0: (0, False), **UNHEARD}, {0: (60_000, False), **UNHEARD}]


def test_a_source_that_stands_still_is_idle_until_it_moves() -> None:
    clock = VirtualClock()
    on = broker(clock)
    feeding = worker(on)
    on.append(Place("events", 0), event(3))
    drain(feeding)
    for _ in range(15):
        clock.advance(1)
        drain(feeding)
    for partition in range(P):
        told = [h.watermarks for p, _, h in messages(on, "records") if p == partition]
        assert told == [{0: (3000, False), **UNHEARD}, {0: (3000, False), **ASLEEP}, {0: (3000, True), **ASLEEP}]
    on.append(Place("events", 0), event(4))
    drain(feeding)
    for partition in range(P):
        told = [h.watermarks for p, _, h in messages(on, "records") if p == partition]
        assert told[-1] == {0: (4000, False), **UNHEARD}


def test_readers_wait_for_sources_that_slept_when_another_one_wakes_up() -> None:
    """A day comes at once: what is read first must not make the rest late."""
    clock = VirtualClock()
    on = broker(clock)
    feeding = worker(on)
    for source in range(SOURCES):
        on.append(Place("events", source), event(source))
    for _ in range(15):
        drain(feeding)
        clock.advance(1)
    assert passed(on) == {0}
    on.append(Place("events", 0), event(86_400))
    drain(feeding)
    assert passed(on) == {1000}
    for _ in range(3):
        clock.advance(1)
        drain(feeding)
    assert passed(on) == {86_400_000}
    on.append(Place("events", 1), event(3600))
    drain(feeding)
    assert passed(on) == {2000}


def passed(on: MemoryBroker) -> set[int | None]:
    """What readers of each partition think that events have passed."""
    folds = {partition: Fold(("records",)) for partition in range(P)}
    for partition, message, headers in messages(on, "records"):
        folds[partition].take("records", message.offset, b.decode(message.value), headers)
    return {fold.watermark(b.EVENTS) for fold in folds.values()}


def test_a_quiet_source_of_a_dead_owner_is_declared_idle_by_the_next() -> None:
    clock = VirtualClock()
    on = broker(clock)
    first = worker(on)
    for source in (0, 1):
        on.append(Place("events", source), event(source))
    drain(first)
    clock.advance(1.1)
    drain(first)
    first.carrier.close()  # type: ignore[attr-defined]
    second = worker(on)
    for n in range(30):
        clock.advance(1)
        on.append(Place("events", 0), event(100 + n))
        drain(second)
    marks: dict[int, b.Watermark] = {}
    fold = Fold(("records",))
    for p, message, headers in messages(on, "records"):
        if p == 0:
            fold.take("records", message.offset, b.decode(message.value), headers)
            marks = fold.watermarks["events"]
    assert marks[1] == (1000, True)
    assert {marks[2], marks[3]} == {(b.UNHEARD, True)}
    assert fold.watermark("events") == 120_000  # the pane; nothing else went to this partition


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.booleans(), min_size=1, max_size=80),
    crashes=st.lists(st.integers(0, 12), max_size=4),
    polled=st.integers(1, 9),
)
def test_crashes_repeat_rows_and_never_hide_one(kinds: list[bool], crashes: list[int], polled: int) -> None:
    on = broker()
    for n, good in enumerate(kinds):
        on.append(Place("events", n * n % SOURCES), event(n) if good else b"?")
    for crash in crashes:
        each = worker(on, crash_at=crash, max_messages=polled)
        try:
            drain(each)
        except DeliveryFailed:
            each.carrier.close()  # type: ignore[attr-defined]
    drain(worker(on, max_messages=polled))
    seen: list[object] = []
    for partition in range(P):
        fold = Fold(("records",))
        for p, message, headers in messages(on, "records"):
            if p == partition:
                taken, _ = fold.take("records", message.offset, b.decode(message.value), headers)
                seen += taken.column("_event_id").to_pylist()
    assert sorted(map(str, seen)) == sorted(f"o{n}" for n, good in enumerate(kinds) if good)
    refused = {(letter["partition"], letter["offset"]) for letter in letters(on)}
    assert len(refused) == kinds.count(False)


def test_rows_of_a_source_keep_their_order_in_each_partition() -> None:
    on = broker()
    for n in range(200):
        on.append(Place("events", n % SOURCES), event(n))
    drain(worker(on, max_messages=17))
    for partition in range(P):
        for source in range(SOURCES):
            found = [
                row["_position"]
                for p, m, _ in messages(on, "records")
                if p == partition
                for row in b.decode(m.value).to_pylist()
                if row["_source"] == source
            ]
            assert all(x < y for x, y in pairwise(found))


def test_a_source_that_begins_anew_stops_the_service_with_the_way_out() -> None:
    on = broker()
    feeding = worker(on)
    for n in range(3):
        on.append(Place("events", 1), event(n))
    drain(feeding)
    on.log(Place("events", 1)).clear()
    feeding.carrier._positions[Place("events", 1)] = 0  # type: ignore[attr-defined]  # what the client's reset does
    on.append(Place("events", 1), event(9))
    with pytest.raises(WrongSetup, match=r"events/1 goes on with offset 0, but offset 2 .*made again.*new name"):
        feeding.step()


def test_a_source_may_repeat_itself_after_it_was_lost_and_gained() -> None:
    on = broker()
    handler, log = Ingestion(spec(), P, Metrics()), MemoryLog(on, "ingestion")
    source = Place("events", 0)
    on.append(source, event(1))
    for _ in range(2):
        handler.restore(source, log)
        assert list(handler.handle([Polled("events", 0, list(log.read(source, 0, 1)))]))
        handler.forget(source)


def test_each_rebalance_asks_for_the_id_of_the_topic_once() -> None:
    asked = []

    class Made(MemoryLog):
        made = "first"

        def topic_id(self, topic: str) -> str:
            asked.append(topic)
            return f"{topic}-{self.made}"

    on = broker()
    handler, log = Ingestion(spec(), P, Metrics()), Made(on, "ingestion")
    source = Place("events", 0)
    on.append(source, event(1))
    found = []
    for log.made in ("first", "second"):
        handler.restore(Place("events", 1), log)
        handler.restore(source, log)
        (said,) = handler.handle([Polled("events", 0, list(log.read(source, 0, 1)))])
        found += [b.decode_headers(each.headers).topic_id for each in said]
    assert {*found} == {"events-first", "events-second"}
    assert asked == ["events", "events"]


@given(st.lists(st.lists(st.sampled_from([None, 1, PORTION_BYTES // 2, PORTION_BYTES + 1]), min_size=1), max_size=6))
@settings(deadline=None)
def test_portions_are_the_poll_in_its_order_and_end_where_they_get_too_large(runs: list[list[int | None]]) -> None:
    polled = [
        Polled(
            "events", source, [Stored(i, 0, None, None if size is None else Sized(size)) for i, size in enumerate(run)]
        )
        for source, run in enumerate(runs)
    ]
    cuts = list(portions(polled))
    assert [(run.partition, m.offset) for cut in cuts for run in cut for m in run.messages] == [
        (run.partition, m.offset) for run in polled for m in run.messages
    ]
    sizes = [[len(m.value or b"") for run in cut for m in run.messages] for cut in cuts]
    assert all(sum(each[:-1]) <= PORTION_BYTES for each in sizes)
    assert all(sum(each) > PORTION_BYTES for each in sizes[:-1])


class Sized(bytes):
    """Bytes that only claim to be many."""

    size: int

    def __new__(cls, size: int) -> "Sized":
        made = super().__new__(cls, b"x")
        made.size = size
        return made

    def __len__(self) -> int:
        return self.size
