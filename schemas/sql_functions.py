"""The functions of the expression language, each a type signature and a polars expression.

Arithmetic without a result is null at once (division by zero, ln(0), a root of a negative number);
a number too large for a double is null at the latest as the result of the expression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import polars as pl

Kind = Literal["number", "boolean", "text", "time", "null"]
Slot = Literal["number", "boolean", "text", "time", "whole", "any"]


class Term(NamedTuple):
    """A part of an expression: what computes it, its kind, and its value where it is a literal.

    `weight` counts the nodes of the polars tree, in which a guarded operand stands several times.
    """

    expr: pl.Expr
    kind: Kind
    weight: int = 1
    value: float | str | bool | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """Takes `slots` (`any` = one common kind for all of them), the last `optional` may be absent.

    With `many`, the slot repeats. `kind` is the result's; `any` means the arguments' own. The
    polars tree holds each argument up to `copies` times.
    """

    slots: tuple[Slot, ...]
    kind: Slot
    build: Callable[..., pl.Expr]
    optional: int = 0
    many: bool = False
    copies: int = 1


def only(condition: pl.Expr, expr: pl.Expr) -> pl.Expr:
    """The expression where the condition holds, else null."""
    return pl.when(condition).then(expr)


def finite(expr: pl.Expr) -> pl.Expr:
    """The expression where it is a finite number, else null."""
    return only(expr.is_finite(), expr)


def quotient(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """Division; null where the divisor is 0."""
    return left / only(right != 0, right)


def remainder(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """Remainder with the sign of the dividend, as in SQL; null where the divisor is 0."""
    divisor = only(right != 0, right)
    return left - divisor * (left / divisor).truncate()


def _positive(x: pl.Expr) -> pl.Expr:
    return only(x > 0, x)


def _substring(text: Term, start: Term, length: Term | None = None) -> pl.Expr:
    first = _whole(start)
    size = None if length is None else max(_whole(length) + min(first - 1, 0), 0)
    return text.expr.str.slice(max(first - 1, 0), size)


def _whole(term: Term) -> int:
    return int(term.value or 0)


def _numeric(name: str) -> Function:
    return Function(("number",), "number", lambda x: getattr(x.expr, name)())


def _log(base: float | None) -> Function:
    def build(x: Term) -> pl.Expr:
        return _positive(x.expr).log() if base is None else _positive(x.expr).log(base)

    return Function(("number",), "number", build, copies=2)


def _textual(name: str) -> Function:
    return Function(("text",), "text", lambda x: getattr(x.expr.str, name)())


def _round(x: Term, digits: Term | None = None) -> pl.Expr:
    return x.expr.round(0 if digits is None else min(max(_whole(digits), 0), 15))


def _power(x: Term, y: Term) -> pl.Expr:
    return finite(x.expr.pow(y.expr))


_POWER = Function(("number", "number"), "number", _power, copies=2)
_LENGTH = Function(("text",), "number", lambda x: x.expr.str.len_chars().cast(pl.Float64))
_SUBSTRING = Function(("text", "whole", "whole"), "text", _substring, optional=1)
_CEIL = _numeric("ceil")
_LN = _log(None)

FUNCTIONS: dict[str, Function] = {
    "abs": _numeric("abs"),
    "sign": _numeric("sign"),
    "floor": _numeric("floor"),
    "ceil": _CEIL,
    "ceiling": _CEIL,
    "trunc": _numeric("truncate"),
    "round": Function(("number", "whole"), "number", _round, optional=1),
    "sqrt": Function(("number",), "number", lambda x: only(x.expr >= 0, x.expr).sqrt(), copies=2),
    "exp": _numeric("exp"),
    "ln": _LN,
    "log10": _log(10),
    "log2": _log(2),
    "power": _POWER,
    "pow": _POWER,
    "mod": Function(("number", "number"), "number", lambda x, y: remainder(x.expr, y.expr), copies=4),
    "sin": _numeric("sin"),
    "cos": _numeric("cos"),
    "tan": _numeric("tan"),
    "greatest": Function(("any",), "any", lambda *x: pl.max_horizontal([t.expr for t in x]), many=True),
    "least": Function(("any",), "any", lambda *x: pl.min_horizontal([t.expr for t in x]), many=True),
    "coalesce": Function(("any",), "any", lambda *x: pl.coalesce([t.expr for t in x]), many=True),
    "nullif": Function(
        ("any", "any"),
        "any",
        lambda x, y: pl.when(x.expr.eq_missing(y.expr)).then(None).otherwise(x.expr),
        copies=2,
    ),
    "lower": _textual("to_lowercase"),
    "upper": _textual("to_uppercase"),
    "trim": _textual("strip_chars"),
    "length": _LENGTH,
    "char_length": _LENGTH,
    "substr": _SUBSTRING,
    "substring": _SUBSTRING,
    "starts_with": Function(("text", "text"), "boolean", lambda x, y: x.expr.str.starts_with(y.expr)),
    "ends_with": Function(("text", "text"), "boolean", lambda x, y: x.expr.str.ends_with(y.expr)),
}

_DOUBLE = pl.Float64
PARTS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "year": lambda t: t.dt.year(),
    "quarter": lambda t: t.dt.quarter(),
    "month": lambda t: t.dt.month(),
    "week": lambda t: t.dt.week(),
    "day": lambda t: t.dt.day(),
    "doy": lambda t: t.dt.ordinal_day(),
    "dow": lambda t: t.dt.weekday() % 7,
    "isodow": lambda t: t.dt.weekday(),
    "hour": lambda t: t.dt.hour(),
    "minute": lambda t: t.dt.minute(),
    "second": lambda t: t.dt.second(),
    "epoch": lambda t: t.dt.epoch("ms").cast(_DOUBLE) / 1_000,
}

_WINDOWED = "it reads other events; window features are not supported yet"
AGGREGATES = dict.fromkeys(
    [
        "sum",
        "avg",
        "mean",
        "count",
        "min",
        "max",
        "median",
        "stddev",
        "std",
        "variance",
        "var",
        "first",
        "last",
        "mode",
        "quantile",
        "corr",
        "lag",
        "lead",
        "rank",
        "dense_rank",
        "row_number",
        "ntile",
        "array_agg",
        "string_agg",
        "cumsum",
    ],
    _WINDOWED,
)
_UNSTABLE = "its value changes from run to run; a feature must be the same whenever it is computed"
UNSTABLE = dict.fromkeys(
    [
        "now",
        "random",
        "rand",
        "uuid",
        "gen_random_uuid",
        "current_timestamp",
        "current_date",
        "current_time",
        "localtime",
        "localtimestamp",
    ],
    _UNSTABLE,
)
