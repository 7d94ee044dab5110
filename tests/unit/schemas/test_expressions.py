import math
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from schemas.expressions import Expressions
from schemas.pipeline import parse
from schemas.sql import SqlError, compile_text
from schemas.sql_functions import Kind

COLUMNS: dict[str, Kind] = {"a": "number", "b": "number", "f": "boolean", "s": "text", "t": "time", "case": "number"}
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "a": pl.Float64,
    "b": pl.Int64,
    "f": pl.Boolean,
    "s": pl.String,
    "t": pl.Datetime("ms", "UTC"),
    "case": pl.Float64,
}
NEW_YEAR = datetime(2024, 1, 7, 23, 30, 15, 250_000, tzinfo=UTC)  # a Sunday


def evaluate(text: str, **values: object) -> object:
    row = {"a": 3.0, "b": 2, "f": True, "s": "Ab", "t": NEW_YEAR, "case": 1.0, **values}
    frame = pl.DataFrame([row], schema=SCHEMA)
    return frame.select(compile_text(text, COLUMNS).expr).item()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", 3.0),
        ('"case" + 1', 2.0),
        ("a + b * 2", 7.0),
        ("(a + b) * 2", 10.0),
        ("a - b - 1", 0.0),
        ("-a + +b", -1.0),
        ("- -a", 3.0),
        ("b / 4", 0.5),
        ("-a % 2", -1.0),
        ("mod(a, b)", 1.0),
        ("1.5e1 * a", 45.0),
        ("a > b", 1.0),
        ("a = 3 and not f or a <> 3", 0.0),
        ("not not f", 1.0),
        ("a between 1 and 3 and f", 1.0),
        ("a not between 1 and 3", 0.0),
        ("a in (1, 2 + 1)", 1.0),
        ("s not in ('x', 'y')", 1.0),
        ("s like 'A_'", 1.0),
        ("s like 'a%'", 0.0),
        ("s ilike 'a%'", 1.0),
        ("s not like '%.%'", 1.0),
        ("f is true", 1.0),
        ("f is not true", 0.0),
        ("a is not null", 1.0),
        ("case when a > 5 then 1 when a > 2 then 2 else 3 end", 2.0),
        ("case s when 'Ab' then 'yes' end", "yes"),
        ("case when a > 5 then 1 end", None),
        ("coalesce(null, a)", 3.0),
        ("nullif(a, 3)", None),
        ("nullif(a, 4)", 3.0),
        ("greatest(a, b, 7)", 7.0),
        ("least(a, b)", 2.0),
        ("abs(-a)", 3.0),
        ("ln(a / 3)", 0.0),
        ("log10(100 * a / a)", 2.0),
        ("sqrt(a * 3)", 3.0),
        ("power(a, b)", 9.0),
        ("round(a / 7, 2)", 0.43),
        ("round(a / 7)", 0.0),
        ("floor(a / 2) + ceil(a / 2) + trunc(-a / 2) + sign(-a)", 1.0),
        ("cast(f as double) + cast('2.5' as double) + 0 * a", 3.5),
        ("cast(s as double)", None),
        ("lower(s) || '-' || upper(s)", "ab-AB"),
        ("length(s) - 5", -3.0),
        ("substr(s, 2)", "b"),
        ("substring(s, 1, 1)", "A"),
        ("substr(s, 0, 2)", "A"),
        ("trim('  x ' || s)", "x Ab"),
        ("starts_with(s, 'A') and ends_with(s, 'b')", 1.0),
        ("s || 'it''s'", "Abit's"),
        ("extract(hour from t) * 100", 2_300.0),
        ("EXTRACT(DOW FROM t)", 0.0),
        ("extract(isodow from t)", 7.0),
        ("extract(doy from t)", 7.0),
        ("date_part('minute', t)", 30.0),
        ("extract(epoch from t) - 1704670215", 0.25),
        ("extract(year from t) * extract(month from t) + extract(day from t)", 2_031.0),
        ("t >= timestamp '2024-01-08T00:30:00+01:00'", 1.0),
        ("t is null", 0.0),
    ],
)
def test_expressions_mean_what_sql_says(text: str, expected: object) -> None:
    assert evaluate(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a / 0",
        "1 / (1 / (a - a))",
        "a % 0",
        "ln(0 * a)",
        "exp(ln(0 * a))",
        "ln(-a)",
        "sqrt(-a)",
        "power(-a, 0.5)",
        "exp(a * 1000)",
        "a * 1e308 * 1e308",
        "case when a / 0 > 1 then 1 end",
        "cast('inf' || substr(s, 9) as double)",
        "a + null",
    ],
)
def test_arithmetic_without_a_result_is_null(text: str) -> None:
    assert evaluate(text) is None


