"""Arrow batches from outside: the columns are checked as columns, and only rows that fail are looked at one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas import batch as b
from schemas.contract import INT64, YEARS_1_TO_9999, integer_bounds
from schemas.reasons import MESSAGE, PATH, Reason, Rejection, shortened
from schemas.record_columns import ARROW_TYPES
from schemas.spec import FieldSpec
from services.ingestion.domain import ipc

Mask = npt.NDArray[np.bool_]
Check = Callable[[Mapping[str, object]], Rejection | None]
"""All errors of a row by the contract, None for a row that keeps it."""

MILLISECONDS = pa.timestamp("ms", "UTC")


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that is refused.

    Attributes:
        row: Its index.
        value: The row alone, as an Arrow IPC stream like the one that it came in.
        reason: What is wrong.
    """

    row: int
    value: bytes
    reason: Rejection


@dataclass(frozen=True, slots=True)
class Rows:
    """What the contract says of rows.

    Attributes:
        columns: The declared fields of the valid rows, in their Arrow types.
        indices: Index of each valid row.
        original: The valid rows as they came.
        bad: The other rows.
    """

    columns: dict[str, pa.Array]
    indices: npt.NDArray[np.int64]
    original: pa.RecordBatch
    bad: list[Bad]


class Batches:
    """Reads the Arrow messages of one topic.

    Args:
        fields: The declared fields.
        key: The field of the id, which must not be empty.
        check: Says what is wrong with a row.
    """

    def __init__(self, fields: Mapping[str, FieldSpec], key: str | None, check: Check) -> None:
        self._fields, self._key, self._check = fields, key, check
        self._accepted: pa.Schema | None = None

    def read(self, value: bytes | None) -> pa.RecordBatch | Rejection:
        """The rows of a message, an Arrow IPC stream; or why there are none at all."""
        return ipc.read(value, self._refuse)

    def judge(self, table: pa.RecordBatch) -> Rows:
        """What the contract says of rows that were read."""
        typed = _typed(table, self._fields)
        suspect = np.zeros(table.num_rows, np.bool_)
        for name, column in typed.items():
            if (found := _suspect(column, self._fields[name], is_key=name == self._key)) is not None:
                suspect |= found
        for name in (field.name for field in table.schema if pa.types.is_uint64(field.type)):
            suspect |= _mask(pc.greater(table.column(name), pa.scalar(INT64[1], pa.uint64())))
        return _sorted_out(table, typed, suspect, self._check)

    def _refuse(self, schema: pa.Schema) -> Rejection | None:
        if schema == self._accepted:  # a producer's next message
            return None
        if (reason := _wrong_columns(schema, self._fields)) is None:
            self._accepted = schema
        return reason


def _wrong_columns(schema: pa.Schema, fields: Mapping[str, FieldSpec]) -> Rejection | None:
    names = schema.names
    for name in names:
        if name not in fields:
            known = ", ".join(fields)
            return _refusal(Reason.UNKNOWN_FIELD, name, f"there is no field {name[:60]!r}; the fields are {known}")
    if len(set(names)) < len(names):
        return Rejection(Reason.DUPLICATE_KEY, "$", "a column is there twice: send each field once")
    for name, spec in fields.items():
        if name not in names:
            if not spec.nullable:
                return _refusal(Reason.MISSING_FIELD, name, f"the column {name} is missing")
        elif not _accepted(given := schema.field(name).type, spec):
            return _refusal(Reason.WRONG_TYPE, name, f"{name} is {str(given)[:200]}: send {ARROW_TYPES[spec.type]}")
    return None


def _refusal(code: Reason, name: str, text: str) -> Rejection:
    return Rejection(code, shortened(f"$.{name}", PATH), shortened(text, MESSAGE))


def _accepted(given: pa.DataType, spec: FieldSpec) -> bool:
    if pa.types.is_dictionary(given):
        values = given.value_type
        return not (pa.types.is_dictionary(values) or pa.types.is_string_view(values)) and _accepted(values, spec)
    return pa.types.is_null(given) or given == ARROW_TYPES[spec.type] or _CASTS[spec.type](given)


def _typed(table: pa.RecordBatch, fields: Mapping[str, FieldSpec]) -> dict[str, pa.Array]:
    columns = dict(zip(table.schema.names, table.columns, strict=True))
    return {
        name: _cast(columns[name], spec) if name in columns else pa.nulls(table.num_rows, ARROW_TYPES[spec.type])
        for name, spec in fields.items()
    }


def _cast(column: pa.Array, spec: FieldSpec) -> pa.Array:
    """The column in its field's type; a value that does not fit becomes one that is suspect."""
    given, wanted = column.type, ARROW_TYPES[spec.type]
    if given == wanted:
        return column
    if pa.types.is_timestamp(given):
        return _moments(column)
    return column.cast(wanted, safe=False)


