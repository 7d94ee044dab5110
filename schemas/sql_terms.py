"""The terms of an expression: what goes together, and the polars expression that it makes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl

from schemas.sql_functions import PARTS, Function, Kind, Slot, Term, quotient, remainder
from schemas.sql_tokens import SqlError, near

if TYPE_CHECKING:
    from collections.abc import Callable

HEAVIEST = 1_000
"""Most nodes of one polars tree; evaluating 1,000 for 4,000 rows takes about 0.1 s."""

COMPARE: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
ARITHMETIC: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": quotient,
    "%": remainder,
}
COPIES = {"/": 2, "%": 4}
_ARTICLE = {"number": "a number", "boolean": "a boolean", "text": "a text", "time": "a timestamp"}


def one_of(left: Term, items: list[Term]) -> Term:
    """Whether a term equals one of the items; null where that hangs on a null."""
    values = [item.value for item in items]
    if None not in values:
        return Term(left.expr.is_in(values), "boolean", left.weight + 1)
    found = pl.any_horizontal([left.expr == item.expr for item in items])
    return made(found, "boolean", *items, *[left] * len(items))


def made(expr: pl.Expr, kind: Kind, *parts: Term, copies: int = 1) -> Term:
    """A term made of parts; SqlError where its tree is too large to be evaluated in good time."""
    weight = 1 + copies * sum(part.weight for part in parts)
    if weight > HEAVIEST:
        raise SqlError("is too large: split it into several features")
    return Term(expr, kind, weight)


def choose(conditions: list[Term], results: list[Term], otherwise: Term) -> Term:
    """The result of the first condition that holds."""
    kind = common([*results, otherwise], "CASE")
    expr = otherwise.expr
    for condition, result in zip(reversed(conditions), reversed(results), strict=True):
        expr = pl.when(condition.expr).then(result.expr).otherwise(expr)
    return made(expr, kind, *conditions, *results, otherwise)


def must(term: Term, kind: Kind, where: str) -> Term:
    """The term, if it is of that kind or null; SqlError says where it is not."""
    if term.kind not in {kind, "null"}:
        mend = _mend(term.kind, kind)
        raise SqlError(f"{where} needs {_ARTICLE[kind]}, not {_ARTICLE[term.kind]}{mend}")
    return term


def _mend(given: Kind, wanted: Kind) -> str:
    if wanted == "number" and given == "time":
        return "; write extract(epoch from ...) for its seconds"
    if wanted == "number":
        return "; write cast(... as double)"
    return "; compare it with something" if wanted == "boolean" else ""


def common(terms: list[Term], where: str) -> Kind:
    """The one kind of all terms, nulls aside; SqlError says where they differ."""
    kinds = {term.kind for term in terms} - {"null"}
    if len(kinds) > 1:
        mixed = " and ".join(sorted(_ARTICLE[kind] for kind in kinds))
        raise SqlError(f"{where} mixes {mixed}")
    return kinds.pop() if kinds else "null"


def apply(name: str, function: Function, arguments: list[Term]) -> Term:
    """A function's result; SqlError where the arguments do not suit it."""
    most = len(function.slots) if not function.many else 100
    least = len(function.slots) - function.optional
    if not least <= len(arguments) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise SqlError(f"{name}() takes {wanted} arguments, not {len(arguments)}")
    slots = function.slots * len(arguments) if function.many else function.slots
    for slot, term in zip(slots, arguments, strict=False):
        _fits(name, slot, term)
    shared = common([t for s, t in zip(slots, arguments, strict=False) if s == "any"], f"{name}()")
    kind: Kind = shared if function.kind in {"any", "whole"} else function.kind  # type: ignore[assignment]
    return made(function.build(*arguments), kind, *arguments, copies=function.copies)


def _fits(name: str, slot: Slot, term: Term) -> None:
    if slot == "whole":
        if not isinstance(term.value, float) or not term.value.is_integer():
            raise SqlError(f"{name}() needs a whole number, written out, as a later argument")
    elif slot != "any":
        must(term, slot, f"{name}()")


def part(name: str, term: Term) -> Term:
    """A part of a timestamp in UTC, such as its hour."""
    if name.lower() not in PARTS:
        hint = near(name.lower(), PARTS) or f" (the parts are {', '.join(PARTS)})"
        raise SqlError(f"a timestamp has no part {name!r}{hint}")
    expr = must(term, "time", "EXTRACT").expr
    return made(PARTS[name.lower()](expr).cast(pl.Float64), "number", term)


def regex(pattern: str, ignore_case: bool) -> str:
    """The regular expression of a LIKE pattern: % is any text, _ any character."""
    parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern)
    return f"(?s{'i' if ignore_case else ''})^{''.join(parts)}$"