def test_logic_is_that_of_three_values() -> None:
    assert evaluate("f and a > 5", f=None) == 0.0
    assert evaluate("f or a > 1", f=None) == 1.0
    assert evaluate("f or a > 5", f=None) is None
    assert evaluate("f is true", f=None) == 0.0
    assert evaluate("f is not true", f=None) == 1.0
    assert evaluate("a in (1, 2)", a=None) is None
    assert evaluate("s like 'x'", s=None) is None
    assert evaluate("nullif(a, b)", b=None) == 3.0
    assert evaluate("a between 1 and 2", a=None) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("aa", "there is no field 'aa' in events.fields"),
        ("sa + tt", "there is no field 'sa'"),
        ('"A"', "there is no field 'A'"),
        ("sqr(a)", "there is no function sqr() (did you mean sqrt?)"),
        ("a +", "has 'the end' where a field"),
        ("a b", "is not understood from 'b' on"),
        ("(a", "needs ')' before 'the end'"),
        ("a as x", "names its result with AS"),
        ("a; drop", "has '; drop', which is not part"),
        ("a -- b", "has '-- b'"),
        ("1 + 1", "a constant cannot be a feature"),
        ("t", "is a timestamp: take a part of it"),
        ("t - t", "- needs a number, not a timestamp; write extract(epoch from ...)"),
        ("a + s", "+ needs a number, not a text; write cast(... as double)"),
        ("f + 1", "+ needs a number, not a boolean; write cast(... as double)"),
        ("a and f", "AND needs a boolean, not a number; compare it with something"),
        ("a = 'x'", "= mixes a number and a text"),
        ("f < f", "compares booleans with <"),
        ("case when a then 1 end", "WHEN needs a boolean, not a number"),
        ("case when f then 1 else 'x' end", "CASE mixes a number and a text"),
        ("case end", "where a value must stand"),
        ("coalesce(a, s)", "coalesce() mixes"),
        ("abs(s)", "abs() needs a number, not a text"),
        ("abs(a, b)", "abs() takes 1 arguments, not 2"),
        ("coalesce()", "coalesce() takes 1 to 100 arguments, not 0"),
        ("round(a, b)", "round() needs a whole number"),
        ("s like a", "LIKE needs a quoted pattern"),
        ("extract(hour from a)", "EXTRACT needs a timestamp, not a number"),
        ("extract(hou from t)", "no part 'hou' (did you mean hour?)"),
        ("cast(a as date)", "casts to date"),
        ("cast(t as double)", "extract(epoch from ...)"),
        ("t > timestamp '2024-01-01'", "no time zone: append Z"),
        ("t > timestamp 'x'", "is not a timestamp: write RFC 3339"),
        ("sum(a)", "it reads other events"),
        ("count(*)", "it reads other events"),
        ("lag(a) over (order by t)", "it reads other events"),
        ("a over (order by t)", "it reads other events"),
        ("now()", "changes from run to run"),
        ("random() + a", "changes from run to run"),
        ("t > current_timestamp", "changes from run to run"),
        ("(select a)", "has a subquery"),
        ("a in (select b)", "where a value must stand"),
        ("a is b", "write NULL, TRUE or FALSE"),
        ("a in ()", "has IN () without a value"),
        ("sqrt(" * 30 + "a" + ")" * 30, "is too large: split it"),
        ("a" + " % 2" * 30, "is too large: split it"),
        ("a" + " + 1" * 999, "is too large: split it"),
        ("*", "has '*' where"),
        ("a > 1 > 0", "is not understood from '>' on"),
        ("(" * 500 + "a" + ")" * 500, "nested more than 40 deep"),
        ("a" + " + a" * 3_000, "longer than 4000 characters"),
    ],
)
def test_what_cannot_be_a_feature_says_why(text: str, says: str) -> None:
    with pytest.raises(SqlError) as caught:
        compile_text(text, COLUMNS)
    assert says in str(caught.value)


