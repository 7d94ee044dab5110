"""The fast path and the contract agree about every message: what they accept, and what it then says."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
import pyarrow as pa
import pytest
from pydantic import BaseModel, ValidationError

from schemas.contract import event_model, label_model
from schemas.events import Decoder, Reason, Rejection, event_type, label_columns, label_type, to_columns
from schemas.pipeline import parse
from schemas.refusals import Refusals
from schemas.spec import Pipeline

PIPELINE = parse("""
pipeline: p
task: binary
events:
  id: id
  time: at
  entity: class
  fields:
    at: {type: timestamp}
    class: {type: category, max_length: 8}
    price: {type: number, min: 0, max: 100, unit: EUR}
    load: {type: number}
    low: {type: number, min: -0.1, nullable: true}
    high: {type: number, max: 1.0e+300, nullable: true}
    count: {type: integer, min: -1.5, max: 7.5}
    wide: {type: integer}
    huge: {type: integer, min: 9.0e+18, nullable: true}
    few: {type: integer, max: 3, nullable: true}
    flag: {type: boolean}
    copy: {type: boolean, nullable: true}
    size: {type: category, values: [small, large, "é"]}
    shade: {type: category, values: [dark], nullable: true}
    model_config: {type: category, nullable: true}
    note: {type: text}
    short: {type: text, max_length: 5}
    json: {type: text, max_length: 1, nullable: true}
    seen: {type: timestamp}
    later: {type: timestamp, nullable: true}
labels:
  id: id
  time: known
  field: up
  type: category
  values: [DOWN, UP]
  horizon: 1h
