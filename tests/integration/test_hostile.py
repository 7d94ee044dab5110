"""Ten thousand hostile messages among good ones: each good one passes, each bad one is refused for what it is, and the
CPU of all of them stays within a bound."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle, islice

import pyarrow as pa
import pytest

from schemas import batch as b
from tests.integration.ingesting import Headers, Sent, benched, fields

GOOD, HOSTILE, LARGE = 300_000, 10_000, 10
SLOWER = 2.0
"""Most CPU of all, in times that of the good ones alone. A value of 5 MB alone costs some 20 ms as a dead letter."""
NUMBERS = [f"f{number}" for number in range(16)]
"""With these an event has twenty fields, as in the benchmark of ingestion."""

Attack = tuple[Callable[[bytes], bytes | None], Headers, str]
ARROW = [("content-type", b"application/vnd.apache.arrow.stream")]
LINES = [("content-type", b"application/x-ndjson")]
STRUCTURED = [("content-type", b"application/cloudevents+json")]
BINARY = [("ce_specversion", b"1.0"), ("ce_id", b"i"), ("ce_source", b"s")]


def swap(name: str, raw: bytes) -> Callable[[bytes], bytes]:
    """The event with the raw bytes in place of a value."""

    def swapped(value: bytes) -> bytes:
        event = json.loads(value)
        held = json.dumps(event.get(name)).encode()
        if name in event:
            return value.replace(b'"%s": %s' % (name.encode(), held), b'"%s": %s' % (name.encode(), raw))
        return value[:-1] + b', "%s": %s}' % (name.encode(), raw)

    return swapped


def batch(changes: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda value: changes(b.encode(pa.RecordBatch.from_pylist([json.loads(value)])))


def enveloped(value: bytes, **changes: object) -> bytes:
    event = {"specversion": "1.0", "id": "i", "source": "s", "type": "t", "data": json.loads(value)} | changes
    return json.dumps({name: each for name, each in event.items() if each is not None}).encode()


ATTACKS: list[Attack] = [
    (swap("who", b'"\xff\xfe"'), [], "invalid_utf8"),
    (swap("note", b'"\xed\xa0\x80"'), [], "invalid_utf8"),
    (swap("note", b'"\\ud800"'), [], "not_json"),
    (swap("amount", b"NaN"), [], "not_json"),
    (swap("amount", b"-Infinity"), [], "not_json"),
    (swap("amount", b"1e999"), [], "out_of_range"),
    (swap("amount", b"9" * 5_000), [], "out_of_range"),
    (swap("at", b"9" * 30), [], "out_of_range"),
    (swap("at", b"99999999999999999"), [], "out_of_range"),
    (swap("note", b"[" * 2_000 + b"]" * 2_000), [], "wrong_type"),
    (swap("note", b'{"a":' * 2_000 + b"1" + b"}" * 2_000), [], "wrong_type"),
    (lambda _: b"[" * 2_000 + b"]" * 2_000, [], "not_an_object"),
    (lambda _: b"[" * 100_000, [], "not_an_object"),
    (swap("amount", b'1, "amount": 2'), [], "duplicate_key"),
    (swap("colour", b'"red"'), [], "unknown_field"),
    (swap("amount", b"null"), [], "null_value"),
    (swap("amount", b'"1"'), [], "wrong_type"),
    (swap("order", b'""'), [], "out_of_range"),
    (lambda value: value[:-1], [], "not_json"),
    (lambda value: value + value, [], "not_json"),
    (lambda _: b"\0" * 40, [], "not_json"),
    (lambda _: b"\xff" * 40, [], "invalid_utf8"),
    (lambda _: None, [], "empty"),
    (lambda _: b"", [], "empty"),
    (lambda value: value, [("content-type", b"image/png")], "unsupported_content_type"),
    (lambda value: value, [("content-type", b"application/avro"), ("x", None)], "unsupported_content_type"),
    (lambda value: value, STRUCTURED, "invalid_envelope"),
    (lambda value: enveloped(value, specversion="0.3"), STRUCTURED, "invalid_envelope"),
    (lambda value: enveloped(value, id=None), STRUCTURED, "invalid_envelope"),
    (lambda value: enveloped(value, time="yesterday"), STRUCTURED, "invalid_envelope"),
    (lambda value: enveloped(value, id="@").replace(b'"@"', b"[" * 2_000), STRUCTURED, "invalid_envelope"),
    (lambda value: value, BINARY, "invalid_envelope"),
    (lambda value: value, [*BINARY, ("ce_type", b"\xff")], "invalid_envelope"),
    (lambda _: b"\n \r\n", LINES, "empty"),
    (lambda _: b"{", LINES, "not_json"),
    (batch(lambda stream: stream[: len(stream) // 2]), ARROW, "undecodable_batch"),
    (batch(lambda stream: stream.replace(b"who", b"wh\xff")), ARROW, "undecodable_batch"),
    (batch(lambda stream: stream.replace(b"amount", b"bmount")), ARROW, "unknown_field"),
    (lambda value: value, ARROW, "undecodable_batch"),
]
LARGEST: Attack = (lambda value: value[:-1] + b', "note": "' + b"x" * 5_000_000 + b'"}', [], "too_large")


def document(number: int) -> bytes:
    return json.dumps(fields(number, **dict.fromkeys(NUMBERS, number / 8))).encode()


def hostile() -> Iterator[tuple[Sent, str]]:
    """Each message with the reason for which it is to be refused."""
    every = HOSTILE // LARGE
    for number, usual in enumerate(islice(cycle(ATTACKS), HOSTILE)):
        large = number % every == 0 and number // every < LARGE
        attack, headers, reason = LARGEST if large else usual
        yield Sent(b"h%d" % number, attack(document(number)), headers), reason


def mixed() -> Iterator[Sent]:
    """Thirty good ones, a hostile one, and so on."""
    bad = (sent for sent, _ in hostile())
    for number in range(GOOD):
        yield Sent(b"", document(number))
        if number % (GOOD // HOSTILE) == 0:
            yield next(bad)


@pytest.mark.timeout(300)
def test_hostile_messages_are_refused_for_what_they_are_and_slow_nothing_down(kafka: str, unique: str) -> None:
    good = Counter(f"o{number}" for number in range(GOOD))
    with benched(kafka, f"{unique}a", NUMBERS) as clean:
        clean.send(Sent(b"", document(number)) for number in range(GOOD))
        alone = clean.work()
        assert Counter(clean.ids()) == good
    with benched(kafka, f"{unique}b", NUMBERS) as bench:
        bench.send(mixed())
        among = bench.work()
        assert Counter(bench.ids()) == good
        letters = bench.letters()
    print(f"CPU of {GOOD} good: {alone:.2f} s; with {HOSTILE} hostile: {among:.2f} s")
    wanted = {sent.key: (sent, reason) for sent, reason in hostile()}
    wrong: Counter[tuple[bytes, str, str]] = Counter()
    for letter in letters:
        sent, reason = wanted.pop(letter.sent.key)
        if letter.story.reason != reason:
            wrong[(sent.value or b"")[:80], reason, letter.story.reason] += 1
        assert letter.sent.value == sent.value
        assert letter.sent.headers == [(name, value or b"") for name, value in sent.headers]
    assert (wrong, wanted) == (Counter(), {})
    assert among <= SLOWER * alone
