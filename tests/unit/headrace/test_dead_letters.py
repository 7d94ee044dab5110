"""Reading, choosing, showing and putting back dead letters, on a log in memory."""

import io
import json
from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from headrace.cli import run
from headrace.dead_letters import ledger, pages
from headrace.dead_letters.identity import Identities, Identity
from headrace.dead_letters.mends import MENDS, OTHERWISE, mend
from headrace.dead_letters.reading import Letter, Reading
from headrace.dead_letters.replaying import MOST_LETTERS, PROVENANCE, Obstacles, Replay, Tally, original
from headrace.dead_letters.values import pretty, printable
from headrace.dead_letters.wanted import Wanted
from headrace.errors import WrongUse
from runtime.dead_letters import dead_letter
from runtime.errors import DeliveryFailed
from runtime.memory import MemoryBroker, MemoryLog
from runtime.ports import Header, Outgoing, Place, Stored
from schemas import batch as b
from schemas import cloudevents
from schemas.events import Reason
from schemas.messages import Decision
from schemas.topics import MAX_MESSAGE_BYTES, TOPICS

PARTITIONS = 2
HOUR = 3_600_000


class Rig:
    """A pipeline's topics in memory, and a writer whose transactions all land."""

    def __init__(self) -> None:
        counts = {"P": PARTITIONS, "any": 3, "one": 1}
        self.broker = MemoryBroker({topic.name: counts[topic.partitions] for topic in TOPICS})
        self.log = MemoryLog(self.broker, "test")
        self.transactions: list[Sequence[Outgoing]] = []

    def refuse(
        self,
        offset: int,
        topic: str = "events",
        partition: int = 0,
        *,
        row: int = 0,
        reason: str = "wrong_type",
        value: bytes | None = b"{}",
        key: bytes | None = None,
        headers: Sequence[Header] = (),
        notes: Sequence[Header] = (),
    ) -> str:
        message = Stored(offset, 0, key, value, headers)
        made = dead_letter(
            Place(topic, partition), message, reason, "why", pipeline="d", partitions=PARTITIONS, path="$.x", row=row
        )
        self.broker.append(Place(made.topic, made.partition), made.value, made.key, [*made.headers, *notes])
        return f"{topic}/{partition}/{offset}/{row}"

    def letters(self, wanted: Wanted | None = None) -> list[Letter]:
        return list(Reading(self.log, wanted or Wanted()))

    def ids(self, wanted: Wanted | None = None) -> list[str]:
        return [letter.story.id for letter in self.letters(wanted)]

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        self.transactions.append(outgoing)
        for each in outgoing:
            self.broker.append(Place(each.topic, each.partition), each.value, each.key, each.headers)

    def replay(self, wanted: Wanted | None = None) -> Tally:
        entry: Callable[[Letter], Outgoing] = lambda letter: ledger.entry(letter, "p", "me", 0)  # noqa: E731
        run_ = Replay(ledger.replayed(self.log), Obstacles(self.log), entry, self)
        return run_.run(Reading(self.log, wanted or Wanted()))

    def on(self, topic: str, partition: int = 0) -> list[Stored]:
        return [message for message in self.broker.log(Place(topic, partition)) if message]  # type: ignore[misc]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def told(what: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


# --- identity ---------------------------------------------------------------------------------

identities = st.builds(
    Identity,
    st.sampled_from(["events", "labels"]),
    st.integers(0, 2),
    st.integers(0, 3_000) | st.integers(2**40, 2**40 + 5),
    st.integers(0, 2_100),
)


@given(st.lists(identities))
def test_a_set_of_identities_is_exactly_that(given_: list[Identity]) -> None:
    ours, plain = Identities(), set[Identity]()
    for each in given_:
        assert (each in ours) == (each in plain)
        assert ours.add(each) == (each not in plain)
        plain.add(each)
        assert each in ours
    assert len(ours) == len(plain)


@given(identities)
def test_an_identity_is_its_text(identity: Identity) -> None:
    assert Identity.parse(str(identity)) == identity


def test_a_row_that_is_left_out_is_the_first() -> None:
    assert Identity.parse("events/0/17") == Identity("events", 0, 17, 0)


@pytest.mark.parametrize(
    "text", ["", "events", "events/0", "events/0/x/0", "/0/1/0", "events/0/-1/0", "events/0/1/2/3"]
)
def test_what_is_no_identity_is_wrong_use_with_an_example(text: str) -> None:
    with pytest.raises(WrongUse, match="events/0/17/0"):
        Wanted.of(identity=text, now=0)


# --- reading ----------------------------------------------------------------------------------


