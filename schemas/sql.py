"""SQL expressions over one event, compiled to polars.

A feature's definition must mean the same for ever, on any batch size and in any release of polars,
and no event may crash it. polars' own SQL parser promises neither (`extract(hour from t) * 100`
overflows eight bits there, a cast can fail on data, aggregates mix rows), so the language is ours
and small: every number is a double, every function works on one row, and arithmetic without a
result (x / 0, ln(-1), an overflow) is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from schemas.sql_functions import AGGREGATES, FUNCTIONS, UNSTABLE, Kind, Term, finite
from schemas.sql_terms import (
    ARITHMETIC,
    COMPARE,
    COPIES,
    apply,
    choose,
    common,
    made,
    must,
    one_of,
    part,
    regex,
)
from schemas.sql_tokens import END, SqlError, Token, moment, near, tokens, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Expression", "SqlError", "compile_text"]

LONGEST = 4_000
DEEPEST = 40

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
    parser = _Parser(tokens(text), columns)
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


class _Parser:
    """Recursive descent, one method per level of precedence, loosest first."""

    def __init__(self, tokens: list[Token], columns: Mapping[str, Kind]) -> None:
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
        if self._peek() is not END:
            raise SqlError(self._surprise())
        return term

    # --- tokens -------------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> Token:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else END

    def _next(self) -> Token:
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
        expr = must(term, "boolean", "NOT").expr
        return Term(~expr if negations % 2 else expr, "boolean", term.weight + 1)

    def _logic(self, left: Term, right: Term, word: str) -> Term:
        a, b = (must(term, "boolean", word.upper()).expr for term in (left, right))
        return made(a & b if word == "and" else a | b, "boolean", left, right)

    def _comparison(self) -> Term:
        left = self._sum()
        if op := self._take(*COMPARE):
            right = self._sum()
            kind = common([left, right], op)
            if kind == "boolean" and op not in {"=", "<>", "!="}:
                raise SqlError(f"compares booleans with {op}: use = or <>")
            return made(COMPARE[op](left.expr, right.expr), "boolean", left, right)
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
            return made(null, "boolean", left)
        same = must(left, "boolean", "IS").expr.eq_missing(pl.lit(word == "true"))
        return made(~same if negated else same, "boolean", left)

    def _membership(self, left: Term) -> Term:
        if self._take("between"):
            low = self._sum()
            self._need("and")
            high = self._sum()
            common([left, low, high], "BETWEEN")
            inside = (left.expr >= low.expr) & (left.expr <= high.expr)
            return made(inside, "boolean", left, left, low, high)
        if self._take("in"):
            self._need("(")
            items = self._list()
            if not items:
                raise SqlError("has IN () without a value")
            common([left, *items], "IN")
            return one_of(left, items)
        if word := self._take("like", "ilike"):
            return self._like(left, self._next(), word)
        return left

    def _like(self, left: Term, pattern: Token, word: str) -> Term:
        if pattern.kind != "text":
            raise SqlError(f"{word.upper()} needs a quoted pattern, not {pattern.text!r}")
        expr = must(left, "text", word.upper()).expr
        found = expr.str.contains(regex(unquote(pattern), word == "ilike"))
        return made(found, "boolean", left)

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
            a, b = (must(term, "text", op).expr for term in (left, right))
            return made(a + b, "text", left, right)
        a, b = (must(term, "number", op).expr for term in (left, right))
        copies = COPIES.get(op, 1)
        return made(ARITHMETIC[op](a, b), "number", left, right, copies=copies)

    def _unary(self) -> Term:
        signs = []
        while op := self._take("-", "+"):
            signs.append(op)
        term = self._primary()
        if not signs:
            return term
        expr = must(term, "number", signs[-1]).expr
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
            value = unquote(token)
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

    def _word(self, token: Token) -> Term:
        word = token.lower
        if word in {"true", "false"}:
            return Term(pl.lit(word == "true"), "boolean", value=word == "true")
        if word == "null":
            return Term(pl.lit(None), "null")
        if word == "case":
            return self._case()
        if word == "timestamp" and self._peek().kind == "text":
            time = pl.lit(moment(self._next())).dt.convert_time_zone("UTC")
            return Term(time.dt.cast_time_unit("ms"), "time")
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
            hint = near(name, self._columns) or f" (the fields are {known})"
            raise SqlError(f"there is no field {name!r} in events.fields{hint}")
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
            hint = near(name, [*FUNCTIONS, "extract", "date_part", "cast"])
            raise SqlError(f"there is no function {name}(){hint}")
        return apply(name, FUNCTIONS[name], self._list())

    def _extract(self) -> Term:
        name = self._next().text
        self._need("from")
        term = self._any()
        self._need(")")
        return part(name, term)

    def _date_part(self) -> Term:
        name = unquote(self._next())
        self._need(",")
        term = self._any()
        self._need(")")
        return part(name, term)

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
        return made(finite(expr) if term.kind == "text" else expr, "number", term, copies=2)

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
        return choose(conditions, results, otherwise)

    def _condition(self, subject: Term | None) -> Term:
        term = self._any()
        if subject is None:
            return must(term, "boolean", "WHEN")
        common([subject, term], "CASE")
        return made(subject.expr == term.expr, "boolean", subject, term)
