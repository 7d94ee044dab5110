"""SQL expressions over one event, compiled to polars.

A feature's definition must mean the same for ever, on any batch size and in any release of polars,
and no event may crash it. polars' own SQL parser promises neither (`extract(hour from t) * 100`
overflows eight bits there, a cast can fail on data, aggregates mix rows), so the language is ours
and small: every number is a double, every function works on one row, and arithmetic without a
result (x / 0, ln(-1), an overflow) is null.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from schemas.sql_functions import (
    AGGREGATES,
    FUNCTIONS,
    PARTS,
    UNSTABLE,
    Function,
    Kind,
    Slot,
    Term,
    finite,
    quotient,
    remainder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LONGEST = 4_000
DEEPEST = 40
HEAVIEST = 1_000

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<text>'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")+")
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<op><=|>=|<>|!=|\|\||[-+*/%=<>(),])""",
    re.VERBOSE,
)
_KEYWORDS = frozenset(
    [
        "and",
        "or",
        "not",
        "is",
        "null",
        "true",
        "false",
        "between",
        "in",
        "like",
        "ilike",
        "case",
        "when",
        "then",
        "else",
        "end",
        "from",
        "as",
        "over",
        "filter",
        "select",
        "distinct",
        "timestamp",
        "where",
    ]
)
_COMPARE: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_ARITHMETIC: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": quotient,
    "%": remainder,
}
_COPIES = {"/": 2, "%": 4}
_ARTICLE = {"number": "a number", "boolean": "a boolean", "text": "a text", "time": "a timestamp"}


class SqlError(ValueError):
    """An expression that cannot be a feature; the text says why and what to write instead."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression: what computes it, what comes out, and the columns that it reads."""

    expr: pl.Expr
    kind: Kind
    columns: frozenset[str]


def compile_text(text: str, columns: Mapping[str, Kind]) -> Expression:
    """Compile one expression over columns of the given kinds; SqlError where it cannot be one.

    The result is a double (numbers, and booleans as 0 and 1) or a text.
    """
    if len(text) > LONGEST:
        raise SqlError(f"is longer than {LONGEST} characters: split it into several features")
    parser = _Parser(_tokens(text), columns)
    term = parser.whole()
    if not parser.read:
        raise SqlError("reads no field of the event: a constant cannot be a feature")
    return Expression(_result(term), term.kind, frozenset(parser.read))


def _result(term: Term) -> pl.Expr:
    if term.kind == "time":
        raise SqlError("is a timestamp: take a part of it, such as extract(hour from ...)")
    if term.kind == "number":
        return finite(term.expr.cast(pl.Float64))
    return term.expr.cast(pl.Float64 if term.kind == "boolean" else pl.String)


class _Token(NamedTuple):
    kind: str
    text: str

    @property
    def lower(self) -> str:
        return self.text.lower() if self.kind in {"word", "op"} else ""


_END = _Token("end", "the end")


def _tokens(text: str) -> list[_Token]:
    found, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or text.startswith("--", position):
            raise SqlError(f"has {text[position:][:10]!r}, which is not part of an expression")
        if match.lastgroup != "space":
            found.append(_Token(str(match.lastgroup), match[0]))
        position = match.end()
    return found