def test_copies_are_read_once_and_rows_of_one_message_are_no_copies(rig: Rig) -> None:
    first, second = rig.refuse(5), rig.refuse(5, row=1)
    rig.refuse(5)
    rig.refuse(5, row=1)
    other = rig.refuse(5, partition=1)
    assert rig.ids() == [first, second, other]


def test_messages_of_others_are_counted_and_left_out(rig: Rig) -> None:
    rig.broker.append(Place("dead-letters", 0), b"hello", None, [("headrace-reason", b"x")])
    letter = rig.refuse(1)
    reading = Reading(rig.log, Wanted())
    assert [each.story.id for each in reading] == [letter]
    assert (reading.unreadable, reading.done, reading.total) == (1, 2, 2)


def test_a_reading_ends_where_the_log_ended_when_it_began(rig: Rig) -> None:
    rig.refuse(1, partition=0)
    reading = Reading(rig.log, Wanted())
    rig.refuse(2, partition=1)
    assert len(list(reading)) == 1


def test_each_filter_leaves_out_what_it_does_not_name(rig: Rig) -> None:
    rig.broker.clock.advance(HOUR / 1000)
    old = rig.refuse(1, reason="empty")
    rig.broker.clock.advance(HOUR / 1000)
    new, label = rig.refuse(2), rig.refuse(1, "labels", 1)
    now = rig.broker.clock.now() + HOUR

    def ids(**filters: object) -> list[str]:
        return rig.ids(Wanted.of(**filters, now=now))  # type: ignore[arg-type]

    assert ids() == [old, new, label]
    assert ids(reasons=["empty"]) == [old]
    assert ids(reasons=["empty", "wrong_type"], topics=["events"]) == [old, new]
    assert ids(topics=["labels"]) == [label]
    assert (
        ids(since="1h") == ids(since="1970-01-01T02:00:00Z") == ids(since="1970-01-01T03:00:00+01:00") == [new, label]
    )
    assert ids(until="1h") == [old]
    assert ids(since="1h", until="1ms") == [new, label]
    assert ids(identity=label) == [label]
    assert ids(identity=label, topics=["events"]) == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--reason", "wrong_tpye"], "wrong_type"),
        (["--topic", "event"], "events"),
        (["--since", "yesterday"], "2h"),
        (["--id", "17"], "events/0/17/0"),
    ],
)
@pytest.mark.parametrize("command", ["list", "replay"])
def test_a_filter_that_does_not_fit_names_what_does(
    command: str, words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dead-letters", command, *words]) == 2
    assert named in capsys.readouterr().err


def test_an_unknown_reason_is_answered_with_the_list_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead-letters", "list", "--reason", "bad"]) == 2
    said = capsys.readouterr().err
    assert all(reason in said for reason in Reason)


def test_replaying_everything_has_to_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead-letters", "replay"]) == 2
    assert "--all" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["list", "show", "replay"])
