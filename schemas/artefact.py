"""The manifest of an artefact: what a stored model is, what it was made from, and what its files must be.

It lies beside the model as `manifest.json`. Its SHA-256 is announced, and it holds those of the other files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from schemas.encoding import Encoding
from schemas.messages import Cause, Scalar
from schemas.spec import FeatureType
from schemas.task import Target, Task

MANIFEST, MODEL, WARMUP = "manifest.json", "model.skops", "warmup.arrow"
SHA256 = "^[0-9a-f]{64}$"


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class File(_Closed):
    """One file of the artefact."""

    sha256: str = Field(pattern=SHA256, description="SHA-256 of its bytes.")
    size: int = Field(ge=0, description="Bytes.")


class Quarantine(NamedTuple):
    """Bad data: rows of these event times are in no dataset.

    Attributes:
        start: The first event time, epoch ms.
        stop: The first event time that is right again, None while none is.
        source: Partition of `events` whose rows alone are bad, None for all.
    """

    start: int
    stop: int | None = None
    source: int | None = None


class Sampling(_Closed):
    """How few rows were chosen from many: the newest ones, and of those before them the ones with the least hashes.

    The hash of a row is SplitMix64 over its identity and the seed (services/training/domain/sampling.py).
    """

    newest: int = Field(ge=0, description="The newest rows, all taken.")
    older: int = Field(ge=1, description="Rows before those.")
    seed: int = Field(ge=0, description="Seed of the hash.")
    of: int = Field(ge=1, description="Rows that it was chosen from, copies counted.")


class Dataset(_Closed):
    """The rows of a fit, such that anyone with the log or its archive can make them again.

    Take the rows of `examples` in `positions` whose label time is at most `label_cutoff` and not below `since`, without
    those in quarantine, each event once with its highest revision, in the order of (label time, source, position, row),
    and of these the newest `rows`, or what `sampling` chooses: they hash to `digest`.
    """

    positions: dict[int, tuple[int, int]] = Field(description="Partition of `examples`: offsets [from, to).")
    rows: int = Field(ge=1, description="Rows, the held-out ones included.")
    held_out: int = Field(ge=0, description="Newest rows that a fit without them was checked on.")
    held_out_learnt: bool | None = Field(
        default=None,
        description="Whether the model was fitted on these too once it had passed; null where nobody said.",
    )
    label_cutoff: int = Field(description="Label time of the newest row, epoch ms.")
    digest: str = Field(pattern=SHA256, description="SHA-256 over identity, label and features of the rows.")
    quarantined: tuple[Quarantine, ...] = Field(default=(), description="Bad data that was left out.")
    log: str = Field(default="", description="Id of the topic `examples`, or name of the history that was loaded.")
    selection: str = Field(default="", description="What was asked for: rows, a duration, all or mixed.")
    since: int | None = Field(default=None, description="Least label time that counts, epoch ms; null for all.")
    sampling: Sampling | None = Field(default=None, description="How rows were chosen where there were too many.")


class Made(NamedTuple):
    """What was fitted: estimator, parameters, seed and target."""

    estimator: str
    params: Mapping[str, Any]
    seed: int
    target: Target


class Manifest(_Closed):
    """What a stored model is."""

    model: str = Field(description="Name of the model: that of the pipeline.")
    version: int = Field(ge=1, description="Version, counted up per model.")
    pipeline_digest: str = Field(description="Digest of the specification that it was fitted for.")
    features: dict[str, FeatureType] = Field(min_length=1, description="Its inputs, in order.")
    vocabulary: dict[str, tuple[str, ...]] = Field(description="Known values of each category; the index is the code.")
    fill: dict[str, float] = Field(description="What counts where a feature is missing; the others stay missing.")
    task: Task = Field(default="binary", description="What it predicts.")
    classes: tuple[bool | str, ...] = Field(
        description="The label's values: of two it answers P(second), of several the probability of each; none in "
        "regression, where it answers the value."
    )
    estimator: str = Field(description="Name of the estimator.")
    params: dict[str, Scalar] = Field(description="The estimator's parameters.")
    dataset: Dataset
    seed: int = Field(ge=0, description="Seed of everything random in the fit.")
    metrics: dict[str, float] = Field(description="Metrics on the held-out rows, by name.")
    libraries: dict[str, str] = Field(description="Versions that it was made with.")
    files: dict[str, File] = Field(description="The other files of the artefact.")
    digest: str = Field(pattern=SHA256, description="Digest of parameters and warm-up outputs.")
    cause: Cause = Field(description="What it was fitted for.")

    @property
    def encoding(self) -> Encoding:
        """How batches become its input."""
        return Encoding(self.features, self.vocabulary, self.fill)

    @property
    def target(self) -> Target:
        """What it predicts, as numbers."""
        return Target(self.task, self.classes)

    @property
    def made(self) -> Made:
        """What was fitted."""
        return Made(self.estimator, self.params, self.seed, self.target)


def sha256(value: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(value).hexdigest()


def model_digest(
    made: Made,
    encoding: Encoding,
    matrix: npt.NDArray[np.float64],
    outputs: npt.NDArray[np.float64],
) -> str:
    """What makes two models the same: what was fitted, on which encoding, and what it answers to the warm-up rows.

    Model files cannot be compared by their bytes: they hold times and addresses.
    """
    story = {
        "estimator": made.estimator,
        "params": dict(made.params),
        "seed": made.seed,
        "features": list(encoding.types.items()),
        "vocabulary": {name: list(values) for name, values in encoding.vocabulary.items()},
        "fill": dict(encoding.fill),
    }
    if made.target.task != "binary":  # the digests of before there were other tasks stay what they are
        story |= {"task": made.target.task, "classes": list(made.target.classes)}
    state = hashlib.sha256(json.dumps(story, sort_keys=True, separators=(",", ":")).encode())
    for numbers in (matrix, outputs):
        state.update(np.ascontiguousarray(numbers, "<f8").tobytes())
    return state.hexdigest()
