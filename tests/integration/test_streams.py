"""The carrier on Faust against a real Kafka: what it commits, what it loses (nothing), and how it ends."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from aiokafka import TopicPartition as AioPartition
from kafka import KafkaProducer

from runtime.errors import DeliveryFailed, Fatal, WrongSetup
from runtime.kafka import KafkaCarrier
from runtime.kafka_clients import admin
from runtime.memory import VirtualClock
from runtime.ports import LogReader, Message, Outgoing, Place, Poll, Polled
from runtime.progress import LOOK_SECONDS, STUCK_SECONDS
from runtime.streams import StreamsCarrier
from runtime.worker import Worker
from schemas.topics import physical
from tests.polling import eventually

ROOT = Path(__file__).parents[2]
SECONDS = 30
pytestmark = pytest.mark.timeout(120)


class Bench:
    """A pipeline of its own on the broker, and carriers that are closed at the end."""

    def __init__(self, brokers: str, pipeline: str, home: Path) -> None:
        self.brokers, self.pipeline, self._home = brokers, pipeline, home
        self._carriers: list[StreamsCarrier | KafkaCarrier] = []
        self._children: list[subprocess.Popen[str]] = []
        self._writer = KafkaProducer(bootstrap_servers=brokers, max_request_size=10 << 20)

    def topics(self, partitions: int, *names: str, **configs: str) -> None:
        client = admin(self.brokers)
        wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
        client.create_topics({physical(self.pipeline, name): wanted for name in names})
        client.close()

    def write(self, topic: str, values: Sequence[bytes | None], partitions: int = 1) -> None:
        name = physical(self.pipeline, topic)
        sent = [self._writer.send(name, value, partition=i % partitions) for i, value in enumerate(values)]
        for future in sent:
            future.get(SECONDS)

    def transaction(self, topic: str, values: Sequence[bytes], *, commit: bool) -> None:
        writer = KafkaProducer(bootstrap_servers=self.brokers, transactional_id=f"{self.pipeline}-t")
        writer.init_transactions()
        writer.begin_transaction()
        for value in values:
            writer.send(physical(self.pipeline, topic), value, partition=0)
        writer.flush()
        if commit:
            writer.commit_transaction()
        else:
            writer.abort_transaction()
        writer.close()

    def carrier(self, group: str = "g", max_messages: int = 64, *patient: str) -> StreamsCarrier:
        home = self._home / "faust"
        waits = frozenset(patient)
        made = StreamsCarrier(
            self.brokers, self.pipeline, group, datadir=home, max_messages=max_messages, patient=waits
        )
        self._carriers.append(made)
        return made

    def kafka(self, group: str = "g") -> KafkaCarrier:
        made = KafkaCarrier(self.brokers, self.pipeline, group)
        self._carriers.append(made)
        return made

    def relay(self, mode: str = "relay") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.integration.streams_relay"]
        options = [self.brokers, self.pipeline, mode, str(self._home / "relay")]
        child = subprocess.Popen([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._children.append(child)
        return child

    def close(self) -> None:
        for child in self._children:
            child.kill()
            child.communicate()
        for each in self._carriers:
            each.close()
        self._writer.close()


@pytest.fixture
def bench(kafka: str, unique: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(kafka, unique, tmp_path)
    yield made
    made.close()


class Taken:
    """What polls of one carrier returned so far."""

    def __init__(self, carrier: StreamsCarrier) -> None:
        self.carrier = carrier
        self.messages: dict[Place, list[Message]] = {}
        self.owned: frozenset[Place] = frozenset()
        self.polls: list[Poll] = []

    def poll(self, timeout: float = 0.1) -> Poll:
        poll = self.carrier.poll(timeout)
        if poll.lost or poll.gained:
            self.polls.append(poll)
            self.owned = (self.owned - poll.lost) | poll.gained
        for topic, partition, messages in poll.polled:
            self.messages.setdefault(Place(topic, partition), []).extend(messages)
        return poll

    def count(self) -> int:
        return sum(map(len, self.messages.values()))


def until(condition: Callable[[], bool], *taken: Taken, what: str) -> None:
    def polled() -> bool:
        for each in taken:
            each.poll(0.05)
        return condition()

    assert condition() or eventually(polled, SECONDS, pause=0.0 if taken else 0.05), what


def joined(carrier: StreamsCarrier, *topics: str) -> Taken:
    carrier.subscribe(topics or ("records",))
    taken = Taken(carrier)
    until(lambda: bool(taken.owned), taken, what="nothing was assigned")
    return taken


RECORDS = Place("records", 0)


def test_messages_arrive_as_they_lie_on_the_log(bench: Bench) -> None:
    bench.topics(1, "records", "features")
    carrier = bench.carrier()
    taken = joined(carrier)
    sent = Outgoing("records", 0, b"value", b"key", [("one", b"1"), ("one", b"2")])
    carrier.publish([sent, Outgoing("records", 0, None, b"gone"), Outgoing("records", 0, None, None)])
    carrier.confirm()
    until(lambda: taken.count() == 3, taken, what="three messages")
    stored = list(carrier.log.read(RECORDS, 0, 3))
    assert [(m.key, m.value) for m in stored] == [(b"key", b"value"), (b"gone", None), (None, None)]
    assert [(m.offset, m.timestamp, m.key, m.value) for m in taken.messages[RECORDS]] == [
        (m.offset, m.timestamp, m.key, m.value) for m in stored
    ]
    assert list(taken.messages[RECORDS][0].headers) == list(sent.headers)


def test_nothing_is_committed_beyond_what_the_worker_says(bench: Bench) -> None:
    bench.topics(1, "records")
    bench.write("records", [b"%d" % i for i in range(20)])
    carrier = bench.carrier()
    taken = joined(carrier)
    until(lambda: taken.count() == 20, taken, what="twenty messages")
    carrier.commit({RECORDS: 5}, wait=True)
    assert carrier.log.committed(RECORDS) == 5
    carrier.close()
    second = joined(bench.carrier())
    until(lambda: second.count() >= 15, second, what="the rest again")
    assert [m.offset for m in second.messages[RECORDS]] == list(range(5, 20))


def test_without_waiting_a_commit_follows_within_seconds_while_the_topic_is_idle(bench: Bench) -> None:
    bench.topics(1, "records")
    bench.write("records", [b"x"] * 7)
    carrier = bench.carrier()
    taken = joined(carrier)
    until(lambda: taken.count() == 7, taken, what="seven messages")
    carrier.commit({RECORDS: 7})
    until(lambda: carrier.log.committed(RECORDS) == 7, what="the tail is committed")


def test_markers_and_aborted_messages_neither_arrive_nor_stall_commits(bench: Bench) -> None:
    bench.topics(1, "records")
    bench.transaction("records", [b"a", b"b"], commit=True)
    bench.transaction("records", [b"never"], commit=False)
    bench.transaction("records", [b"c"], commit=True)
    bench.write("records", [b"d"])
    carrier = bench.carrier()
    taken = joined(carrier)
    until(lambda: taken.count() == 4, taken, what="four messages")
    assert [m.value for m in taken.messages[RECORDS]] == [b"a", b"b", b"c", b"d"]
    carrier.commit({RECORDS: taken.messages[RECORDS][-1].offset + 1}, wait=True)
    assert carrier.log.committed(RECORDS) == taken.messages[RECORDS][-1].offset + 1
    carrier.close()
    second = joined(bench.carrier())
    bench.write("records", [b"e"])
    until(lambda: second.count() > 0, second, what="the message behind the commit")
    assert [m.value for m in second.messages[RECORDS]] == [b"e"]


def test_three_members_own_the_same_partition_numbers_of_three_topics(bench: Bench) -> None:
    topics = ("records", "outcomes", "scored")
    bench.topics(4, *topics)
    members = [Taken(bench.carrier()) for _ in range(3)]
    for each in members:
        each.carrier.subscribe(topics)
    everything = {Place(topic, p) for topic in topics for p in range(4)}

    def shared_out() -> bool:
        owned = [place for each in members for place in each.owned]
        return all(each.owned for each in members) and sorted(owned) == sorted(everything)

    until(shared_out, *members, what="three members share twelve partitions")
    for each in members:
        numbers = [{p for topic, p in each.owned if topic == name} for name in topics]
        assert numbers[0] == numbers[1] == numbers[2]


def test_a_partition_that_was_taken_and_came_back_is_lost_and_gained_and_restarts_at_the_commit(bench: Bench) -> None:
    bench.topics(2, "records")
    bench.write("records", [b"%d" % i for i in range(10)], partitions=2)
    first = joined(bench.carrier())
    until(lambda: first.count() == 10, first, what="ten messages")
    first.carrier.commit({Place("records", p): 3 for p in (0, 1)}, wait=True)
    first.messages.clear()
    second = Taken(bench.carrier())
    second.carrier.subscribe(["records"])
    until(lambda: bool(second.owned), second, what="the second member owns something")
    inbox = first.carrier._engine.inbox  # type: ignore[union-attr]
    until(lambda: bool(inbox._gained), what="the first one's share is known")
    first.poll()
    assert len(first.polls[-1].lost) == 2
    assert first.polls[-1].gained < first.polls[-1].lost
    until(lambda: first.count() == 2 and second.count() == 2, first, second, what="the uncommitted ones again")
    assert [m.offset for m in first.messages[next(iter(first.owned))]] == [3, 4]
    assert [m.offset for m in second.messages[next(iter(second.owned))]] == [3, 4]


def test_what_was_handled_is_committed_when_a_partition_goes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.streams_engine.COMMIT_SECONDS", 600.0)  # only the rebalance may commit
    bench.topics(2, "records")
    bench.write("records", [b"%d" % i for i in range(10)], partitions=2)
    first = joined(bench.carrier())
    until(lambda: first.count() == 10, first, what="ten messages")
    first.carrier.commit({Place("records", p): 5 for p in (0, 1)})
    second = Taken(bench.carrier())
    second.carrier.subscribe(["records"])
    until(lambda: len(first.owned) == len(second.owned) == 1, first, second, what="both own one")
    assert [first.carrier.log.committed(Place("records", p)) for p in (0, 1)] == [5, 5]
    assert second.count() == 0


def test_a_carrier_that_closes_leaves_at_once(bench: Bench) -> None:
    bench.topics(2, "records")
    first, second = joined(bench.carrier()), Taken(bench.carrier())
    second.carrier.subscribe(["records"])
    until(lambda: len(first.owned) == len(second.owned) == 1, first, second, what="both own one")
    began = time.monotonic()
    first.carrier.close()
    assert time.monotonic() - began < 5
    until(lambda: len(second.owned) == 2, second, what="the other one owns all")
    assert time.monotonic() - began < 5, "that took a session time-out"
    assert not [each for each in threading.enumerate() if each.name == "faust-g" and not each.daemon]


def test_a_worker_that_does_not_poll_holds_a_bounded_number_of_messages_and_stays_a_member(bench: Bench) -> None:
    bench.topics(1, "records")
    bench.write("records", [bytes(20_000)] * 2_500)
    carrier = bench.carrier(max_messages=500)
    carrier.subscribe(["records"])
    inbox = carrier._engine.inbox  # type: ignore[union-attr]
    until(lambda: not inbox._room.is_set(), what="the inbox is full")
    taken = Taken(carrier)
    most = 0
    while taken.count() < 2_500:
        most = max(most, inbox._messages)
        taken.poll(1)
    assert most <= 1024 + 64
    assert [m.offset for m in taken.messages[RECORDS]] == list(range(2_500))
    assert [poll.lost for poll in taken.polls] == [frozenset()]


def test_one_busy_partition_does_not_hold_up_another(bench: Bench) -> None:
    bench.topics(2, "records")
    bench.write("records", [b"x" * 100] * 5_000)
    carrier = bench.carrier(max_messages=10)
    taken = joined(carrier)
    carrier.publish([Outgoing("records", 1, b"other")])
    carrier.confirm()
    other = Place("records", 1)
    until(lambda: other in taken.messages, taken, what="the other partition's message")


def test_a_message_that_the_broker_refuses_is_a_delivery_failure(bench: Bench) -> None:
    bench.topics(1, "records")
    bench.topics(1, "features", **{"max.message.bytes": "2000"})
    carrier = bench.carrier()
    joined(carrier)
    carrier.publish([Outgoing("features", 0, bytes(5_000))])
    with pytest.raises(DeliveryFailed, match="features/0 did not take a message of 5000 bytes"):
        carrier.confirm()


def test_a_partition_that_does_not_exist_is_a_delivery_failure(bench: Bench) -> None:
    bench.topics(1, "records", "features")
    carrier = bench.carrier()
    joined(carrier)
    carrier.publish([Outgoing("features", 7, b"")])
    with pytest.raises(DeliveryFailed, match="features/7"):
        carrier.confirm()


def test_lists_land_in_the_order_of_the_calls(bench: Bench) -> None:
    bench.topics(1, "records", "features")
    carrier = bench.carrier()
    joined(carrier)
    for start in range(0, 500, 5):
        carrier.publish([Outgoing("features", 0, b"%d" % i) for i in range(start, start + 5)])
    carrier.confirm()
    stored = carrier.log.read(Place("features", 0), 0, 500)
    assert [m.value for m in stored] == [b"%d" % i for i in range(500)]


def test_a_crash_of_faust_is_fatal_at_the_next_call(bench: Bench) -> None:
    bench.topics(1, "records")
    carrier = bench.carrier()
    joined(carrier)
    engine = carrier._engine
    assert engine is not None
    engine._submit(engine._app.crash(RuntimeError("gone"))).result(5)
    with pytest.raises(Fatal, match="gone"):
        carrier.poll(5)
    with pytest.raises(Fatal, match="gone"):
        carrier.publish([Outgoing("records", 0, b"")])


def test_a_missing_topic_names_the_mend(bench: Bench) -> None:
    with pytest.raises(WrongSetup, match="headrace up"):
        bench.carrier().subscribe(["records"])


def test_publishing_after_close_is_refused(bench: Bench) -> None:
    bench.topics(1, "records")
    carrier = bench.carrier()
    joined(carrier)
    carrier.close()
    with pytest.raises(DeliveryFailed, match="closed"):
        carrier.publish([Outgoing("records", 0, b"")])


def test_faust_touches_neither_signals_nor_arguments(bench: Bench) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), list(sys.argv)
    bench.topics(1, "records")
    joined(bench.carrier())
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), list(sys.argv)) == before


class Follower:
    """Counts what it follows and what it gets."""

    inputs: tuple[str, ...] = ("records",)
    follows: tuple[str, ...] = ("models",)
    leads = False

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes | None]] = []

    def restore(self, place: Place, log: object) -> list[Outgoing]:  # noqa: ARG002
        return []

    def follow(self, log: object) -> Mapping[Place, int]:  # noqa: ARG002
        return {Place("models", 0): 0}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        self.seen += [(topic, message.value) for topic, _, messages in polled for message in messages]
        yield []

    def tick(self, now: int) -> list[Outgoing]:  # noqa: ARG002
        return []

    def forget(self, place: Place) -> None:
        pass


def test_a_handler_follows_topics_beside_its_inputs(bench: Bench) -> None:
    bench.topics(1, "records", "models")
    bench.write("models", [b"m1", b"m2"])
    bench.write("records", [b"r1"])
    handler = Follower()
    worker = Worker(handler, bench.carrier())
    worker.start()
    assert handler.seen == [("models", b"m1"), ("models", b"m2")]
    bench.write("models", [b"m3"])
    until(lambda: bool(worker.step(0.1)) and len(handler.seen) == 4, what="the input and the new model")
    assert sorted(handler.seen[2:]) == [("models", b"m3"), ("records", b"r1")]


class Slow:
    """Copies records to features, but waits for `may` with the second one; notes the output's end at each restore."""

    inputs: tuple[str, ...] = ("records",)
    follows: tuple[str, ...] = ()
    leads = False

    def __init__(self, may: Callable[[], None] = lambda: None) -> None:
        self._may, self.seen = may, 0
        self.ends: dict[Place, int] = {}
        self.restored, self.handling = threading.Event(), threading.Event()

    def restore(self, place: Place, log: LogReader) -> list[Outgoing]:
        self.ends[place] = log.end(Place("features", place.partition))
        self.restored.set()
        return []

    def follow(self, log: LogReader) -> Mapping[Place, int]:  # noqa: ARG002
        return {}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        self.seen += sum(len(run.messages) for run in polled)
        if self.seen > 1:
            self.handling.set()
            self._may()
        for _, partition, messages in polled:
            yield [Outgoing("features", partition, message.value) for message in messages]

    def tick(self, now: int) -> list[Outgoing]:  # noqa: ARG002
        return []

    def forget(self, place: Place) -> None:
        pass


