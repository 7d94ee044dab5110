"""JSON in the one form that signatures are over: RFC 8785, so that whoever passes a message on may write it otherwise.

Whole numbers are written in full where the RFC would round them, above 2**53: no message has any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite

WIDEST, SMALLEST = 21, -6
"""Between these powers of ten a number is written without an exponent (ECMAScript, Number::toString)."""


def canonical(value: object) -> bytes:
    """The canonical bytes of what a JSON parser returned.

    Raises:
        ValueError: It holds what JSON has no form for.
    """
    return _text(value).encode()


def fields(found: Mapping[str, object]) -> dict[str, str]:
    """The values of a JSON object by name, each in canonical form; errors are those of `canonical`."""
    return {name: _text(value) for name, value in found.items()}


def composed(texts: Mapping[str, str]) -> bytes:
    """The canonical bytes of an object of these fields, or of some of them."""
    return _object(texts).encode()


def _object(texts: Mapping[str, str]) -> str:
    names = sorted(texts, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
    return "{" + ",".join(f"{_plain(name)}:{texts[name]}" for name in names) + "}"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return _object(fields(value))
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return _number(value) if isinstance(value, float) else _plain(value)


_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _number(value: float) -> str:
    """The shortest digits that read back as the number, placed as ECMAScript places them."""
    if value == 0:
        return "0"
    shortest = float.__repr__(value)
    if "e" not in shortest and isfinite(value):  # placed alike
        return shortest.removesuffix(".0")
    sign, digits, exponent = Decimal(shortest).normalize().as_tuple()
    if not isinstance(exponent, int):  # infinite, or not a number
        raise ValueError(f"{value} is no number of JSON")  # noqa: TRY004 - of the right type
    text, point = "".join(map(str, digits)), len(digits) + exponent
    return "-" * sign + _placed(text, point)


def _placed(digits: str, point: int) -> str:
    """Digits with the decimal point behind so many of them."""
    if SMALLEST < point <= 0:
        return "0." + "0" * -point + digits
    if 0 < point <= WIDEST:
        whole, rest = digits[:point].ljust(point, "0"), digits[point:]
        return f"{whole}.{rest}" if rest else whole
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{rest}e{point - 1:+d}"
