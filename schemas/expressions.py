"""The features of a pipeline, computed from a batch of events.

Works row by row: the features of a batch are those of its slices put together, whatever the size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from schemas.checks import compiled, windowed

if TYPE_CHECKING:
    from schemas.spec import Pipeline


class Expressions:
    """The declared features over one event of one pipeline, compiled once.

    Args:
        spec: The pipeline.
        windows: Compute what its windows are over as well, each named by `over`.
    """

    def __init__(self, spec: Pipeline, *, windows: bool = False) -> None:
        self._features = [expression.expr.alias(name) for name, expression in compiled(spec).items()]
        self._features += _values(spec) if windows else []
        self.asked = sorted({column for each in self._features for column in each.meta.root_names()})
        """The event's columns that they are computed from."""

    def compute(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The features of each row, in declared order: Float64 or String, undefined is null.

        The frame holds the event's columns; others are ignored. Never fails on a value.
        """
        if frame.height == 1:
            return self._several(pl.concat([frame, frame.clear(1)])).head(1)
        return self._several(frame)

    def _several(self, frame: pl.DataFrame) -> pl.DataFrame:
        # polars computes with one row, or with a chunk of one row, as with a constant, and rounds
        # that differently (power(x, 3) becomes x * x * x). Several different rows are a column.
        return frame.rechunk().select(self._features)


def over(text: str) -> str:
    """The column of what windows over an expression are over; no feature may be called so."""
    return f"over {text}"


def _values(spec: Pipeline) -> list[pl.Expr]:
    """One column per expression that windows are over; of a text only whether it is there, as 1.0."""
    values = {each.of: each.value for each in windowed(spec).values() if each.value is not None}
    return [
        (pl.when(value.expr.is_not_null()).then(1.0) if value.kind == "text" else value.expr).alias(over(text))
        for text, value in values.items()
    ]
