"""What becomes of a file's rows: events and late labels, in the order in which they are known."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from headrace.errors import WrongUse
from headrace.files import Input, Options, messages, read
from schemas.events import Rejection, event_decoder, label_decoder
from schemas.pipeline import Pipeline, parse

PIPELINE = """
pipeline: power
task: binary
events:
  id: event_id
  time: at
  entity: region
  fields:
    at: {type: timestamp}
    region: {type: category}
    price: {type: number, nullable: true}
    count: {type: integer}
    open: {type: boolean}
labels: {id: event_id, time: known_at, field: up, type: category, values: [DOWN, UP], horizon: 24h}
features: {price: price}
"""
SPEC = parse(PIPELINE)
BARE = parse(
    "pipeline: bare\ntask: binary\nevents: {id: id, fields: {x: {type: number}}}\n"
    "labels: {id: id, field: y, type: boolean, horizon: 1h}\nfeatures: {x: x}\n"
)
MINUTE = 60_000


def table(rows: int = 4, **changed: Any) -> pl.DataFrame:
    columns: dict[str, Any] = {
        "at": [1_000_000 + i * MINUTE for i in range(rows)],
        "region": ["007"] * rows,
        "price": [i / 2 for i in range(rows)],
        "count": list(range(rows)),
        "open": [True] * rows,
        "up": ["UP", "DOWN"] * (rows // 2) + ["UP"] * (rows % 2),
    }
    return pl.DataFrame({**columns, **changed})


def made(frame: pl.DataFrame, spec: Pipeline = SPEC, **options: str | bool) -> list[Input]:
    return list(messages(frame, spec, Options.of(**options)))  # type: ignore[arg-type]


def order(inputs: list[Input], id_field: str = "event_id") -> list[str]:
    return [f"{each.kind[0]}{json.loads(each.value)[id_field].removeprefix('row-')}" for each in inputs]


def test_every_message_is_valid_for_the_pipeline() -> None:
    decoders = {"events": event_decoder(SPEC), "labels": label_decoder(SPEC)}
    for each in made(table(price=[1.5, None, float("nan"), 2.0])):
        assert not isinstance(decoders[each.kind].decode(each.value), Rejection), each


def test_a_label_follows_the_event_that_is_so_many_rows_later() -> None:
    assert order(made(table(), delay="2rows")) == ["e0", "e1", "e2", "l0", "e3", "l1", "l2", "l3"]


def test_a_label_follows_the_first_event_as_late_as_its_time() -> None:
    assert order(made(table(), delay="1m")) == ["e0", "e1", "l0", "e2", "l1", "e3", "l2", "l3"]
    assert order(made(table(), delay="61s")) == ["e0", "e1", "e2", "l0", "e3", "l1", "l2", "l3"]


def test_a_label_never_comes_before_its_event_even_where_times_step_back() -> None:
    at = [9 * MINUTE, 0, MINUTE, 2 * MINUTE]
    sent = order(made(table(at=at), delay="1m"))
    assert all(sent.index(f"e{i}") < sent.index(f"l{i}") for i in range(4))


def test_a_label_is_known_when_its_row_or_time_has_come() -> None:
    first, last = (
        [json.loads(each.value)["known_at"] for each in made(table(), delay=delay) if each.kind == "labels"]
        for delay in ("2rows", "2m")
    )
    assert first == last == [1_000_000 + i * MINUTE for i in (2, 3, 4, 5)]


def test_ids_count_rows_and_may_have_a_prefix() -> None:
    ids = [json.loads(each.value)["event_id"] for each in made(table(), prefix="a-", labels=False)]
    assert ids == ["a-0", "a-1", "a-2", "a-3"]


def test_an_id_in_the_file_is_kept() -> None:
    sent = made(table(event_id=["w", "x", "y", "z"]))
    assert json.loads(sent[0].value)["event_id"] == json.loads(sent[1].value)["event_id"] == "w"


def test_the_key_is_the_entity_or_else_the_id() -> None:
    assert {each.key for each in made(table())} == {b"007"}
    assert [each.key for each in made(pl.DataFrame({"x": [1.0], "y": [1]}), BARE)] == [b"row-0", b"row-0"]


def test_times_can_be_counted_where_the_file_has_none() -> None:
    sent = made(table().drop("at"), start="2026-01-01T00:00:00Z", every="30m", labels=False)
    assert [each.time for each in sent[:2]] == [1_767_225_600_000, 1_767_227_400_000]


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00Z", "2026-01-01 00:00:00", "2026-01-01T00:00:00.000+00:00"])
def test_times_may_be_written_in_the_usual_ways(text: str) -> None:
    assert made(table(at=[text] * 4), labels=False)[0].time == 1_767_225_600_000


def test_a_row_without_a_label_sends_none() -> None:
    assert order(made(table(up=["UP", None, "DOWN", "UP"]))) == ["e0", "l0", "e1", "e2", "l2", "e3", "l3"]


def test_the_label_may_come_from_another_column() -> None:
    sent = made(table().rename({"up": "class"}), label="class")
    assert json.loads(sent[1].value)["up"] == "UP"


def test_the_same_rows_give_the_same_bytes() -> None:
    assert made(table(), delay="1m") == made(table(), delay="1m")


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "ndjson", "jsonl.gz", "parquet"])
def test_every_kind_of_file_gives_the_same_messages(tmp_path: Path, ending: str) -> None:
    path, frame = tmp_path / f"rows.{ending}", table()
    plain = path.with_name(path.name.removesuffix(".gz"))
    writers: dict[str, Callable[[Path], object]] = {".csv": frame.write_csv, ".parquet": frame.write_parquet}
    writers.get(plain.suffix, frame.write_ndjson)(plain)
    if path != plain:
        path.write_bytes(gzip.compress(plain.read_bytes()))
    assert made(read(path)) == made(frame)


@pytest.mark.parametrize(
    ("frame", "options", "said"),
    [
        (table().drop("price"), {}, "no column 'price'"),
        (table().rename({"price": "prise"}), {}, "did you mean prise?"),
        (table().drop("at"), {}, "--time COLUMN"),
        (table(), {"time": "when"}, "no column 'when'"),
        (table(at=["soon"] * 4), {}, "'soon' is no timestamp"),
        (table(at=[1, None, 3, 4]), {}, "row 1: an event needs a time"),
        (table(count=["1", "2", "x", "4"]), {}, "row 2: 'x' is no integer"),
        (table(count=[1.0, 2.5, 3.0, 4.0]), {}, "row 1: 2.5 is no integer"),
        (table(open=["yes"] * 4), {}, "'yes' is no boolean"),
        (table().drop("up"), {}, "no column 'up'"),
        (table(up=["UP", "SIDE", "UP", "UP"]), {}, "'SIDE', which is not among labels.values (DOWN, UP)"),
        (table(), {"time": "at", "start": "2026-01-01"}, "exclude each other"),
        (table(), {"start": "2026-01-01"}, "go together"),
        (table(), {"start": "soon", "every": "1m"}, "--start soon"),
        (table(), {"start": "2026-01-01", "every": "often"}, "--every: 'often' is not a duration"),
        (table(), {"delay": "late"}, "--label-delay"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_sent(
    frame: pl.DataFrame, options: dict[str, str], said: str
) -> None:
    with pytest.raises(WrongUse) as refusal:
        messages(frame, SPEC, Options.of(**options))  # type: ignore[arg-type]
    assert said in str(refusal.value)


def test_a_pipeline_without_times_takes_delays_in_rows_only() -> None:
    frame = pl.DataFrame({"x": ["1", "2", "3"], "y": ["true", "0", "False"]})
    assert order(made(frame, BARE, delay="1rows"), "id") == ["e0", "e1", "l0", "e2", "l1", "l2"]
    with pytest.raises(WrongUse, match="counts rows"):
        messages(frame, BARE, Options.of(delay="1m"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.xlsx", b"", "unknown kind of file"),
        ("rows.csv", b"", "is not a readable csv file"),
        ("rows.csv", b"a,b\n", "holds no rows"),
        ("rows.csv.gz", b"not gzip", "cannot be read"),
        ("rows.ndjson", b"{", "is not a readable ndjson file"),
        ("rows.parquet", b"PAR", "is not a readable parquet file"),
    ],
)
def test_an_unreadable_file_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WrongUse, match=said):
        read(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="no such file"):
        read(tmp_path / "none.csv")
