"""What a check found: of each feature how many rows differ, by how much, and the first one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from schemas.messages import Scalar, rfc3339
from services.features.auditing import shown
from services.features.domain.pairing import Pairs


@dataclass(frozen=True, slots=True)
class Example:
    """The first row in which a feature differs."""

    row: str
    event_id: str
    entity: str | None
    time: str
    served: Scalar
    recomputed: Scalar


@dataclass(slots=True)
class Feature:
    """What was found of one feature.

    Attributes:
        rows: Rows that were served with it and compared.
        different: Those that differ.
        largest: Largest difference in proportion to the greater number; None where none is between two numbers.
        example: The first one that differs.
    """

    rows: int = 0
    different: int = 0
    largest: float | None = None
    example: Example | None = None


@dataclass(slots=True)
class Findings:
    """What was found.

    Attributes:
        rows: Served rows that were computed again.
        skewed: Those with a feature that differs.
        missing: Served rows of which there is no record.
        windowless: Rows whose windows were not compared: their entity found no place.
        specs: Served rows by the digest of the specification that served them.
        features: By name.
    """

    features: dict[str, Feature]
    rows: int = 0
    skewed: int = 0
    missing: int = 0
    windowless: int = 0
    specs: dict[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether every row was served as it is computed."""
        return not self.skewed and not self.missing


def count(feature: Feature, name: str, pairs: Pairs, rows: npt.NDArray[np.int64]) -> None:
    """Take in the rows in which a feature differs."""
    if not len(rows):
        return
    feature.different += len(rows)
    apart = _apart(pairs.served.column(name), pairs.again.column(name), rows)
    feature.largest = apart if feature.largest is None else max(feature.largest, apart or 0.0)
    if feature.example is None:
        feature.example = _example(name, pairs, int(rows[0]))


def _apart(served: pa.Array, again: pa.Array, rows: npt.NDArray[np.int64]) -> float | None:
    if not (pa.types.is_floating(served.type) and pa.types.is_floating(again.type)):
        return None
    left, right = (side.take(pa.array(rows)).fill_null(np.nan).to_numpy() for side in (served, again))
    both = np.isfinite(left) & np.isfinite(right)
    if not both.any():
        return None
    left, right = left[both], right[both]
    return float(np.max(np.abs(left - right) / np.maximum(np.abs(left), np.abs(right))))


def _example(name: str, pairs: Pairs, index: int) -> Example:
    (row,) = pairs.served.slice(index, 1).to_pylist()
    return Example(
        row=f"{row[b.SOURCE]}-{row[b.POSITION]}-{row[b.ROW]}",
        event_id=row[b.EVENT_ID],
        entity=row[b.ENTITY],
        time=rfc3339(row[b.TIME]),
        served=shown(row[name]),
        recomputed=shown(pairs.again.column(name)[index].as_py()),
    )
