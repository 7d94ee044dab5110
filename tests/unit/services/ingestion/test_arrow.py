"""Arrow batches: the same contract as JSON, by row, in bounded memory, and no bytes that stop anybody."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import batch as b
from services.ingestion.domain import batches, ipc
from services.ingestion.domain.pieces import MOST_REFUSALS, cut
from services.ingestion.domain.reading import Read
from tests.unit.services.ingestion.reading_lab import (
    ALL,
    ARROW,
    LINES,
    OFFSET,
    ONE,
    TAKEN,
    column,
    message,
    read,
    reader,
    reasons,
    stream,
    table,
    times,
)

EVERY = reader(ALL)
PLACE = f"shop.events.v1/0/{OFFSET}"


def one(name: str, values: pa.Array) -> bytes:
    return stream(table(must=pa.array(range(len(values)), pa.int64()), **{name: values}))


@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        *(("n", pa.array([1, None, 3], kind), [1.0, None, 3.0]) for kind in (pa.int8(), pa.uint32(), pa.int64())),
        *(("n", pa.array([1.5, None], kind), [1.5, None]) for kind in (pa.float16(), pa.float32(), pa.float64())),
        ("n", pa.array([1.5, None, 1.5]).dictionary_encode(), [1.5, None, 1.5]),
        *(("whole", pa.array([1, None], kind), [1, None]) for kind in (pa.int8(), pa.int64(), pa.uint8(), pa.uint64())),
        ("whole", pa.array([2**63 - 1], pa.uint64()), [2**63 - 1]),
        ("whole", pa.array([7, None, 7]).dictionary_encode(), [7, None, 7]),
        ("flag", pa.array([True, None, False]), [True, None, False]),
        *(("kind", pa.array(["red", None], kind), ["red", None]) for kind in (pa.string(), pa.large_string())),
        ("kind", pa.array(["red", None, "red"], pa.string_view()), ["red", None, "red"]),
        ("kind", pa.array(["red", None, "red"]).dictionary_encode(), ["red", None, "red"]),
        ("kind", pa.array(["red", "blue"], pa.large_string()).dictionary_encode(), ["red", "blue"]),
        ("kind", pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.uint8()), pa.array([None, "red"])), [None, "red"]),
        ("words", pa.array(["é" * 5, "", "\0"], pa.large_string()), ["é" * 5, "", "\0"]),
        *((name, pa.nulls(2), [None, None]) for name in ("n", "whole", "flag", "kind", "words")),
    ],
)
def test_each_type_is_taken_in_every_arrow_type_that_means_it(name: str, values: pa.Array, wanted: object) -> None:
    found = read(one(name, values), ARROW, EVERY)
    assert (reasons(found), column(found, name)) == ([], wanted)
    assert found.batch.schema == EVERY.read([]).batch.schema


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        *((pa.array([-1, 0, None, 5], pa.timestamp("s", zone)), [-1000, 0, None, 5000]) for zone in ("UTC", "+02:00")),
        (pa.array([-1, 5], pa.timestamp("ms", "Europe/Vienna")), [-1, 5]),
        (pa.array([-1, -1000, -1001, 1999], pa.timestamp("us", "UTC")), [-1, -1, -2, 1]),
        (pa.array([-1, 10**6, None, 10**18], pa.timestamp("ns", "UTC")), [-1, 1, None, 10**12]),
        (pa.array([-1, None, 5], pa.int64()), [-1, None, 5]),
        (pa.array([3, 3], pa.timestamp("s", "UTC")).dictionary_encode(), [3000, 3000]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_times_are_milliseconds_rounded_down_as_those_of_json_are(values: pa.Array, wanted: object) -> None:
    found = read(one("moment", values), ARROW, EVERY)
    assert (reasons(found), times(found, "moment")) == ([], wanted)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("moment", [2**63 - 1, -(2**63) + 1, 2**62])
def test_a_time_that_is_none_is_refused_and_never_wrapped(unit: str, moment: int) -> None:
    found = read(one("moment", pa.array([0, moment], pa.timestamp(unit, "UTC"))), ARROW, EVERY)
    fits = unit == "ns"
    assert reasons(found) == ([] if fits else [(1, "out_of_range")])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("n", pa.array(["1"])),
        ("n", pa.array([True])),
        ("n", pa.array([1], pa.decimal128(5))),
        ("n", pa.array(["1"]).dictionary_encode()),
        ("whole", pa.array([1.0])),
        ("flag", pa.array([1])),
        ("kind", pa.array([b"red"])),
        ("kind", pa.array([["red"]])),
        ("kind", pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array([["red"]]))),
        ("words", pa.array([1])),
        ("words", pa.array([{f"a{i}": 1 for i in range(2_000)}])),
        ("words", pa.RunEndEncodedArray.from_arrays([1], ["red"])),
        ("moment", pa.array([0], pa.timestamp("ms"))),
        ("moment", pa.array([0], pa.int32())),
        ("moment", pa.array([0], pa.date32())),
        ("moment", pa.array(["2024-01-31T08:00:00Z"])),
    ],
)
def test_a_column_of_another_kind_is_refused_with_its_message(name: str, values: pa.Array) -> None:
    found = read(one(name, values), ARROW, EVERY)
    assert reasons(found) == [(0, "wrong_type")]
    (refused,) = found.refused
    assert (refused.reason.path, refused.message.value) == (f"$.{name}", one(name, values))
    assert len(refused.reason.message) <= 1_000


@pytest.mark.parametrize(
    ("sent", "reason", "path"),
    [
        (table(n=pa.array([1.0])), "missing_field", "$.must"),
        (table(must=pa.array([1]), nn=pa.array([1.0])), "unknown_field", "$.nn"),
        (table(**{"must": pa.array([1]), "x" * 100_000: pa.array([1])}), "unknown_field", "$.xx"),
        (table(**{f"c{i}": pa.array([1]) for i in range(20_000)}), "unknown_field", "$.c0"),
        (pa.table([pa.array([1])] * 2, names=["must", "must"]), "duplicate_key", "$"),
        (pa.table({}), "missing_field", "$.must"),
    ],
)
def test_columns_that_do_not_fit_the_pipeline_refuse_the_message(sent: pa.Table, reason: str, path: str) -> None:
    found = read(stream(sent), ARROW, EVERY)
    assert reasons(found) == [(0, reason)]
    assert found.refused[0].reason.path.startswith(path)
    assert len(found.refused[0].reason.path) <= 200
    assert found.refused[0].message.value == stream(sent)


def test_nullable_columns_may_be_absent_and_the_order_is_free() -> None:
    found = read(stream(table(moment=pa.array([3]), must=pa.array([1]))), ARROW, EVERY)
    assert (column(found, "n"), column(found, "must"), times(found, "moment")) == ([None], [1], [3])


def test_rows_are_named_by_their_number_over_all_batches_of_a_stream() -> None:
    parts = [pa.record_batch({"n": pa.array(values, pa.float64())}) for values in ([0.0, 1.0], [], [2.0])]
    found = read(stream(*parts), [*ARROW, ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")])
    assert column(found, b.ROW) == [0, 1, 2]
    assert column(found, b.EVENT_ID) == [PLACE, f"{PLACE}/1", f"{PLACE}/2"]
    assert times(found) == [TAKEN] * 3
    assert {str(each)[:6] for each in column(found, b.TRACEPARENT)} == {"00-aaa"}


def test_dictionaries_may_change_between_batches() -> None:
    schema = pa.schema([("must", pa.int64()), ("words", pa.dictionary(pa.int32(), pa.string()))])
    parts = [
        pa.record_batch([pa.array([1, 2]), pa.array(words).dictionary_encode()], schema=schema)
        for words in (["a", "b"], ["c", "b"])
    ]
    assert column(read(stream(*parts), ARROW, EVERY), "words") == ["a", "b", "c", "b"]


def test_a_stream_without_rows_is_nothing() -> None:
    found = read(stream(table(n=pa.array([], pa.float64()))), ARROW)
    assert (found.batch.num_rows, found.refused) == (0, [])


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_batches_are_read(compression: str) -> None:
    values = np.arange(5_000.0)
    assert column(read(stream(table(n=pa.array(values)), compression=compression), ARROW), "n") == values.tolist()


@pytest.mark.parametrize(
    "words",
    [
        pa.array(["fine", "too long", None]),
        pa.array(["fine", "too long", None], pa.large_string()),
        pa.array(["fine", "too long", None], pa.string_view()),
        pa.array(["fine", "too long", None]).dictionary_encode(),
    ],
)
def test_a_bad_row_is_refused_alone_in_a_letter_that_replays(words: pa.Array) -> None:
    value = stream(table(must=pa.array([1, 2, None]), words=words))
    found = read(value, ARROW, EVERY)
    assert (column(found, b.ROW), reasons(found)) == ([0], [(1, "out_of_range"), (2, "null_value")])
    for each, code in zip(found.refused, ["out_of_range", "null_value"], strict=True):
        assert (each.message.key, each.message.headers, each.message.offset) == (b"key", ARROW, OFFSET)
        again = read(each.message.value, ARROW, EVERY)
        assert (again.batch.num_rows, reasons(again)) == (0, [(0, code)])
    mended = read(found.refused[0].message.value, ARROW, reader(ALL.replace("max_length: 5", "max_length: 50")))
    assert column(mended, "words") == ["too long"]


def test_a_letter_of_one_row_does_not_carry_the_texts_of_the_others() -> None:
    long = pa.array(["y" * 100_000, "too long"])
    for words in (long, long.dictionary_encode(), long.cast(pa.string_view()), long.cast(pa.large_string())):
        found = read(stream(table(must=pa.array([1, 2]), words=words)), ARROW, EVERY)
        assert len(found.refused[1].message.value or b"") < 2_000


def test_a_whole_number_beyond_64_bits_is_refused_by_its_row() -> None:
    found = read(one("whole", pa.array([1, 2**63, 2**64 - 1, None], pa.uint64())), ARROW, EVERY)
    assert (column(found, "whole"), reasons(found)) == ([1, None], [(1, "out_of_range"), (2, "out_of_range")])


# --- bytes that mean harm -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
@pytest.mark.parametrize("broken", [b"\xff\xff\xff", b"\xed\xa0\x80", b"\xc0\x80!"])
def test_text_that_is_not_utf8_refuses_the_message(kind: pa.DataType, broken: bytes) -> None:
    value = one("words", pa.array(["abc"], kind)).replace(b"abc", broken)
    assert reasons(read(value, ARROW, EVERY)) == [(0, "undecodable_batch")]


def test_a_column_name_that_is_not_utf8_refuses_the_message() -> None:
    value = stream(table(must=pa.array([1]), zz=pa.array([1]))).replace(b"zz", b"\xff\xff")
    assert reasons(read(value, ARROW, EVERY)) == [(0, "undecodable_batch")]


@pytest.mark.parametrize("value", [None, b"", b"ARROW1", b"{}", b"\xff" * 100, b"\0" * 100])
def test_what_is_no_stream_is_refused(value: bytes | None) -> None:
    assert reasons(read(value, ARROW)) == [(0, "undecodable_batch")]


def view_bomb(rows: int, length: int) -> pa.Array:
    views = pa.py_buffer(struct.pack("<i4sii", length, b"yyyy", 0, 0) * rows)
    return pa.Array.from_buffers(pa.string_view(), rows, [None, views, pa.py_buffer(b"y" * length)])


def dictionary_bomb(rows: int, length: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["y" * length]))


@pytest.mark.parametrize(
    "value",
    [
        stream(table(n=pa.array(np.zeros(9_000_000))), compression="zstd"),
        stream(table(n=pa.array(np.zeros(9_000_000))), compression="lz4"),
        one("words", view_bomb(100_000, 1_000_000)),
        one("words", dictionary_bomb(100_000, 1_000_000)),
        stream(table(n=pa.nulls(ipc.MAX_ROWS + 1))),
        stream(*[pa.record_batch({"n": pa.nulls(ipc.MAX_ROWS // 2)})] * 3),
    ],
)
def test_a_message_that_swells_is_refused_before_it_does(value: bytes) -> None:
    before = pa.default_memory_pool().max_memory()
    by = EVERY if b"words" in value[:2_000] else reader()
    assert reasons(read(value, ARROW, by)) == [(0, "too_large")]
    assert pa.default_memory_pool().max_memory() <= max(before, 2 * ipc.MAX_BYTES)


WHOLE = [
    stream(table(n=pa.array([1.5, None]), must=pa.array([1, 2], pa.uint64()), moment=pa.array([1, 2]))),
    stream(table(must=pa.array([1, 2]), words=pa.array(["a", "b" * 20], pa.string_view())), compression="lz4"),
    stream(table(must=pa.array([1, 2]), words=pa.array(["a", "bb"]).dictionary_encode()), compression="zstd"),
    stream(table(must=pa.array([1]), moment=pa.array([1], pa.timestamp("s", "UTC")), kind=pa.array(["red"]))),
]


@pytest.mark.parametrize("value", WHOLE)
def test_a_stream_that_is_cut_anywhere_stops_nobody(value: bytes) -> None:
    for end in range(len(value)):
        found = read(value[:end], ARROW, EVERY)
        assert len(found.refused) <= 2


@settings(max_examples=1_500, deadline=None)
@given(
    value=st.sampled_from(WHOLE),
    wrong=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_a_stream_that_is_changed_anywhere_stops_nobody(value: bytes, wrong: list[tuple[float, int]]) -> None:
    changed = bytearray(value)
    for place, byte in wrong:
        changed[int(place * len(value))] = byte
    found = read(bytes(changed), ARROW, EVERY)
    assert found.batch.schema == EVERY.read([]).batch.schema


# --- laws ---------------------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CELLS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "n": (pa.float64(), st.none() | st.floats(-20, 20) | st.floats(allow_infinity=False, allow_nan=False)),
    "whole": (pa.uint64(), st.none() | st.integers(0, 2**64 - 1)),
    "flag": (pa.bool_(), st.none() | st.booleans()),
    "kind": (pa.string_view(), st.none() | st.sampled_from(["red", "blue", "green", ""])),
    "words": (pa.large_string(), st.none() | st.text(st.characters(codec="utf-8"), max_size=7)),
    "moment": (
        pa.timestamp("us", "UTC"),
        st.none() | st.integers(-(2**51), 2**51).map(lambda n: EPOCH + timedelta(microseconds=n)),
    ),
    "must": (pa.int16(), st.none() | st.integers(-200, 200)),
}
ROWS = st.lists(st.fixed_dictionaries({name: cells for name, (_, cells) in CELLS.items()}), min_size=1, max_size=12)


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return b"\n".join(msgspec.json.encode(row) for row in rows)


def as_arrow(rows: list[dict[str, Any]]) -> bytes:
    return stream(table(**{name: pa.array([row[name] for row in rows], kind) for name, (kind, _) in CELLS.items()}))


@settings(max_examples=400, deadline=None)
@given(rows=ROWS)
def test_the_same_rows_are_the_same_as_lines_and_as_arrow(rows: list[dict[str, Any]]) -> None:
    lines, arrow = read(as_lines(rows), LINES, EVERY), read(as_arrow(rows), ARROW, EVERY)
    assert reasons(lines) == reasons(arrow)
    assert lines.batch.equals(arrow.batch)


def test_what_json_cannot_say_is_out_of_range_in_arrow_as_in_json() -> None:
    found = read(stream(table(n=pa.array([1.0, float("nan"), float("inf"), -float("inf")]))), ARROW)
    assert reasons(found) == [(1, "out_of_range"), (2, "out_of_range"), (3, "out_of_range")]
    assert reasons(read(b'{"n": 1e999}')) == [(0, "out_of_range")]


KINDS = {"arrow": pa.float64(), "narrow": pa.float32()}
SHAPES = ("good", "bad", "lines", "arrow", "narrow", "nothing", "torn", "unknown")


def of_shape(offset: int, shape: str, good: list[bool]) -> tuple[Any, int]:
    """A message and how many rows it has, valid or not."""
    said = [b'{"n": 1}' if each else b'{"n": "1"}' for each in good]
    match shape:
        case "good" | "bad":
            return message(offset, b'{"n": 1}' if shape == "good" else b"{"), 1
        case "lines":
            return message(offset, b"\n".join(said), LINES), len(good)
        case "arrow" | "narrow":
            values = pa.array([1.0 if each else float("nan") for each in good], KINDS[shape])
            return message(offset, stream(table(n=values)), ARROW), len(good)
        case "nothing":
            return message(offset, stream(table(n=pa.array([], pa.float64()))), ARROW), 0
        case "torn":
            return message(offset, stream(table(n=pa.array([1.0])))[:-40], ARROW), 1
        case _:
            return message(offset, b"?", [("content-type", b"image/png")]), 1


@settings(max_examples=200, deadline=None)
@given(
    told=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(SHAPES), st.lists(st.booleans(), min_size=1, max_size=4)),
        max_size=30,
    )
)
def test_every_row_is_there_once_or_refused_once_and_both_ascend(told: list[tuple[int, str, list[bool]]]) -> None:
    runs: dict[int, list[Any]] = {}
    wanted = []
    for offset, (source, shape, good) in enumerate(told):
        sent, count = of_shape(offset, shape, good)
        runs.setdefault(source, []).append(sent)
        wanted += [(source, offset, row) for row in range(count)]
    found = reader(ONE).read(sorted(runs.items()))
    rows = list(zip(*(column(found, name) for name in (b.SOURCE, b.POSITION, b.ROW)), strict=True))
    refused = [(each.source, each.message.offset, each.row) for each in found.refused]
    assert rows == sorted(rows)
    assert refused == sorted(refused)
    assert sorted([*rows, *refused]) == sorted(wanted)


def refusals(found: Read) -> list[tuple[object, ...]]:
    """What is refused, with the row that its dead letter holds."""
    return [
        (each.source, each.message.offset, each.row, each.reason, str(b.decode(each.message.value).to_pydict()))
        for each in found.refused
    ]


@settings(max_examples=100, deadline=None)
@given(
    sent=st.lists(st.lists(st.sampled_from([1.0, -7.5, 99.0, float("nan")]), max_size=4), max_size=8),
    limit=st.integers(1, 12),
)
def test_neighbours_that_are_judged_together_are_the_rows_that_each_is_alone(
    sent: list[list[float]], limit: int
) -> None:
    by = reader("    n: {type: number, max: 50}")
    given = [message(n, stream(table(n=pa.array(each, pa.float64()))), ARROW) for n, each in enumerate(sent)]
    alone = [by.read([(0, [each])]) for each in given]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "MAX_ROWS", limit)
        together = by.read([(0, given)])
    for name in (b.EVENT_ID, b.POSITION, b.ROW, "n"):
        assert column(together, name) == [value for each in alone for value in column(each, name)]
    assert refusals(together) == [refused for each in alone for refused in refusals(each)]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_many_refusals_are_told_by_several_messages_in_the_order_of_the_rows(every: int) -> None:
    count = 3 * MOST_REFUSALS
    good = [row for row in range(count) if row % every == 1]
    identity = {b.SOURCE: pa.array(np.zeros(len(good), np.int16)), b.POSITION: pa.array(np.zeros(len(good), np.int64))}
    rows = pa.RecordBatch.from_pydict({**identity, b.ROW: pa.array(good, pa.int32())})
    refusals: list[tuple[int, b.Reject]] = [(0, (0, row, "empty")) for row in range(count) if row % every != 1]
    top, seen = -1, 0
    for piece in cut(rows, refusals):
        told = [*piece.rows.column(b.ROW).to_pylist(), *(row for _, row, _ in piece.rejects.get(0, []))]
        assert len(piece.rejects.get(0, [])) <= MOST_REFUSALS
        assert min(told) > top
        assert piece.lasts == {0: max(told)}
        top, seen = max(told), seen + len(told)
    assert seen == count


def test_a_time_in_json_is_rounded_as_one_in_arrow_is() -> None:
    moment = EPOCH - timedelta(microseconds=1)
    by = reader(f"{ONE}\n    moment: {{type: timestamp}}")
    arrow = read(stream(table(n=pa.array([1.0]), moment=pa.array([moment], pa.timestamp("us", "UTC")))), ARROW, by)
    text = read(b'{"n": 1, "moment": "1969-12-31T23:59:59.999999Z"}', (), by)
    assert times(arrow, "moment") == times(text, "moment") == [-1]