def _near(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


class _Parser:
    """Recursive descent, one method per level of precedence, loosest first."""

    def __init__(self, tokens: list[_Token], columns: Mapping[str, Kind]) -> None:
        self._tokens = tokens
        self._columns = columns
        self._at = 0
        self._depth = 0
        self.read: set[str] = set()

    def whole(self) -> Term:
        """The one expression that the text must be."""
        if not self._tokens:
            raise SqlError("is empty: write a field or an expression")
        term = self._any()
        if self._peek() is not _END:
            raise SqlError(self._surprise())
        return term

    # --- tokens -------------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> _Token:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else _END

    def _next(self) -> _Token:
        token = self._peek()
        self._at += 1
        return token

    def _take(self, *words: str) -> str | None:
        """The next token if it is one of these, else nothing is consumed."""
        word = self._peek().lower
        if word and word in words:
            self._at += 1
            return word
        return None

    def _need(self, word: str) -> None:
        if self._take(word) is None:
            raise SqlError(f"needs {word.upper()!r} before {self._peek().text!r}")

    def _surprise(self) -> str:
        token = self._peek()
        if token.lower in {"over", "filter"}:
            return f"uses {token.text.upper()}: {AGGREGATES['sum']}"
        if token.lower == "as":
            return "names its result with AS: the feature's key is its name, remove it"
        return f"is not understood from {token.text!r} on"

    # --- levels -------------------------------------------------------------------------------

    def _any(self) -> Term:
        self._depth += 1
        if self._depth > DEEPEST:
            raise SqlError(f"is nested more than {DEEPEST} deep: split it into several features")
        term = self._and()
        while self._take("or"):
            term = self._logic(term, self._and(), "or")
        self._depth -= 1
        return term

    def _and(self) -> Term:
        term = self._not()
        while self._take("and"):
            term = self._logic(term, self._not(), "and")
        return term

    def _not(self) -> Term:
        negations = 0
        while self._take("not"):
            negations += 1
        term = self._comparison()
        if negations == 0:
            return term
        expr = _must(term, "boolean", "NOT").expr
        return Term(~expr if negations % 2 else expr, "boolean", term.weight + 1)

    def _logic(self, left: Term, right: Term, word: str) -> Term:
        a, b = (_must(term, "boolean", word.upper()).expr for term in (left, right))
        return _made(a & b if word == "and" else a | b, "boolean", left, right)

    def _comparison(self) -> Term:
        left = self._sum()
        if op := self._take(*_COMPARE):
            right = self._sum()
            kind = _common([left, right], op)
            if kind == "boolean" and op not in {"=", "<>", "!="}:
                raise SqlError(f"compares booleans with {op}: use = or <>")
            return _made(_COMPARE[op](left.expr, right.expr), "boolean", left, right)
        if self._take("is"):
            return self._is(left)
        negated = self._peek(1).lower in {"between", "in", "like", "ilike"} and self._take("not")
        term = self._membership(left)
        return Term(~term.expr, "boolean", term.weight + 1) if negated else term

    def _is(self, left: Term) -> Term:
        negated = self._take("not") is not None
        word = self._take("null", "true", "false")
        if word is None:
            raise SqlError(f"has IS before {self._peek().text!r}: write NULL, TRUE or FALSE there")
        if word == "null":
            null = left.expr.is_not_null() if negated else left.expr.is_null()
            return _made(null, "boolean", left)
        same = _must(left, "boolean", "IS").expr.eq_missing(pl.lit(word == "true"))
        return _made(~same if negated else same, "boolean", left)

    def _membership(self, left: Term) -> Term:
        if self._take("between"):
            low = self._sum()
            self._need("and")
            high = self._sum()
            _common([left, low, high], "BETWEEN")
            inside = (left.expr >= low.expr) & (left.expr <= high.expr)
            return _made(inside, "boolean", left, left, low, high)
        if self._take("in"):
            self._need("(")
            items = self._list()
            if not items:
                raise SqlError("has IN () without a value")
            _common([left, *items], "IN")
            return _one_of(left, items)
        if word := self._take("like", "ilike"):
            return self._like(left, self._next(), word)
        return left

    def _like(self, left: Term, pattern: _Token, word: str) -> Term:
        if pattern.kind != "text":
            raise SqlError(f"{word.upper()} needs a quoted pattern, not {pattern.text!r}")
        expr = _must(left, "text", word.upper()).expr
        found = expr.str.contains(_regex(_unquote(pattern), word == "ilike"))
        return _made(found, "boolean", left)

    def _sum(self) -> Term:
        term = self._product()
        while op := self._take("+", "-", "||"):
            term = self._combine(term, self._product(), op)
        return term

    def _product(self) -> Term:
        term = self._unary()
        while op := self._take("*", "/", "%"):
            term = self._combine(term, self._unary(), op)
        return term

    def _combine(self, left: Term, right: Term, op: str) -> Term:
        if op == "||":
            a, b = (_must(term, "text", op).expr for term in (left, right))
            return _made(a + b, "text", left, right)
        a, b = (_must(term, "number", op).expr for term in (left, right))
        copies = _COPIES.get(op, 1)
        return _made(_ARITHMETIC[op](a, b), "number", left, right, copies=copies)

    def _unary(self) -> Term:
        signs = []
        while op := self._take("-", "+"):
            signs.append(op)
        term = self._primary()
        if not signs:
            return term
        expr = _must(term, "number", signs[-1]).expr
        if signs.count("-") % 2 == 0:
            return Term(expr, "number", term.weight, term.value)
        value = -term.value if isinstance(term.value, float) else None
        return Term(-expr, "number", term.weight + 1, value)

    # --- atoms --------------------------------------------------------------------------------

    def _primary(self) -> Term:
        token = self._next()
        if token.kind == "number":
            return Term(pl.lit(float(token.text)), "number", value=float(token.text))
        if token.kind == "text":
            value = _unquote(token)
            return Term(pl.lit(value), "text", value=value)
        if token.kind == "name":
            return self._column(token.text[1:-1].replace('""', '"'))
        if token.text == "(":
            return self._parenthesis()
        if token.kind == "word":
            return self._word(token)
        raise SqlError(f"has {token.text!r} where a field, a value or a function must stand")

    def _parenthesis(self) -> Term:
        if self._peek().lower == "select":
            raise SqlError("has a subquery: an expression sees one event only")
        term = self._any()
        self._need(")")
        return term

    def _word(self, token: _Token) -> Term:
        word = token.lower
        if word in {"true", "false"}:
            return Term(pl.lit(word == "true"), "boolean", value=word == "true")
        if word == "null":
            return Term(pl.lit(None), "null")
        if word == "case":
            return self._case()
        if word == "timestamp" and self._peek().kind == "text":
            return _moment(self._next())
        if self._take("("):
            return self._call(word)
        if word in UNSTABLE and token.text not in self._columns:
            raise SqlError(f"uses {token.text}: {UNSTABLE[word]}")
        if word in _KEYWORDS and token.text not in self._columns:
            raise SqlError(f"has {token.text.upper()!r} where a value must stand")
        return self._column(token.text)

    def _column(self, name: str) -> Term:
        kind = self._columns.get(name)
        if kind is None:
            known = ", ".join(list(self._columns)[:20])
            near = _near(name, self._columns) or f" (the fields are {known})"
            raise SqlError(f"there is no field {name!r} in events.fields{near}")
        self.read.add(name)
        expr = pl.col(name)
        return Term(expr.cast(pl.Float64) if kind == "number" else expr, kind)

    def _list(self) -> list[Term]:
        """The terms up to the closing parenthesis, whose opening one has been taken."""
        if self._take(")"):
            return []
        terms = [self._any()]
        while self._take(","):
            terms.append(self._any())
        self._need(")")
        return terms

    def _call(self, name: str) -> Term:
        for refused in (AGGREGATES, UNSTABLE):
            if name in refused:
                raise SqlError(f"uses {name}(): {refused[name]}")
        special = {"extract": self._extract, "date_part": self._date_part}
        if name in special:
            return special[name]()
        if name in {"cast", "try_cast"}:
            return self._cast()
        if name not in FUNCTIONS:
            near = _near(name, [*FUNCTIONS, "extract", "date_part", "cast"])
            raise SqlError(f"there is no function {name}(){near}")
        return _apply(name, FUNCTIONS[name], self._list())

    def _extract(self) -> Term:
        part = self._next().text
        self._need("from")
        term = self._any()
        self._need(")")
        return _part(part, term)

    def _date_part(self) -> Term:
        part = _unquote(self._next())
        self._need(",")
        term = self._any()
        self._need(")")
        return _part(part, term)

    def _cast(self) -> Term:
        term = self._any()
        self._need("as")
        target = self._next().text
        self._need(")")
        if target.lower() not in {"double", "float", "real"}:
            raise SqlError(f"casts to {target}: only `cast(... as double)` is known")
        if term.kind == "time":
            raise SqlError("casts a timestamp: write extract(epoch from ...) for its seconds")
        expr = term.expr.cast(pl.Float64, strict=False)
        return _made(finite(expr) if term.kind == "text" else expr, "number", term, copies=2)

    def _case(self) -> Term:
        subject = None if self._peek().lower == "when" else self._any()
        conditions, results = [], []
        while self._take("when"):
            conditions.append(self._condition(subject))
            self._need("then")
            results.append(self._any())
        if not conditions:
            raise SqlError("has a CASE without WHEN")
        otherwise = self._any() if self._take("else") else Term(pl.lit(None), "null")
        self._need("end")
        return _choose(conditions, results, otherwise)

    def _condition(self, subject: Term | None) -> Term:
        term = self._any()
        if subject is None:
            return _must(term, "boolean", "WHEN")
        _common([subject, term], "CASE")
        return _made(subject.expr == term.expr, "boolean", subject, term)


def _one_of(left: Term, items: list[Term]) -> Term:
    values = [item.value for item in items]
    if None not in values:
        return Term(left.expr.is_in(values), "boolean", left.weight + 1)
    found = pl.any_horizontal([left.expr == item.expr for item in items])
    return _made(found, "boolean", *items, *[left] * len(items))


def _made(expr: pl.Expr, kind: Kind, *parts: Term, copies: int = 1) -> Term:
    """A term made of parts; SqlError where its tree is too large to be evaluated in good time."""
    weight = 1 + copies * sum(part.weight for part in parts)
    if weight > HEAVIEST:
        raise SqlError("is too large: split it into several features")
    return Term(expr, kind, weight)


def _choose(conditions: list[Term], results: list[Term], otherwise: Term) -> Term:
    kind = _common([*results, otherwise], "CASE")
    expr = otherwise.expr
    for condition, result in zip(reversed(conditions), reversed(results), strict=True):
        expr = pl.when(condition.expr).then(result.expr).otherwise(expr)
    return _made(expr, kind, *conditions, *results, otherwise)


def _must(term: Term, kind: Kind, where: str) -> Term:
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


def _common(terms: list[Term], where: str) -> Kind:
    kinds = {term.kind for term in terms} - {"null"}
    if len(kinds) > 1:
        mixed = " and ".join(sorted(_ARTICLE[kind] for kind in kinds))
        raise SqlError(f"{where} mixes {mixed}")
    return kinds.pop() if kinds else "null"


def _apply(name: str, function: Function, arguments: list[Term]) -> Term:
    most = len(function.slots) if not function.many else 100
    least = len(function.slots) - function.optional
    if not least <= len(arguments) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise SqlError(f"{name}() takes {wanted} arguments, not {len(arguments)}")
    slots = function.slots * len(arguments) if function.many else function.slots
    for slot, term in zip(slots, arguments, strict=False):
        _fits(name, slot, term)
    shared = _common([t for s, t in zip(slots, arguments, strict=False) if s == "any"], f"{name}()")
    kind: Kind = shared if function.kind in {"any", "whole"} else function.kind  # type: ignore[assignment]
    return _made(function.build(*arguments), kind, *arguments, copies=function.copies)


def _fits(name: str, slot: Slot, term: Term) -> None:
    if slot == "whole":
        if not isinstance(term.value, float) or not term.value.is_integer():
            raise SqlError(f"{name}() needs a whole number, written out, as a later argument")
    elif slot != "any":
        _must(term, slot, f"{name}()")


def _part(name: str, term: Term) -> Term:
    if name.lower() not in PARTS:
        near = _near(name.lower(), PARTS) or f" (the parts are {', '.join(PARTS)})"
        raise SqlError(f"a timestamp has no part {name!r}{near}")
    expr = _must(term, "time", "EXTRACT").expr
    return _made(PARTS[name.lower()](expr).cast(pl.Float64), "number", term)


def _moment(token: _Token) -> Term:
    try:
        moment = datetime.fromisoformat(_unquote(token))
    except ValueError:
        raise SqlError(f"{token.text} is not a timestamp: write RFC 3339") from None
    if moment.tzinfo is None:
        raise SqlError(f"{token.text} has no time zone: append Z for UTC")
    return Term(pl.lit(moment).dt.convert_time_zone("UTC").dt.cast_time_unit("ms"), "time")


def _unquote(token: _Token) -> str:
    if token.kind != "text":
        raise SqlError(f"needs a quoted text, not {token.text!r}")
    return token.text[1:-1].replace("''", "'")


def _regex(pattern: str, ignore_case: bool) -> str:
    parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern)
    return f"(?s{'i' if ignore_case else ''})^{''.join(parts)}$"
