"""Turns a file's column into values of a pipeline's field, or says which row does not fit."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from headrace.errors import WrongUse
from schemas.checks import suggestion
from schemas.pipeline import FieldSpec

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def column(frame: pl.DataFrame, name: str, field: FieldSpec, wanted_for: str) -> pl.Series:
    """The column as values that JSON has for the field's type; nulls stay nulls.

    Args:
        frame: The file.
        name: Column of the file.
        field: What its values must be.
        wanted_for: What the column is for, for the message.

    Raises:
        WrongUse: There is no such column, or a value of it is of another type.
    """
    if name not in frame.columns:
        hint = suggestion(name, frame.columns)
        raise WrongUse(
            f"the file has no column {name!r}, wanted for {wanted_for}{hint}; it has {', '.join(frame.columns)}"
        )
    values = frame.get_column(name)
    cast = _CASTS[field.type](values)
    wrong = (cast.is_null() & values.is_not_null()).arg_true()
    if len(wrong):
        row = int(wrong[0])
        raise WrongUse(
            f"column {name!r}, row {row}: {values[row]!r} is no {field.type}, as {wanted_for} has to be "
            f"({len(wrong)} such rows)"
        )
    return cast


def _number(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    return values.cast(pl.Float64, strict=False)


def _integer(values: pl.Series) -> pl.Series:
    if values.dtype.is_float():
        values = pl.select(pl.when(values == values.round()).then(values)).to_series()
    return values.cast(pl.Int64, strict=False)


def _boolean(values: pl.Series) -> pl.Series:
    texts = values.cast(pl.String).str.to_lowercase()
    return texts.replace_strict(_BOOLEANS, default=None, return_dtype=pl.Boolean)


def _text(values: pl.Series) -> pl.Series:
    return values.cast(pl.String, strict=False)


def _timestamp(values: pl.Series) -> pl.Series:
    """Epoch milliseconds; a time without a zone counts as UTC."""
    if values.dtype == pl.String:
        numbers = values.cast(pl.Int64, strict=False)
        if numbers.null_count() == values.null_count():
            return numbers
        values = _parsed(values)
    if values.dtype.is_integer():
        return values.cast(pl.Int64)
    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("ms"), strict=False).dt.epoch("ms")
    return pl.Series(values.name, [None] * len(values), pl.Int64)


def _parsed(values: pl.Series) -> pl.Series:
    try:
        return values.str.to_datetime(time_unit="ms", time_zone="UTC", strict=False)
    except pl.exceptions.ComputeError:  # no format fits the first values
        return pl.Series(values.name, [None] * len(values), pl.Datetime("ms", "UTC"))


_CASTS: dict[str, Callable[[pl.Series], pl.Series]] = {
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "category": _text,
    "text": _text,
    "timestamp": _timestamp,
}
