"""What a fit needs and what comes of it, as values and as bytes for another process.

Bytes are Arrow, skops and MessagePack of known types: no object is ever made because they ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.encoding import Encoding
from schemas.spec import FeatureType
from schemas.task import Class, Target, Task
from services.training.domain.check import Verdict
from services.training.domain.estimators import Recipe
from services.training.domain.fitting import Fit, Rival, fit, parts

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Work:
    """A fit that is to be made.

    Attributes:
        recipe: What is fitted.
        rows: The dataset, sorted.
        features: Type of each feature.
        seed: Of everything random.
        metric: What the comparison goes by.
        rival: Against what it is judged.
    """

    recipe: Recipe
    rows: pa.RecordBatch
    features: Mapping[str, FeatureType]
    seed: int
    metric: str
    rival: Rival = None

    def do(self) -> Fit:
        """Fit and judge.

        Raises:
            Refused: The estimator does not take the rows.
        """
        return fit(self.recipe, self.rows, self.features, self.seed, self.metric, self.rival)


class Numbers(msgspec.Struct, frozen=True):
    """An array of numbers."""

    shape: tuple[int, ...]
    values: bytes

    @classmethod
    def of(cls, values: Floats) -> Numbers:
        """From an array."""
        return cls(values.shape, np.ascontiguousarray(values, np.float64).tobytes())

    @property
    def array(self) -> Floats:
        """The array again."""
        return np.frombuffer(self.values, np.float64).reshape(self.shape)


class Order(msgspec.Struct, frozen=True):
    """A fit as it is asked for, but for its rows: a rival is what the model in service answers to those held out."""

    estimator: str
    params: dict[str, Any]
    task: Task
    classes: tuple[Class, ...]
    features: dict[str, FeatureType]
    seed: int
    metric: str
    rival: Numbers | Literal["several", "alone"] | None


class Result(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        refused: Why the estimator does not take the rows, empty where it does; the others say nothing then.
        estimator: The estimator, as skops.
        encoding: How batches become its input.
        verdict: Whether it may serve.
        outputs: What the fit without them answers to the rows that were held out.
        learnt: Whether it was fitted on these too.
        seconds: How long it took.
        cpu_seconds: Processor time that it took.
        peak_bytes: Most resident memory of its process.
    """

    refused: str = ""
    estimator: bytes = b""
    encoding: Encoding | None = None
    verdict: Verdict | None = None
    outputs: Numbers | None = None
    learnt: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def packed(work: Work) -> tuple[bytes, pa.Buffer]:
    """The order, and its rows as an Arrow stream."""
    recipe, target = work.recipe, work.recipe.target
    held_out = parts(work.rows)[1]
    order = Order(
        recipe.estimator,
        dict(recipe.params),
        target.task,
        target.classes,
        dict(work.features),
        work.seed,
        work.metric,
        Numbers.of(work.rival(held_out)) if callable(work.rival) else work.rival,
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, work.rows.schema) as stream:
        stream.write_batch(work.rows)
    return msgspec.msgpack.encode(order), sink.getvalue()


def unpacked(order: bytes, rows: bytes) -> Work:
    """The work again."""
    asked = msgspec.msgpack.decode(order, type=Order)
    recipe = Recipe(asked.estimator, asked.params, Target(asked.task, asked.classes))
    batch = pa.ipc.open_stream(rows).read_next_batch()
    return Work(recipe, batch, asked.features, asked.seed, asked.metric, _rival(asked.rival))


def _rival(asked: Numbers | Literal["several", "alone"] | None) -> Rival:
    if not isinstance(asked, Numbers):
        return asked
    answers = asked.array
    return lambda _: answers