WORDS = (
    "a b f s t ( ) , + - * / case when then else end not and or in like is null 'x' 1 extract from abs coalesce between"
)


@given(st.text(max_size=30) | st.lists(st.sampled_from(WORDS.split()), max_size=14).map(" ".join))
def test_any_text_compiles_or_says_why(text: str) -> None:
    try:
        expression = compile_text(text, COLUMNS)
    except SqlError:
        return
    frame = pl.DataFrame({"a": [1.0, None]}).select(
        "a", *(pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name != "a")
    )
    assert frame.select(expression.expr).height == 2


PIPELINE = parse("""
pipeline: p
task: binary
events:
  time: t
  fields:
    t: {type: timestamp}
    x: {type: number}
    n: {type: integer}
    f: {type: boolean, nullable: true}
    s: {type: category, nullable: true}
labels: {id: id, time: k, field: y, type: boolean, horizon: 1h}
features:
  ratio: x / n
  deep: power(ln(abs(x)), n) % 7 - sqrt(n)
  hour: extract(hour from t) * 100 - extract(doy from t)
  which: case when x > n then s when f then lower(s) else 'none' end
  flag: not f or s like '%a%' and n in (1, 2, 3)
  size: length(s) - 3 + cast(s as double)
  big: n * n * n + x * x
""")

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "t": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
            "x": st.floats(allow_nan=False, allow_infinity=False),
            "n": st.integers(-(2**63), 2**63 - 1),
            "f": st.none() | st.booleans(),
            "s": st.none() | st.text(max_size=5) | st.sampled_from(["1", "nan", "inf", "-1e999"]),
        }
    ),
    min_size=1,
    max_size=8,
)
TYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    "t": pl.Datetime("ms", "UTC"),
    "x": pl.Float64,
    "n": pl.Int64,
    "f": pl.Boolean,
    "s": pl.String,
}


@given(ROWS, st.integers(1, 4))
def test_a_batch_gives_what_its_slices_give(rows: list[dict[str, object]], size: int) -> None:
    frame, expressions = pl.DataFrame(rows, schema=TYPES), Expressions(PIPELINE)
    whole = expressions.compute(frame)
    parts = [expressions.compute(frame[i : i + size]) for i in range(0, len(frame), size)]
    assert_frame_equal(whole, pl.concat(parts), check_exact=True)


@given(ROWS)
def test_numbers_are_finite_doubles_or_null_whatever_the_values(rows: list[dict[str, object]]) -> None:
    result = Expressions(PIPELINE).compute(pl.DataFrame(rows, schema=TYPES))
    assert result.columns == list(PIPELINE.features)
    assert result.dtypes == [pl.String if n == "which" else pl.Float64 for n in result.columns]
    values = [v for n in result.columns if n != "which" for v in result[n] if v is not None]
    assert all(math.isfinite(value) for value in values)


def test_large_batches_give_what_their_slices_give() -> None:
    rows, draw = 4_001, np.random.default_rng(7)
    frame = pl.DataFrame(
        {
            "t": pl.Series(draw.integers(0, 2**40, rows)).cast(TYPES["t"]),
            "x": draw.normal(0, 100, rows),
            "n": draw.integers(-5, 50, rows),
            "f": draw.random(rows) > 0.5,
            "s": [("a", "B", "3", None)[i] for i in draw.integers(0, 4, rows)],
        },
        schema=TYPES,
    )
    expressions = Expressions(PIPELINE)
    cuts = [0, 1, 2, 9, 40, 777, 4_000, rows]
    parts = [expressions.compute(frame[a:b]) for a, b in pairwise(cuts)]
    assert_frame_equal(expressions.compute(frame), pl.concat(parts), check_exact=True)


def test_no_rows_give_no_rows_of_the_same_types() -> None:
    result = Expressions(PIPELINE).compute(pl.DataFrame(schema=TYPES))
    assert result.shape == (0, 7)
    assert result["which"].dtype == pl.String
