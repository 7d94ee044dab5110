"""`headrace dead-letters` on a real Kafka: above all that a message comes back once, whatever happens meanwhile."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from kafka import KafkaProducer

from headrace.cli import run
from headrace.dead_letters.replaying import PROVENANCE, WRITER
from runtime.bootstrap import bootstrap
from runtime.dead_letters import dead_letter
from runtime.errors import DeliveryFailed, Fenced
from runtime.kafka import KafkaCarrier, KafkaLog
from runtime.kafka_transactions import KafkaTransactions
from runtime.ports import Message, Outgoing, Place, Stored
from schemas.pipeline import parse, template
from tests.polling import eventually

ROOT = Path(__file__).parents[2]
PARTITIONS, SOURCES = 2, 3
NOBODY = "127.0.0.1:9"
pytestmark = pytest.mark.timeout(120)


class Rig:
    """A pipeline on the broker, and the command as a person runs it."""

    def __init__(self, brokers: str, name: str, folder: Path) -> None:
        text = template(name)
        self.file = folder / "pipeline.yaml"
        self.file.write_text(text)
        self.brokers, self.name = brokers, name
        bootstrap(brokers, parse(text), text, PARTITIONS, SOURCES)
        self.log = KafkaLog(brokers, name, "test")
        self.carrier = KafkaCarrier(brokers, name, "test")

    def close(self) -> None:
        self.carrier.close()
        self.log.close()

    def refuse(self, count: int, *, first: int = 0, topic: str = "events", reason: str = "wrong_type") -> None:
        self.put(
            self.letter(
                Stored(number, 0, b"k", b'{"n": %d}' % number, [("trace", b"\x00")]), number % SOURCES, topic, reason
            )
            for number in range(first, first + count)
        )

    def letter(self, message: Message, source: int = 0, topic: str = "events", reason: str = "wrong_type") -> Outgoing:
        return dead_letter(
            Place(topic, source), message, reason, "why", pipeline="d", partitions=PARTITIONS, path="$.n"
        )

    def put(self, letters: Iterator[Outgoing] | Sequence[Outgoing]) -> None:
        self.carrier.publish(list(letters))
        self.carrier.confirm()

    def writer(self) -> KafkaTransactions:
        return KafkaTransactions(self.brokers, self.name, WRITER)

    def settle(self) -> None:
        """Return when every transaction has ended: a commit is certain a moment before readers see it."""
        self.writer().close()

    def events(self, topic: str = "events") -> list[tuple[int, Message]]:
        """What readers of committed data find in the end, with the partition."""
        self.settle()
        return self.now(topic)

    def now(self, topic: str = "events") -> list[tuple[int, Message]]:
        """What readers of committed data find now."""
        places = [Place(topic, partition) for partition in range(self.log.partitions(topic))]
        return [
            (place.partition, message)
            for place in places
            for message in self.log.read(place, self.log.begin(place), self.log.end(place))
        ]

    def provenance(self) -> list[str]:
        return sorted(dict(message.headers)[PROVENANCE].decode() for _, message in self.events())

    def words(self, *words: str) -> list[str]:
        return ["dead-letters", *words, "-p", str(self.file), "--brokers", self.brokers]

    def process(self, *words: str, before: str = "") -> "subprocess.Popen[str]":
        code = f"{before}\nfrom headrace.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *self.words(*words)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def rig(kafka: str, unique: str, tmp_path: Path) -> Iterator[Rig]:
    with contextlib.closing(Rig(kafka, unique, tmp_path)) as made:
        yield made


Json = Callable[..., list[dict[str, object]]]


@pytest.fixture
def asked(rig: Rig, capsys: pytest.CaptureFixture[str]) -> Json:
    """What a command that succeeds says with --json."""

    def ask(*words: str) -> list[dict[str, object]]:
        code = run(rig.words(*words, "--json"))
        told = capsys.readouterr()
        assert code == 0, told.err
        return [json.loads(line) for line in told.out.splitlines()]

    return ask


def ids(count: int, first: int = 0) -> list[str]:
    return sorted(f"events/{number % SOURCES}/{number}/0" for number in range(first, first + count))


def test_list_shows_the_newest_last_and_counts_all_by_reason(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.refuse(30)
    rig.refuse(2, first=30, reason="empty")
    rig.refuse(3)  # copies
    assert run(rig.words("list", "--limit", "2")) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {lines[1][1], lines[2][1]} == set(ids(2, first=30))
    assert lines[-2:] == [["wrong_type", "30", "0"], ["empty", "2", "0"]]


def test_list_for_programs_says_one_letter_per_line_and_what_was_replayed(rig: Rig, asked: Json) -> None:
    rig.refuse(4)
    asked("replay", "--id", "events/1/1")
    rig.settle()
    told = asked("list")
    assert sorted(str(each["id"]) for each in told) == ids(4)
    assert [each["id"] for each in told if each["replayed"]] == ["events/1/1/0"]
    assert [each["id"] for each in asked("list", "--id", "events/2/2/0")] == ["events/2/2/0"]
    assert asked("list", "--reason", "empty") == asked("list", "--until", "1h") == []
    assert len(asked("list", "--limit", "3")) == 3


def test_show_tells_everything_and_who_replayed_it(rig: Rig, asked: Json) -> None:
    rig.refuse(2)
    assert asked("show", "events/1/1/0")[0]["replay"] is None
    asked("replay", "--all")
    rig.settle()
    (told,) = asked("show", "events/1/1/0")
    assert (told["key"], told["value"], told["path"]) == ("k", '{"n": 1}', "$.n")
    assert told["headers"] == [{"name": "trace", "value": "\x00"}]
    assert isinstance(told["replay"], dict)
    assert told["replay"]["who"]


def test_replay_puts_the_originals_back_on_their_partition(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.refuse(5)
    assert run(rig.words("replay", "--all")) == 0
    assert capsys.readouterr().out.strip() == "replayed 5 of 5"
    for partition, message in rig.events():
        number = json.loads(message.value or b"")["n"]
        assert partition == number % SOURCES
        assert message.key == b"k"
        assert list(message.headers) == [("trace", b"\x00"), (PROVENANCE, f"events/{partition}/{number}/0".encode())]


def test_a_second_run_replays_only_what_is_new(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.refuse(3)
    assert run(rig.words("replay", "--all")) == 0
    rig.refuse(1, first=3)
    assert run(rig.words("replay", "--all")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "replayed 1 of 4; 3 had been replayed before"
    assert rig.provenance() == ids(4)


def test_a_dry_run_writes_nothing(rig: Rig, asked: Json) -> None:
    rig.refuse(3)
    (told,) = asked("replay", "--topic", "events", "--dry-run")
    assert (told["replayed"], told["dry_run"]) == (3, True)
    assert rig.events() == rig.events("decisions") == []


def test_null_keys_tombstones_and_large_values_come_back(rig: Rig, asked: Json) -> None:
    large = b"x" * (5 << 20)
    rig.put(
        [
            rig.letter(Stored(0, 0, None, b"{}")),
            rig.letter(Stored(1, 0, b"k", None)),
            rig.letter(Stored(2, 0, b"k", large)),
            rig.letter(Stored(3, 0, b"k", large)),
            rig.letter(Stored(4, 0, None, None)),
        ]
    )
    assert asked("replay", "--all")[0]["replayed"] == 5
    found = [(message.key, message.value) for _, message in rig.events()]
    # Kafka's clients cannot send neither key nor value, so the dead letter itself has an empty key.
    assert found == [(None, b"{}"), (b"k", None), (b"k", large), (b"k", large), (b"", None)]


def test_internal_and_unknown_topics_are_left_with_the_reason(
    rig: Rig, asked: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.refuse(2)
    for topic in ("records", "clicks"):
        rig.refuse(1, topic=topic, reason="undecodable_batch")
    before = rig.events("records")
    (told,) = asked("replay", "--all")
    assert (told["matched"], told["replayed"]) == (4, 2)
    assert isinstance(told["left"], dict)
    assert sorted(told["left"].values()) == [1, 1]
    assert rig.events("records") == before == []
    assert run(rig.words("replay", "--topic", "records")) == 1
    assert "internal" in capsys.readouterr().err


KILLED_BEFORE_COMMIT = """
import os
from kafka import KafkaProducer
KafkaProducer.commit_transaction = lambda self: os.kill(os.getpid(), 9)
"""
KILLED_AFTER_COMMIT = """
import os
from kafka import KafkaProducer
commit = KafkaProducer.commit_transaction
KafkaProducer.commit_transaction = lambda self: (commit(self), os.kill(os.getpid(), 9))
"""


def test_killed_before_the_commit_nothing_was_replayed_and_the_next_run_replays_all(rig: Rig, asked: Json) -> None:
    rig.refuse(5)
    process = rig.process("replay", "--all", before=KILLED_BEFORE_COMMIT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert rig.now() == rig.now("decisions") == []
    assert asked("replay", "--all")[0]["replayed"] == 5
    assert rig.provenance() == ids(5)


def test_killed_after_the_commit_all_was_replayed_and_the_next_run_knows(rig: Rig, asked: Json) -> None:
    rig.refuse(5)
    process = rig.process("replay", "--all", before=KILLED_AFTER_COMMIT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (told,) = asked("replay", "--all")
    assert (told["replayed"], told["before"]) == (0, 5)
    assert rig.provenance() == ids(5)


SMALL_TRANSACTIONS = """
from headrace.dead_letters import replaying
replaying.MOST_LETTERS = 3
"""


def test_several_replays_at_the_same_time_replay_each_letter_once(rig: Rig, asked: Json) -> None:
    rig.refuse(300)
    processes = [rig.process("replay", "--all", before=SMALL_TRANSACTIONS) for _ in range(3)]
    ends = [(process.communicate(timeout=90)[1], process.returncode) for process in processes]
    assert 0 in [code for _, code in ends], ends
    assert all(code == 0 or (code == 1 and "somebody else began a replay" in said) for said, code in ends), ends
    asked("replay", "--all")
    assert rig.provenance() == ids(300)
    assert len(rig.events("decisions")) == 300


def test_who_read_the_ledger_before_another_replay_began_can_write_nothing_any_more(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.refuse(3)
    read = KafkaTransactions.publish

    def overtaken(self: KafkaTransactions, outgoing: Sequence[Outgoing]) -> None:
        monkeypatch.setattr(KafkaTransactions, "publish", read)
        assert run(rig.words("replay", "--all")) == 0
        read(self, outgoing)

    monkeypatch.setattr(KafkaTransactions, "publish", overtaken)
    assert run(rig.words("replay", "--all")) == 1
    assert "somebody else began a replay" in capsys.readouterr().err
    assert rig.provenance() == ids(3)


def test_a_newer_writer_ends_an_open_transaction_and_the_older_one_is_told(rig: Rig) -> None:
    older = rig.writer()
    older.publish([Outgoing("events", 0, b"1")])
    newer = rig.writer()
    with pytest.raises(Fenced):
        older.publish([Outgoing("events", 0, b"2"), Outgoing("events", 1, b"2")])
    newer.publish([Outgoing("events", 0, b"3")])
    for each in (older, newer):
        each.close()
    assert [message.value for _, message in rig.events()] == [b"1", b"3"]


def test_a_refused_message_takes_its_whole_transaction_with_it(rig: Rig) -> None:
    outgoing = [Outgoing("events", 0, b"1"), Outgoing("events", 1, b"x" * (9 << 20))]
    with contextlib.closing(rig.writer()) as writer, pytest.raises(DeliveryFailed, match=r"9437184 bytes for .*events"):
        writer.publish(outgoing)
    assert rig.events() == []


def test_an_interrupted_transaction_holds_nobody_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: KafkaProducer) -> None:
        raise KeyboardInterrupt

    place = Place("events", 0)
    with contextlib.closing(rig.writer()) as writer:
        monkeypatch.setattr(KafkaProducer, "commit_transaction", interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.publish([Outgoing("events", 0, b"1")])
    rig.put([Outgoing("events", 0, b"2")])
    # Message, marker, message; an open transaction would hide them, until the broker itself gives it up.
    assert eventually(lambda: rig.log.end(place) == 3, seconds=10)
    assert [message.value for _, message in rig.now()] == [b"2"]


@pytest.mark.parametrize("words", [["list"], ["show", "events/0/1/0"], ["replay", "--all"]])
def test_no_broker_and_no_topics_name_the_mend(
    kafka: str, unique: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(template(unique))
    assert run(["dead-letters", *words, "-p", str(file), "--brokers", NOBODY]) == 2
    assert "headrace kafka start" in capsys.readouterr().err
    assert run(["dead-letters", *words, "-p", str(file), "--brokers", kafka]) == 2
    assert "headrace up" in capsys.readouterr().err
    assert run(["dead-letters", *words, "-p", str(tmp_path / "none.yaml"), "--brokers", kafka]) == 2
    assert "none.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["show", "events/0/99/0"], ["replay", "--id", "events/0/99/0"]])
def test_an_id_that_is_not_there_is_named(rig: Rig, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(rig.words(*words)) == 1
    said = capsys.readouterr().err
    assert "events/0/99/0" in said
    assert "headrace dead-letters list" in said
