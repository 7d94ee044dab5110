"""Plain orders, of which the large ones come back: for tests that ask nothing of their data but to be told apart."""

from __future__ import annotations

import polars as pl

PIPELINE = """\
pipeline: {name}
task: binary
events:
  id: order
  time: at
  entity: customer
  fields:
    at: {{type: timestamp}}
    customer: {{type: text}}
    amount: {{type: number}}
    items: {{type: integer}}
labels:
  id: order
  time: known_at
  field: returned
  type: boolean
  horizon: 24h
features:
  amount: amount
  per_item: amount / nullif(items, 0)
{more}
"""


def pipeline(name: str, more: str = "model: {estimator: logistic_regression}") -> str:
    """The text of a pipeline of this name; `more` are its blocks behind the features."""
    return PIPELINE.format(name=name, more=more)


def orders(rows: int) -> pl.DataFrame:
    """An order a second, returned when the amount is above its median."""
    row = pl.int_range(rows)
    amount = (row * 7919 % 1000) / 10
    return pl.select(
        order=pl.format("o-{}", row),
        at=row * 1000 + 1_790_000_000_000,
        customer=pl.format("c-{}", row * 31 % 997),
        amount=amount,
        items=row % 4,
        returned=amount > 50,
    )
