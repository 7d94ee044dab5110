"""Streams for judging the judges: twenty features of many shapes, what may change in them, and their dependence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv
from scipy.signal import lfilter
from scipy.special import ndtr

from schemas.bins import LABEL, LOSS, PREDICTION, Bins, Column, Counts
from schemas.bins_learning import learn
from schemas.reasons import Reason
from schemas.reference import Reference
from schemas.spec import FeatureType
from services.drift.domain.door import FATES
from services.drift.domain.pane_counts import LATE, OK

FEATURES = 20
CATEGORY = "f18"
TYPES: dict[str, FeatureType] = {f"f{i}": "number" for i in range(FEATURES)}
MIXED: dict[str, FeatureType] = {**TYPES, CATEGORY: "category"}
ODD = {OK: 0.99, LATE: 0.007, str(Reason.WRONG_TYPE): 0.003}
ERRORS, POSITIVES = 0.2, 0.3
WARM_UP = 500
TARGETS = ("class", "cnt", "casual", "registered", "instant", "dteday", "date", "batch")
"""What is no feature in the recorded streams: targets, and what only counts on."""

REFERENCE, BEFORE, AFTER = 5_000, 5_000, 25_000
"""Rows of a reference, in front of a change, and behind it."""

Floats = npt.NDArray[np.float64]
Change = Callable[[Floats, np.random.Generator], Floats]


def _mixing() -> Floats:
    """How much of each feature is in the others: the same for all streams."""
    random = np.random.default_rng(7)
    matrix = random.normal(size=(FEATURES, FEATURES)) * 0.25 + np.eye(FEATURES)
    return matrix / np.sqrt((matrix**2).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]


def normal(random: np.random.Generator, rows: int) -> Floats:
    """Dependent standard normals, exchangeable, shape (rows, features)."""
    return random.normal(size=(rows, FEATURES)) @ _mixing().T


def autocorrelated(random: np.random.Generator, rows: int, phi: float) -> Floats:
    """Independent standard normals, each an autoregression of order one, shape (rows, features)."""
    noise = random.normal(size=(rows + WARM_UP, FEATURES)) * np.sqrt(1 - phi**2)
    return lfilter([1], [1, -phi], noise, axis=0)[WARM_UP:]  # type: ignore[no-any-return]


def shaped(latent: Floats, random: np.random.Generator, missing: float = 0.01) -> Floats:
    """Normal, lognormal, uniform, heavy-tailed and whole numbers, and a share missing in the eighteenth."""
    values = latent.copy()
    values[:, 5:9] = np.exp(latent[:, 5:9])
    values[:, 9:13] = ndtr(latent[:, 9:13])
    values[:, 13:16] = np.sign(latent[:, 13:16]) * np.abs(latent[:, 13:16]) ** 1.7
    values[:, 18] = np.floor(ndtr(latent[:, 18]) ** 2 * 8)
    values[:, 19] = np.floor(ndtr(latent[:, 19]) * 4)
    values[random.random(len(values)) < missing, 17] = np.nan
    return values


def shifted(by: float) -> Change:
    """The first feature moved by so many standard deviations."""

    def change(latent: Floats, _: np.random.Generator) -> Floats:
        latent[:, 0] += by
        return latent

    return change


def widened(latent: Floats, _: np.random.Generator) -> Floats:
    """The first feature with a standard deviation of 1.5."""
    latent[:, 0] *= 1.5
    return latent


def broken(latent: Floats, random: np.random.Generator) -> Floats:
    """Six features no longer depend on the others; each is distributed as before."""
    latent[:, :6] = normal(random, len(latent))[:, :6]
    return latent


CHANGES: dict[str, tuple[Change | None, float]] = {
    "half_sigma": (shifted(0.5), 0.01),
    "one_sigma": (shifted(1), 0.01),
    "variance": (widened, 0.01),
    "missing": (None, 0.05),
    "correlation": (broken, 0.01),
}
"""What changes, and the share that is missing in one feature behind the change."""


def changed(name: str, random: np.random.Generator) -> Floats:
    """Rows that change behind the first 5,000."""
    change, missing = CHANGES[name]
    before = shaped(normal(random, BEFORE), random)
    latent = normal(random, AFTER)
    return np.concatenate((before, shaped(change(latent, random) if change else latent, random, missing)))


def columns(values: Floats, types: Mapping[str, FeatureType] = MIXED) -> dict[str, Column]:
    """Columns as they come in a batch."""
    return {name: _column(values[:, i], kind) for i, (name, kind) in enumerate(types.items())}


def _column(values: Floats, kind: FeatureType) -> pa.Array:
    if kind == "number":
        return pa.array(values)
    codes = pa.array(np.nan_to_num(values, nan=-1).astype(np.int32), mask=np.isnan(values))
    names = pa.array([f"c{i}" for i in range(int(np.nanmax(values, initial=0)) + 1)], pa.string())
    return pa.DictionaryArray.from_arrays(codes, names).cast(pa.string())


def with_roles(given: dict[str, Column], random: np.random.Generator) -> dict[str, Column]:
    """The features with outputs, losses and labels that depend on nothing."""
    rows = len(next(iter(given.values())))
    return given | {
        PREDICTION: random.beta(2, 5, rows),
        LOSS: (random.random(rows) < ERRORS).astype(float),
        LABEL: (random.random(rows) < POSITIVES).astype(float),
    }


def fates(random: np.random.Generator, rows: int, pane: int) -> npt.NDArray[np.int64]:
    """What became of rows at the door, shape (panes, FATES)."""
    return random.multinomial(pane, [ODD.get(each, 0.0) for each in FATES], rows // pane)


def real(path: Path) -> dict[str, Column]:
    """The features of a recorded stream in its order; rows that are not whole are left out."""
    table = csv.read_csv(path, parse_options=csv.ParseOptions(invalid_row_handler=lambda _: "skip"))
    kept = [each for each in table.column_names if each not in TARGETS and table[each].type != pa.date32()]
    texts = {each: pa.types.is_string(table[each].type) for each in kept}
    columns = {each: table[each].combine_chunks() for each in kept}
    return {each: column if texts[each] else column.cast(pa.float64()) for each, column in columns.items()}


def kinds(given: Mapping[str, Column]) -> dict[str, FeatureType]:
    """What the features of a recorded stream are."""
    texts = {name for name, each in given.items() if isinstance(each, pa.Array) and pa.types.is_string(each.type)}
    return {name: "category" if name in texts else "number" for name in given}


def counted(bins: Bins, given: Mapping[str, Column], pane: int, *, learnt: bool = False) -> Counts:
    """Counts of panes of so many rows, what is left over aside."""
    rows = len(next(iter(given.values())))
    panes = rows // pane
    whole: Any = {name: each[: panes * pane] for name, each in given.items()}
    return bins.count(whole, np.arange(panes * pane) // pane, panes, learnt=learnt)


def reference(given: Mapping[str, Column], pane: int, types: Mapping[str, FeatureType] = MIXED) -> Reference:
    """The reference of rows, with all the roles that they have."""
    rows = pa.record_batch({name: given[name] for name in types})
    roles = {name: np.asarray(given[name]) for name in (PREDICTION, LOSS) if name in given}
    labels = ("no", "yes") if LABEL in given else ()
    bins = learn(rows, types, roles.get(PREDICTION), roles.get(LOSS), labels)
    return Reference.of(bins, counted(bins, given, pane, learnt=True))