def _moments(column: pa.Array) -> pa.Array:
    """Epoch milliseconds, rounded down as those of JSON are; Arrow rounds towards 1970 and wraps what overflows."""
    times, parts = _SCALES[column.type.unit]
    low, high = YEARS_1_TO_9999
    values = _numbers(column.cast(pa.int64()), 0) // parts
    values = np.clip(values, low // times - 1, high // times + 1) * times
    nulls = ~_mask(column.is_valid()) if column.null_count else None
    return pa.array(values, pa.int64(), mask=nulls).cast(MILLISECONDS)


_SCALES = {"s": (1_000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}
"""Milliseconds per unit, and units per millisecond."""


def _is_number(given: pa.DataType) -> bool:
    return bool(pa.types.is_floating(given) or pa.types.is_integer(given))


def _is_text(given: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(given) or pa.types.is_string_view(given))


def _is_moment(given: pa.DataType) -> bool:
    return (pa.types.is_timestamp(given) and given.tz is not None) or pa.types.is_int64(given)


_CASTS: dict[str, Callable[[pa.DataType], bool]] = {
    "number": _is_number,
    "integer": pa.types.is_integer,
    "boolean": pa.types.is_boolean,
    "category": _is_text,
    "text": _is_text,
    "timestamp": _is_moment,
}


def _suspect(column: pa.Array, spec: FieldSpec, *, is_key: bool) -> Mask | None:
    """Rows whose value the contract may refuse; None for no row."""
    wrong = _WRONG[spec.type](column, spec)
    if is_key:
        empty = _mask(pc.equal(column, ""))
        wrong = empty if wrong is None else wrong | empty
    if column.null_count:
        null = _mask(column.is_null())
        wrong = np.where(null, not spec.nullable, False if wrong is None else wrong)
    return wrong if wrong is not None and wrong.any() else None


def _mask(column: pa.Array) -> Mask:
    filled = column.fill_null(False) if column.null_count else column
    return filled.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _numbers(column: pa.Array, instead: float) -> npt.NDArray[Any]:
    filled = column.fill_null(instead) if column.null_count else column
    return filled.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _wrong_number(column: pa.Array, spec: FieldSpec) -> Mask | None:
    values = _numbers(column, 0.0)
    right: Mask = np.isfinite(values)
    if spec.min is not None:
        right &= values >= spec.min
    if spec.max is not None:
        right &= values <= spec.max
    return None if right.all() else ~right


def _wrong_integer(column: pa.Array, spec: FieldSpec) -> Mask:
    low, high = integer_bounds(spec)
    values = _numbers(column, 0)
    return (values < low) | (values > high)


def _wrong_text(column: pa.Array, spec: FieldSpec) -> Mask | None:
    if spec.values is not None:
        return ~_mask(pc.is_in(column, value_set=pa.array(spec.values, pa.string())))
    if spec.max_length is None:
        return None
    return _mask(pc.greater(pc.utf8_length(column), spec.max_length))


def _wrong_moment(column: pa.Array, _: FieldSpec) -> Mask:
    values = _numbers(column.cast(pa.int64()), 0)
    return (values < YEARS_1_TO_9999[0]) | (values > YEARS_1_TO_9999[1])


_WRONG: dict[str, Callable[[pa.Array, FieldSpec], Mask | None]] = {
    "number": _wrong_number,
    "integer": _wrong_integer,
    "boolean": lambda _column, _spec: None,
    "category": _wrong_text,
    "text": _wrong_text,
    "timestamp": _wrong_moment,
}


def _sorted_out(table: pa.RecordBatch, typed: dict[str, pa.Array], suspect: Mask, check: Check) -> Rows:
    bad = [
        Bad(row, b.encode(table.slice(row, 1)), reason)
        for row in np.flatnonzero(suspect).tolist()
        if (reason := check(_values(table, typed, row))) is not None
    ]
    keep = np.ones(table.num_rows, np.bool_)
    keep[[each.row for each in bad]] = False
    indices = np.flatnonzero(keep)
    if not bad:
        return Rows(typed, indices, table, bad)
    kept = pa.array(keep)
    return Rows({name: column.filter(kept) for name, column in typed.items()}, indices, table.filter(kept), bad)


def _values(table: pa.RecordBatch, typed: Mapping[str, pa.Array], row: int) -> dict[str, object]:
    """One row as JSON would have it."""
    found: dict[str, object] = {}
    for name, column in typed.items():
        given = table.column(name) if name in table.schema.names else column
        one = (given if pa.types.is_uint64(given.type) else column).slice(row, 1)
        found[name] = (one.cast(pa.int64()) if column.type == MILLISECONDS else one).to_pylist()[0]
    return found