def test_the_commands_about_dead_letters_explain_themselves(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead-letters", name, "--help"]) == 0
    assert f"headrace dead-letters {name}" in capsys.readouterr().out


# --- showing ----------------------------------------------------------------------------------


def shown(rig: Rig) -> str:
    return told(pages.page(rig.letters()[0], None))


def test_json_is_indented_and_keeps_what_a_parser_would_lose(rig: Rig) -> None:
    rig.refuse(1, value=b'{"a":1,"a":2,"b":12345678901234567890.5}')
    assert '{\n  "a": 1,\n  "a": 2,\n  "b": 12345678901234567890.5\n}' in shown(rig)


@pytest.mark.parametrize("value", [b'{"a":', b"[" * 3_000 + b"]" * 3_000, b"NaN", b"two\nlines"])
def test_text_that_is_no_json_is_shown_as_it_is(value: bytes) -> None:
    assert told(pretty(value, [])).replace("\n", "").startswith(value.decode().replace("\n", ""))


def test_bytes_that_are_no_text_are_a_hex_dump() -> None:
    assert told(pretty(b"\x00\x01ab\xff" + b"z" * 20, [])).splitlines() == [
        "00000000  00 01 61 62 ff 7a 7a 7a 7a 7a 7a 7a 7a 7a 7a 7a  ..ab.zzzzzzzzzzz",
        "00000010  7a 7a 7a 7a 7a 7a 7a 7a 7a                       zzzzzzzzz",
    ]


def test_an_arrow_row_is_a_table() -> None:
    value = b.encode(pa.record_batch({"price": [1.5], "region": ["north"]}))
    said = told(pretty(value, [("content-type", b"application/vnd.apache.arrow.stream")]))
    assert "price" in said
    assert "double" in said
    assert "'north'" in said


def test_what_only_claims_to_be_arrow_is_a_hex_dump() -> None:
    header = [("Content-Type", b"application/vnd.apache.arrow.stream")]
    assert told(pretty(b"\xff\xff\xff\xff\x00", header)).startswith("00000000  ff ff ff ff 00")


def test_a_tombstone_and_an_empty_value_are_told_apart() -> None:
    assert "tombstone" in told(pretty(None, []))
    assert "empty" in told(pretty(b"", []))


def test_a_long_value_is_cut_and_the_rest_counted() -> None:
    assert "5,000 more characters" in told(pretty(b"x" * 25_000, []))
    assert "76 more bytes" in told(pretty(b"\xff" * 1_100, []))


@given(st.text())
def test_nothing_that_steers_a_terminal_is_printed(text: str) -> None:
    assert all(each.isprintable() or each == "\n" for each in printable(text))


def test_markup_of_strangers_is_shown_not_obeyed(rig: Rig) -> None:
    rig.refuse(1, value=b"[bold]x[/nothing]\x1b[2J", headers=[("h[/red]", b"[/red]")])
    said = shown(rig)
    assert "[bold]x[/nothing]\\x1b[2J" in said
    assert "h[/red]" in said


def test_everything_is_shown_headers_that_nobody_knows_yet_too(rig: Rig) -> None:
    errors = [{"path": "$.a", "message": "is no number"}, {"path": "$.b", "message": "is missing"}]
    rig.refuse(
        7,
        key=b"k-1",
        headers=[("content-type", b"application/json"), ("raw", b"\xff\x00")],
        notes=[("headrace-errors", json.dumps(errors).encode()), ("headrace-later", b"news")],
    )
    said = shown(rig)
    for each in ("events/0/7/0", "wrong_type", "$.x", "why", "is missing", "later", "news", "k-1", "ff 00", "replay"):
        assert each in said, each
    fields = pages.everything(rig.letters()[0], {"time": "t", "who": "me"})
    assert fields["notes"] == {"errors": errors, "later": "news"}
    assert fields["headers"] == [
        {"name": "content-type", "value": "application/json"},
        {"name": "raw", "value": None, "value_base64": "/wA="},
    ]
    assert (fields["key"], fields["value"], fields["replayed"]) == ("k-1", "{}", True)
    assert json.loads(json.dumps(fields)) == fields


def test_the_summary_begins_with_the_reason_that_is_there_most() -> None:
    lines = told(pages.summary({"empty": (1, 0), "wrong_type": (1_200, 3)}, 2)).splitlines()
    assert [line.split() for line in lines[2:4]] == [["wrong_type", "1,200", "3"], ["empty", "1", "0"]]
    assert "2 messages" in lines[4]


def test_every_reason_has_a_mend_and_one_of_a_newer_version_a_general_one() -> None:
    assert set(MENDS) == set(Reason)
    assert mend(Reason.LATE_LABEL) != mend("a reason of tomorrow") == OTHERWISE


# --- putting back -----------------------------------------------------------------------------


def test_a_replayed_message_is_the_original_with_a_header_of_provenance(rig: Rig) -> None:
    headers = [("content-type", b"application/json"), ("trace", b"\x00"), ("trace", b"")]
    id_ = rig.refuse(4, partition=2, key=b"k", value=b"\xff", headers=headers, notes=[("headrace-errors", b"[]")])
    assert rig.replay() == Tally(matched=1, replayed=1)
    (message,) = rig.on("events", 2)
    assert (message.key, message.value) == (b"k", b"\xff")
    assert message.headers == (*headers, (PROVENANCE, id_.encode()))


def test_null_keys_and_tombstones_come_back_as_they_were(rig: Rig) -> None:
    rig.refuse(1, value=None, key=b"k")
    rig.refuse(2, value=b"{}", key=None)
    rig.replay()
    assert [(each.key, each.value) for each in rig.on("events")] == [(b"k", None), (None, b"{}")]


def test_a_second_run_puts_nothing_back(rig: Rig) -> None:
    for offset in range(3):
        rig.refuse(offset)
    assert rig.replay() == Tally(matched=3, replayed=3)
    rig.refuse(1)  # a copy that came late
    rig.refuse(9)
    assert rig.replay() == Tally(matched=4, replayed=1, before=3)
    assert len(rig.on("events")) == 4


def test_the_ledger_says_who_what_and_why(rig: Rig) -> None:
    id_ = rig.refuse(1)
    rig.replay()
    (said,) = rig.on("decisions")
    decision = cloudevents.decode(said.value or b"", said.headers).read(Decision)
    assert (decision.subject, decision.step, decision.evidence["who"]) == (id_, "replayed", "me")
    assert said.key == id_.encode()
    replay = ledger.replay_of(rig.log, Identity.parse(id_))
    assert replay == {"time": "1970-01-01T00:00:00.000Z", "who": "me"}


def test_what_others_write_to_the_ledger_neither_hurts_nor_counts(rig: Rig) -> None:
    id_ = rig.refuse(1)
    other = Decision(subject=id_, step="failed", service="s", outcome="o", reason="r")
    value, headers = cloudevents.encode(other, id="1", source="/s")
    for each in (value, b"garbage", None, value.replace(b"decision.v1", b"wish.v1").replace(b"failed", b"replayed")):
        rig.broker.append(Place("decisions", 0), each, b"k", headers)
    assert len(ledger.replayed(rig.log)) == 0
    assert rig.replay().replayed == 1


def test_originals_and_their_entries_are_in_the_same_transaction(rig: Rig) -> None:
    count = MOST_LETTERS + 1
    for offset in range(count):
        rig.refuse(offset)
    assert rig.replay().replayed == count
    for each in rig.transactions:
        entries = [message.key for message in each if message.topic == "decisions"]
        assert entries == [dict(message.headers)[PROVENANCE] for message in each if message.topic == "events"]
    assert [len(each) for each in rig.transactions] == [2 * MOST_LETTERS, 2]


def test_large_letters_fill_a_transaction_by_their_bytes(rig: Rig) -> None:
    for offset in range(4):
        rig.refuse(offset, value=b"x" * (5 << 20))
    rig.replay()
    assert [len(each) for each in rig.transactions] == [4, 4]


def test_a_transaction_that_does_not_land_counts_for_nothing(rig: Rig) -> None:
    class Broken:
        def publish(self, outgoing: Sequence[Outgoing]) -> None:
            raise DeliveryFailed(f"{len(outgoing)} messages")

    rig.refuse(1)
    broken = Replay(
        ledger.replayed(rig.log), Obstacles(rig.log), lambda each: ledger.entry(each, "p", "me", 0), Broken()
    )
    with pytest.raises(DeliveryFailed):
        broken.run(Reading(rig.log, Wanted()))
    assert (broken.tally.matched, broken.tally.replayed) == (1, 0)
    assert rig.replay().replayed == 1


def test_what_is_refused_again_can_be_replayed_again(rig: Rig) -> None:
    first = rig.refuse(1, headers=[("h", b"1")])
    rig.replay()
    again = rig.on("events")[0]
    second = rig.refuse(8, headers=again.headers)
    assert rig.letters()[1].notes == {"replayed": first}
    assert rig.replay() == Tally(matched=2, replayed=1, before=1)
    assert rig.on("events")[1].headers == (("h", b"1"), (PROVENANCE, second.encode()))


@pytest.mark.parametrize(
    ("topic", "partition", "why"),
    [("records", 0, "internal"), ("models", 0, "internal"), ("clicks", 0, "not a topic"), ("events", 3, "not there")],
)
def test_what_has_no_way_back_is_left_with_the_reason(rig: Rig, topic: str, partition: int, why: str) -> None:
    rig.refuse(1, topic, partition, reason="undecodable_batch")
    rig.refuse(1)
    tally = rig.replay()
    assert (tally.matched, tally.replayed, list(tally.left.values())) == (2, 1, [1])
    assert why in pages.result(tally, dry=False)
    assert [message.topic for message in rig.transactions[0]] == ["events", "decisions"]


def test_a_topic_that_was_deleted_is_an_obstacle_not_a_crash(rig: Rig) -> None:
    rig.refuse(1)
    without = MemoryLog(MemoryBroker({"decisions": 1}), "test")
    assert "headrace up" in (Obstacles(without).of(rig.letters()[0]) or "")


def test_a_message_at_the_limit_is_left_because_the_header_would_push_it_over(rig: Rig) -> None:
    rig.refuse(1, value=b"x" * (MAX_MESSAGE_BYTES - 100))
    rig.refuse(2, value=b"x" * (MAX_MESSAGE_BYTES - 5_000))
    tally = rig.replay()
    assert (tally.replayed, sum(tally.left.values())) == (1, 1)


def test_the_result_is_one_line() -> None:
    assert pages.result(Tally(matched=14, replayed=12, before=2), dry=False) == (
        "replayed 12 of 14; 2 had been replayed before"
    )
    assert pages.result(Tally(matched=1, replayed=1), dry=True) == "would replay 1 of 1"


def test_original_names_the_place_that_the_letter_names(rig: Rig) -> None:
    rig.refuse(3, "labels", 1)
    made = original(rig.letters()[0])
    assert (made.topic, made.partition) == ("labels", 1)