def test_a_partition_moves_when_its_owner_has_published_what_it_had_in_its_hands(bench: Bench) -> None:
    bench.topics(2, "records", "features")
    bench.write("records", [b"0", b"1"], partitions=2)
    carrier, second = bench.carrier(), Slow()

    def until_the_second_one_joins() -> None:
        inbox = carrier._engine.inbox  # type: ignore[union-attr]
        until(lambda: bool(inbox._lost), what="the rebalance")
        second.restored.wait(1.5)  # a hand-over that does not wait lets it restore now

    first = Slow(until_the_second_one_joins)
    workers = Worker(first, carrier), Worker(second, bench.carrier())
    threads = [threading.Thread(target=each.run) for each in workers]
    threads[0].start()
    assert first.handling.wait(SECONDS)
    threads[1].start()
    assert second.restored.wait(SECONDS)
    for worker, thread in zip(workers, threads, strict=True):
        worker.stop()
        thread.join()
    assert set(second.ends.values()) == {1}
    assert sorted(first.ends) == [Place("records", 0), Place("records", 1)]


def _relayed(bench: Bench, partitions: int) -> list[tuple[int, bytes]]:
    log = bench.carrier("reader").log
    found = []
    for partition in range(partitions):
        place = Place("features", partition)
        found += [(partition, m.value or b"") for m in log.read(place, 0, log.end(place))]
    return found