features: {price: price}
""")

EVENT = {
    "id": '"e1"',
    "at": "1700000000000",
    "class": '"x"',
    "price": "3",
    "load": "-2.5e3",
    "low": "null",
    "high": "0.1",
    "count": "7",
    "wide": "5",
    "few": "3",
    "flag": "true",
    "copy": "false",
    "size": '"small"',
    "shade": '"dark"',
    "note": '"a: b"',
    "short": '"12345"',
    "json": '"j"',
    "seen": '"2024-02-29T12:00:00.5+02:00"',
    "later": "-1",
}
LABEL = {"id": '"e1"', "class": '"x"', "known": '"2024-01-01T00:00:00Z"', "up": '"UP"'}

LARGEST = int(1.7976931348623157e308)
NUMBERS = [
    *("0", "-0", "-0.0", "1", "-1", "-1.5", "7", "7.5", "8", "-2", "1.0", "1e2", "1E+2", "3", "4", "1e3", "12e-1"),
    *("1e999", "-1e999", "1e-400", "5e-324", "2.4e-324", "1.7976931348623157e308", "1.7976931348623159e308"),
    *("100", "100.0", "100.00000000000001", "99.99999999999999", "100.000000000000005", "-0.1", "-0.10000000000000002"),
    *(str(2**n + add) for n in (31, 32, 53, 63, 64, 65) for add in (-1, 0, 1)),
    *(str(-(2**n) + add) for n in (53, 63, 64) for add in (-1, 0, 1)),
    *("9000000000000000000", "8999999999999999999", "9" * 30, "-" + "9" * 30, "9" * 308, "9" * 309, "1" * 5_000),
    *(str(LARGEST), str(LARGEST + 10**290), str(LARGEST + 10**292), str(-LARGEST - 10**293), "1" * 399, "1" * 401),
    *("-62135596800000", "-62135596800001", "253402300799999", "253402300800000", "1700000000000.0", "1.7e12"),
    *("0." + "1" * 1_000, "0.1" + "0" * 900 + "1", "9007199254740993.0", "0.30000000000000004", "1" + "0" * 22),
    *("NaN", "-NaN", "nan", "Infinity", "-Infinity", "01", "-01", "+1", "1.", "1e", ".5", "0x10", "1_000", "-", "--1"),
]
TEXTS = [
    *('""', '"a"', '"small"', '"Small"', '"sm\\u0061ll"', '"é"', '"e\u0301"', '"\\u00e9"', '"dark"', '"DOWN"', '"1"'),
    *('"true"', '"null"', '"NaN"', '"12345"', '"123456"', '"12345678"', '"123456789"', '"a:b"', '"\\":1"', '" "'),
    *('"\\ud83d\\ude00"', '"😀😀😀😀😀"', '"😀😀😀😀😀😀"', '"\\ud800"', '"\\udc00x"', '"\\ud800\\u0041"', '"\\u0000"'),
    *(
        '"a\x01"',
        '"a\nb"',
        '"\x7f"',
        '"\\x"',
        '"\\u00"',
        '"\\',
        '"a',
        "'a'",
        '"' + "x" * 256 + '"',
        '"' + "x" * 257 + '"',
    ),
    *('"\u2028"', '"\ufeff"', '"\\/"', '"\\b\\f\\n\\r\\t"', '"\udcff"', '"\udced\udca0\udc80"', '"\udcc0\udc80"'),
]
OTHERS = [
    *("true", "false", "null", "True", "tru", "undefined", "", "1,2", "// c", "[]", "{}", "[1]", '{"a":1}'),
    *('{"a":1,"a":2}', '["\\ud800"]', "[1e999]", "[NaN]", "[1", "[" * 300 + "]" * 300, "[" * 2_000 + "]" * 2_000),
    *('{"a":' * 2_000 + "1" + "}" * 2_000, "[" * 3_000, " 1 ", "\t1\n", "\x0b1", "\u00a01"),
]
ROUNDS, SEED = 105_000, 20_261_121


OFFSETS = ("Z", "z", "+00:00", "-00:00", "+0000", "+00", "+01:30", "-23:59", "+23:59", "+24:00", "+14:60", "-0:30")
YEARS = ["-62135596800000", "-62135596800001", "253402300799999", "253402300800000", "0", "-1"]
EDGES = {
    "id": ['""', '"x"', '"' + "x" * 256 + '"', '"' + "é" * 256 + '"', '"' + "x" * 257 + '"'],
    "class": ['""', '"12345678"', '"123456789"', '"😀😀😀😀😀😀😀😀"', '"😀😀😀😀😀😀😀😀😀"'],
    "price": ["0", "-0.0", "-5e-324", "100", "1e2", "100.000000000000005", "100.00000000000001", "100.5", "101"],
    "low": ["-0.1", "-0.100000000000000001", "-0.10000000000000002", "-1", "null"],
    "high": ["1e300", "1.00000000000000001e300", "1.0000000000000003e300", "2e300", "null", "1" + "0" * 300],
    "count": ["-1", "-2", "7", "8"],
    "wide": [str(sign * 2**63 + add) for sign in (-1, 1) for add in (-1, 0, 1)],
    "huge": ["9000000000000000000", "8999999999999999999", str(2**63 - 1), str(2**63), "null"],
    "few": ["3", "4", "null"],
    "size": ['"small"', '"large"', '"é"', '"e\u0301"', '"SMALL"', '""'],
    "shade": ['"dark"', '"light"', "null"],
    "up": ['"UP"', '"DOWN"', '"up"', "true"],
    "short": ['"12345"', '"123456"', '"😀😀😀😀😀"', '"\\ud83d\\ude00\\ud83d\\ude002345"'],
    "json": ['""', '"j"', '"jj"', '"\\ud83d\\ude00"', "null"],
    **dict.fromkeys(("at", "seen", "later", "known"), YEARS),
}


def moment(rng: random.Random) -> str:
    """A time that is RFC 3339, or nearly so."""
    year = rng.choice(["0000", "0001", "1969", "2024", "2023", "9999", "10000", "24"])
    month, day = rng.choice(["01", "02", "12", "13", "1"]), rng.choice(["00", "01", "28", "29", "30", "31", "32", "1"])
    time = ":".join(
        rng.choice(part) for part in (["00", "23", "24", "7"], ["00", "59", "60"], ["00", "59", "60", "61"])
    )
    fraction = rng.choice(["", "", ".", ".1", ".000", ".9999999", ".123456", ".1234567", ",5", "." + "9" * 30])
    offset = rng.choice([*OFFSETS, "", " Z"])
    return f'"{year}-{month}-{day}{rng.choice("TTTt _")}{time}{fraction}{offset}"'


def calendar(rng: random.Random) -> str:
    """A time that is RFC 3339, but for its day perhaps."""
    hour, minute, second = rng.randrange(24), rng.randrange(60), rng.randrange(60)
    date = f"{rng.choice([1, 1900, 2000, 2023, 2024, 9999]):04}-{rng.randint(1, 12):02}-{rng.randint(1, 31):02}"
    offset = rng.choice(["Z", f"{rng.choice('+-')}{rng.randrange(24):02}:{rng.randrange(60):02}"])
    return f'"{date}T{hour:02}:{minute:02}:{second:02}{rng.choice(["", f".{rng.randrange(10**7)}"])}{offset}"'


def decimal(rng: random.Random) -> str:
    """A number with many digits."""
    return f"{rng.choice(['', '-'])}{rng.randrange(10 ** rng.randint(1, 25))}.{rng.randrange(10 ** rng.randint(1, 25))}"


VALUES: list[Callable[[random.Random], str]] = [
    *[lambda rng: rng.choice(NUMBERS)] * 3,
    *[lambda rng: rng.choice(TEXTS)] * 2,
    lambda rng: rng.choice(OTHERS),
    *(moment, calendar, calendar, decimal),
    lambda _: "null",
]
Members = list[tuple[str, str]]


def replace(rng: random.Random, members: Members) -> None:
    at = rng.randrange(len(members))
    members[at] = (members[at][0], rng.choice(VALUES)(rng))


def aim(rng: random.Random, members: Members) -> None:
    at = rng.randrange(len(members))
    name, value = members[at]
    members[at] = (name, rng.choice(EDGES.get(name, [value])))


def exchange(rng: random.Random, members: Members) -> None:
    at = rng.randrange(len(members))
    members[at] = (members[at][0], rng.choice(members)[1])


def drop(rng: random.Random, members: Members) -> None:
    if len(members) > 1:
        del members[rng.randrange(len(members))]


def rename(rng: random.Random, members: Members) -> None:
    at = rng.randrange(len(members))
    name, value = members[at]
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in name)
    members[at] = (
        rng.choice([escaped, name.upper(), name[::-1], name + " ", "", "\\ud800", "field_0", name[:-1]]),
        value,
    )


def repeat(rng: random.Random, members: Members) -> None:
    name, value = rng.choice(members)
    members.insert(rng.randrange(len(members) + 1), (name, rng.choice([value, rng.choice(VALUES)(rng)])))


def add(rng: random.Random, members: Members) -> None:
    members.append(
        (rng.choice(["huge", "model_config", "new"]), rng.choice([rng.choice(VALUES)(rng), "9000000000000000000"]))
    )


CHANGES = [*[aim] * 6, *[replace] * 4, exchange, exchange, drop, rename, repeat, add, add]
BLANKS = ["", "", "", " ", "\n", "\t", "\r", "\x0b", "\u00a0"]


def damaged(rng: random.Random, value: bytes) -> bytes:
    """The bytes cut, or with some of them put in, taken out or replaced."""
    start, end = sorted(rng.randrange(len(value) + 1) for _ in range(2))
    noise = rng.choice([b"\xff", b"\x00", b'"', b",", b":", b"}", b"{", b"\\", b"1", b"\xc3", b"\xed\xa0\x80", b" "])
    return rng.choice(
        [
            value[:start],
            value[:start] + noise + value[start:],
            value[:start] + noise + value[start + 1 :],
            value[:start] + value[min(end, start + 3) :],
            b"\xef\xbb\xbf" + value,
            value + noise,
            b"[" + value + b"]",
            value.decode(errors="replace").encode("utf-16"),
        ]
    )


def mutated(rng: random.Random, good: dict[str, str]) -> bytes:
    """A good message after none to three changes of its members, and sometimes of its bytes."""
    members = list(good.items())
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        rng.choice(CHANGES)(rng, members)
    if rng.random() < 0.1:
        rng.shuffle(members)
    blank = rng.choice(BLANKS) if rng.random() < 0.1 else ""
    text = "{" + ",".join(f'"{name}"{blank}:{blank}{value}' for name, value in members) + "}"
    value = text.encode("utf-8", "surrogateescape")
    return damaged(rng, value) if rng.random() < 0.05 else value


def messages(good: dict[str, str], rounds: int) -> Iterator[bytes]:
    rng = random.Random(SEED)  # noqa: S311 - repeatable, not secret
    return (mutated(rng, good) for _ in range(rounds))


KINDS = [
    pytest.param(EVENT, event_type, event_model, to_columns, ROUNDS * 9 // 10, id="events"),
    pytest.param(LABEL, label_type, label_model, label_columns, ROUNDS // 10, id="labels"),
]


FOUND = [
    Reason.NOT_JSON,
    Reason.INVALID_UTF8,
    Reason.DUPLICATE_KEY,
    Reason.MISSING_FIELD,
    Reason.UNKNOWN_FIELD,
    Reason.NULL_VALUE,
    Reason.WRONG_TYPE,
    Reason.OUT_OF_RANGE,
]


def holds_a_key_twice(value: bytes) -> bool:
    keys = [key for key, _ in json.loads(value, object_pairs_hook=list)]
    return len(set(keys)) < len(keys)


def by_pydantic_alone(model: type[BaseModel], value: bytes) -> BaseModel | None:
    """What pydantic makes of the bytes with its own reader of JSON."""
    try:
        return model.model_validate_json(value)
    except ValidationError:
        return None


@pytest.mark.parametrize(("good", "struct", "contract", "columns", "rounds"), KINDS)
def test_the_fast_path_and_the_contract_accept_the_same_messages_and_read_the_same_in_them(
    good: dict[str, str],
    struct: Callable[[Pipeline], type[msgspec.Struct]],
    contract: Callable[[Pipeline], type[BaseModel]],
    columns: Callable[[list[msgspec.Struct], Pipeline], list[pa.Array]],
    rounds: int,
) -> None:
    record, model = struct(PIPELINE), contract(PIPELINE)
    decode, refusals = Decoder(record, model).decode, Refusals(model)
    fast, slow, codes = [], [], Counter[Reason]()
    for value in filter(None, messages(good, rounds)):
        found, alone = decode(value), by_pydantic_alone(model, value)
        if isinstance(found, Rejection):
            assert (found.code, found.path) != (Reason.WRONG_TYPE, "$"), f"only the fast path refuses {value[:2_000]!r}"
            assert alone is None or holds_a_key_twice(value), value[:2_000]
            codes.update({error.code for error in found.errors})
        else:
            assert refusals.of_bytes(value) == (), value[:2_000]
            assert alone is not None, value[:2_000]
            fast.append(found)
            slow.append(record(**alone.model_dump(by_alias=True)))
    assert len(fast) > rounds // 10
    assert min(codes[code] for code in FOUND) > rounds // 1_000, codes
    for ours, theirs in zip(columns(fast, PIPELINE), columns(slow, PIPELINE), strict=True):
        assert ours.equals(theirs)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_many_messages_at_once_are_read_as_one_by_one(share: float) -> None:
    """With duplicates among them that another message's missing field could hide when keys are counted together."""
    decoder, rng = Decoder(event_type(PIPELINE), event_model(PIPELINE)), random.Random(SEED)  # noqa: S311
    valid = [value for value in messages(EVENT, 4_000) if not isinstance(decoder.decode(value), Rejection)]
    mixed = [each if rng.random() >= share else mutated(rng, EVENT) for each in valid]
    for start in range(0, len(mixed), 97):
        chunk = [*mixed[start : start + 97], None]
        assert decoder.decode_all(chunk) == [decoder.decode(value) for value in chunk]