def _wait(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith(word):
            return
    pytest.fail(f"the relay ended before it said {word!r}")


def test_sigterm_drains_commits_and_leaves_nothing_to_repeat(bench: Bench) -> None:
    bench.topics(1, "records", "features")
    bench.write("records", [b"%d" % i for i in range(200)])
    child = bench.relay()
    _wait(child, "relayed 100")
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 0
    relayed = [value for _, value in _relayed(bench, 1)]
    assert relayed == [b"%d" % i for i in range(len(relayed))]
    assert bench.carrier("relay").log.committed(RECORDS) == len(relayed)


@pytest.mark.slow
def test_two_processes_that_join_die_and_come_back_lose_nothing(bench: Bench) -> None:
    bench.topics(4, "records", "features")
    values = [b"%d" % i for i in range(4_000)]
    first = bench.relay()
    _wait(first, "owns 4")

    def feed() -> None:
        for start in range(0, len(values), 20):
            bench.write("records", values[start : start + 20], 4)

    feeding = threading.Thread(target=feed)
    feeding.start()
    _wait(first, "relayed 100")
    second = bench.relay()
    _wait(second, "owns 2")
    _wait(second, "relayed 100")
    first.kill()
    third = bench.relay()
    _wait(third, "owns 2")
    second.send_signal(signal.SIGTERM)
    assert second.wait(10) == 0
    feeding.join()
    until(lambda: {value for _, value in _relayed(bench, 4)} >= set(values), what="everything is relayed")
    third.send_signal(signal.SIGTERM)
    assert third.wait(10) == 0
    found = _relayed(bench, 4)
    assert {value for _, value in found} == set(values)
    for partition in range(4):
        firsts = list(dict.fromkeys(value for p, value in found if p == partition))
        assert firsts == [value for i, value in enumerate(values) if i % 20 % 4 == partition], "out of order"


def test_a_failed_delivery_ends_the_process_and_commits_nothing_of_the_message(bench: Bench) -> None:
    bench.topics(1, "records")
    bench.topics(1, "features", **{"max.message.bytes": "2000"})
    bench.write("records", [b"%d" % i for i in range(20)])
    child = bench.relay("swell")  # makes the message with value 7 too large
    assert child.wait(SECONDS) == 1
    assert [value for _, value in _relayed(bench, 1)] == [b"%d" % i for i in range(7)]
    assert (bench.carrier("relay").log.committed(RECORDS) or 0) <= 7


def test_a_member_with_a_full_inbox_gives_half_away_and_both_go_on_at_the_commits(bench: Bench) -> None:
    bench.topics(2, "records")
    bench.write("records", [b"x"] * 4_000, partitions=2)
    first = Taken(bench.carrier())
    first.carrier.subscribe(["records"])
    inbox = first.carrier._engine.inbox  # type: ignore[union-attr]
    until(lambda: not inbox._room.is_set(), what="the inbox is full")
    first.poll()
    handled = {place: messages[-1].offset + 1 for place, messages in first.messages.items()}
    first.carrier.commit(handled, wait=True)
    first.messages.clear()
    second = Taken(bench.carrier())
    second.carrier.subscribe(["records"])
    until(lambda: len(first.owned) == len(second.owned) == 1, first, second, what="both own one")
    kept, given = next(iter(first.owned)), next(iter(second.owned))
    first.messages.clear()  # what came before the rebalance comes again
    seen = Taken(first.carrier)
    until(lambda: second.count() == 2_000 - handled.get(given, 0), seen, second, what="all of what was given away")
    assert [m.offset for m in second.messages[given]] == list(range(handled.get(given, 0), 2_000))
    assert kept != given


def test_a_worker_that_does_not_poll_for_longer_than_its_session_stays_a_member_and_may_commit(bench: Bench) -> None:
    bench.topics(1, "records")
    bench.write("records", [b"x"] * 3_000)
    taken = joined(bench.carrier())
    until(lambda: taken.count() > 0, taken, what="a message")
    over = time.monotonic() + 8
    until(lambda: time.monotonic() > over, what="the session time-out of 6 s has passed")
    handled = taken.messages[RECORDS][-1].offset + 1
    taken.carrier.commit({RECORDS: handled}, wait=True)
    assert taken.carrier.log.committed(RECORDS) == handled
    until(lambda: taken.count() == 3_000, taken, what="the rest")
    assert [poll.lost for poll in taken.polls] == [frozenset()]


def test_patient_messages_arrive_within_half_a_second_in_few_polls(bench: Bench) -> None:
    bench.topics(1, "records", "scored")
    taken = joined(bench.carrier("g", 64, "scored"), "records", "scored")
    scored = Place("scored", 0)
    waited: list[float] = []
    polls = 0
    for number in range(10):
        taken.carrier.publish([Outgoing("scored", 0, b"%d" % number)])
        taken.carrier.confirm()
        written = time.monotonic()
        while len(taken.messages.get(scored, ())) <= number:
            polls += bool(taken.poll(1).polled)
            assert time.monotonic() < written + SECONDS
        waited.append(time.monotonic() - written)
    assert sorted(waited)[7] < 0.5, "the slowest two may be a busy machine's"
    assert polls == 10
    assert [m.value for m in taken.messages[scored]] == [b"%d" % number for number in range(10)]


def test_an_urgent_message_does_not_wait_with_the_patient_ones(bench: Bench) -> None:
    bench.topics(1, "records", "scored")
    taken = joined(bench.carrier("g", 64, "scored"), "records", "scored")
    fastest = SECONDS + 0.0
    for number in range(10):
        taken.carrier.publish([Outgoing("scored", 0, b"patient"), Outgoing("records", 0, b"urgent")])
        taken.carrier.confirm()
        written = time.monotonic()
        until(lambda n=number: len(taken.messages.get(RECORDS, ())) > n, taken, what="the urgent one")  # type: ignore[misc]
        fastest = min(fastest, time.monotonic() - written)
    assert fastest < 0.15, "less than a patient one waits"
    until(lambda: taken.count() == 20, taken, what="the patient ones, too")


class Both(Slow):
    """`Slow` with two inputs."""

    inputs = ("records", "scored")


def test_nothing_patient_is_lost_over_a_rebalance(bench: Bench) -> None:
    bench.topics(2, "records", "scored", "features")
    values = [b"%d" % i for i in range(400)]
    handlers = Both(), Both()
    workers = [Worker(handler, bench.carrier("relay", 64, "scored")) for handler in handlers]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    threads[0].start()
    assert handlers[0].restored.wait(SECONDS)

    def feed() -> None:
        for start in range(0, len(values), 4):
            bench.write("scored", values[start : start + 4], 2)

    feeding = threading.Thread(target=feed)
    feeding.start()
    threads[1].start()
    assert handlers[1].restored.wait(SECONDS)
    workers[0].stop()
    threads[0].join()
    feeding.join()
    until(lambda: {value for _, value in _relayed(bench, 2)} >= set(values), what="all of them by either")
    workers[1].stop()
    threads[1].join()
    for partition in range(2):
        firsts = list(dict.fromkeys(value for p, value in _relayed(bench, 2) if p == partition))
        assert firsts == values[partition::2], "lost or out of order"


@pytest.mark.parametrize("kind", ["kafka", "streams"])
def test_a_partition_whose_last_offsets_are_markers_has_been_read_to_its_end(bench: Bench, kind: str) -> None:
    bench.topics(1, "records", "features")
    bench.transaction("records", [b"a"], commit=True)
    bench.transaction("records", [b"never"], commit=False)
    carrier: KafkaCarrier | StreamsCarrier = bench.carrier() if kind == "streams" else bench.kafka()
    worker = Worker(Slow(), carrier)
    worker.start()
    end = carrier.log.end(RECORDS)
    assert end == 4
    until(lambda: worker.step(0.05) is not None and carrier.positions() == {RECORDS: end}, what="the end")
    until(lambda: carrier.ends([RECORDS]) == {RECORDS: end}, what="the broker's answer")
    worker.stop()


class Pausing:
    """A carrier on a real broker, and how to make its client stop fetching a partition."""

    def __init__(self, bench: Bench, kind: str) -> None:
        self.carrier: KafkaCarrier | StreamsCarrier = bench.carrier() if kind == "streams" else bench.kafka()

    def fetch(self, place: Place, *, on: bool) -> None:
        if isinstance(self.carrier, KafkaCarrier):
            client = self.carrier._member
            assert client is not None
            (client.resume if on else client.pause)(self.carrier._names.physical(place))
            return
        engine = self.carrier._engine
        assert engine is not None
        thread = engine._app.consumer._thread  # type: ignore[attr-defined]
        partition = AioPartition(physical(engine._pipeline, place.topic), place.partition)

        async def turn() -> None:
            client = thread._ensure_consumer()
            (client.resume if on else client.pause)(partition)

        asyncio.run_coroutine_threadsafe(turn(), thread.thread_loop).result(SECONDS)


@pytest.mark.parametrize("kind", ["kafka", "streams"])
def test_a_partition_that_is_not_fetched_while_messages_lie_before_it_takes_the_readiness_away(
    bench: Bench, kind: str
) -> None:
    bench.topics(2, "records", "features")
    pausing, clock, handler = Pausing(bench, kind), VirtualClock(), Slow()
    worker = Worker(handler, pausing.carrier, clock=clock)
    worker.start()

    bench.write("records", [b"0", b"1"], 2)
    until(lambda: worker.step(0.05) is not None and handler.seen == 2, what="a message of each partition")
    pausing.fetch(RECORDS, on=False)
    bench.write("records", [b"2", b"3"], 2)
    until(lambda: worker.step(0.05) is not None and handler.seen == 3, what="the other partition's message")
    for _ in range(int(STUCK_SECONDS / LOOK_SECONDS) - 1):
        clock.advance(LOOK_SECONDS)
        worker.step(0.05)
    assert worker.ready, "not yet a minute"

    def looked() -> bool:
        clock.advance(LOOK_SECONDS)
        worker.step(0.05)
        return bool(worker.stuck)

    until(looked, what="it is stuck")
    assert worker.stuck == ["records/0 stands at 1, the log ends at 2"]
    assert not worker.ready
    pausing.fetch(RECORDS, on=True)
    until(lambda: worker.step(0.05) is not None and handler.seen == 4, what="the message that was stuck")
    clock.advance(LOOK_SECONDS)
    worker.step(0.05)
    assert (worker.ready, worker.stuck) == (True, [])
