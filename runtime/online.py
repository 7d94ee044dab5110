"""Snapshots of the online member: written by training, and by serving verified, read and asked.

River has no file format of its own but pickle, which can call whatever it names. Hence a file is read only when its
SHA-256 is the announced one and its libraries are ours, and then by a reader that knows the types below and nothing
else: exact pairs of module and name. A rule such as "everything of river" would be none, since river's modules import
others and a pickle may name those through them.
"""

from __future__ import annotations

import io
import pickle
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from runtime.artefact import ModelRefused
from runtime.store import NotStored, Store
from schemas.artefact import sha256
from schemas.online import Learnt, OnlineKind, Row, prepared
from schemas.pooling import Floats, Online
from schemas.spec import FeatureType

MOST_BYTES = 16 << 20
"""A larger snapshot is neither written nor read."""
HEAD_BYTES = 1 << 16
"""A larger head is not read."""

TINY = 1e-9

ALLOWED = frozenset(
    {
        ("builtins", "dict"),
        ("builtins", "float"),
        ("collections", "Counter"),
        ("collections", "defaultdict"),
        ("random", "Random"),
        ("river._river_rust.drift", "AdaptiveWindowing"),
        ("river._river_rust.vectordict", "VectorDict"),
        ("river.drift.adwin", "ADWIN"),
        ("river.linear_model.log_reg", "LogisticRegression"),
        ("river.optim.initializers", "Zeros"),
        ("river.optim.losses", "Log"),
        ("river.optim.schedulers", "Constant"),
        ("river.optim.sgd", "SGD"),
        ("river.preprocessing.scale", "StandardScaler"),
        ("river.proba.gaussian", "Gaussian"),
        ("river.stats.mean", "Mean"),
        ("river.stats.var", "Var"),
        ("river.tree.hoeffding_adaptive_tree_classifier", "HoeffdingAdaptiveTreeClassifier"),
        ("river.tree.nodes.hatc_nodes", "AdaLeafClassifier"),
        ("river.tree.nodes.hatc_nodes", "AdaNomBinaryBranchClass"),
        ("river.tree.nodes.hatc_nodes", "AdaNumBinaryBranchClass"),
        ("river.tree.splitter.gaussian_splitter", "GaussianSplitter"),
        ("river.tree.splitter.nominal_splitter_classif", "NominalSplitterClassif"),
    }
)
"""All that a snapshot may name; other versions of river may need others, and are refused before."""

_MODELS = {
    "hoeffding_adaptive_tree": "HoeffdingAdaptiveTreeClassifier",
    "logistic_regression": "LogisticRegression",
}

_UNREADABLE = (
    pickle.UnpicklingError,
    msgspec.DecodeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    EOFError,
    MemoryError,
    OverflowError,
    RecursionError,
)


class OtherFile(ModelRefused):
    """A file is not the one that was announced: somebody wrote over it."""


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of a file: what the state is, and what wrote it."""

    kind: OnlineKind
    types: dict[str, FeatureType]
    classes: int
    labels: int
    libraries: dict[str, str]


class OnlineModel:
    """A snapshot that answers.

    Args:
        learnt: Its state.
    """

    def __init__(self, learnt: Learnt) -> None:
        self.learnt = learnt

    def score(self, batch: pa.RecordBatch) -> Floats:
        """Outputs of each row, shape (rows, K): probability of the second of two classes, else of every class."""
        numbers, categories = prepared(batch, self.learnt.types)
        ask = _tree if self.learnt.kind == "hoeffding_adaptive_tree" else _lines
        answers = [ask(self.learnt, number, category) for number, category in zip(numbers, categories, strict=True)]
        return np.array(answers).reshape(batch.num_rows, self.learnt.width)


def _tree(learnt: Learnt, numbers: Row, categories: Row) -> list[float]:
    """What the tree expects; as likely as any where it knows nothing."""
    found = learnt.models[0].predict_proba_one(learnt.row(numbers, categories))
    if not found:
        return [1.0 / learnt.classes] * learnt.width
    return [found.get(1, 0.0)] if learnt.width == 1 else [found.get(each, 0.0) for each in range(learnt.classes)]


def _lines(learnt: Learnt, numbers: Row, categories: Row) -> list[float]:
    """One regression, or those of all classes so that they sum to 1."""
    row = learnt.row(numbers, categories)
    chances = [max(line.predict_proba_one(row)[True], TINY) for line in learnt.models]
    return chances if learnt.width == 1 else [each / sum(chances) for each in chances]


@cache
def libraries() -> Mapping[str, str]:
    """Versions that a snapshot depends on: its state is not promised across them."""
    return {"python": ".".join(platform.python_version_tuple()[:2]), "river": version("river")}


def written(learnt: Learnt) -> bytes | None:
    """The file of a snapshot; None where it would be too large."""
    head = _Head(learnt.kind, learnt.types, learnt.classes, learnt.labels, dict(libraries()))
    state = pickle.dumps((learnt.models, learnt.scaler), protocol=5)
    value = msgspec.json.encode(head) + b"\n" + state
    return value if len(value) <= MOST_BYTES else None


def read(value: bytes, said: Online, types: dict[str, FeatureType], classes: int) -> OnlineModel:
    """The snapshot that was announced.

    Args:
        value: The file.
        said: The announcement, whose signature was verified.
        types: What the pipeline computes.
        classes: How many classes it has.

    Raises:
        OtherFile: It is not what was announced.
        ModelRefused: It is not for this pipeline, or not of our libraries.
    """
    if len(value) > MOST_BYTES or len(value) != said.size or sha256(value) != said.sha256:
        raise OtherFile(f"online member {said.uri}: not the file that was announced (size or SHA-256 differs)")
    try:
        line, _, state = value.partition(b"\n")
        head = msgspec.json.decode(line[:HEAD_BYTES], type=_Head)
        _fits(head, said, types, classes)
        models, scaler = _Reader(io.BytesIO(state)).load()
        learnt = Learnt(head.kind, head.types, head.classes, head.labels, models, scaler)
        _answers(learnt)
    except _UNREADABLE as error:
        raise ModelRefused(f"online member {said.uri} cannot be read: {type(error).__name__}: {error}") from error
    return OnlineModel(learnt)


def fetch_online(store: Store, said: Online, types: Mapping[str, FeatureType], classes: int) -> OnlineModel:
    """Fetch and read the snapshot that a checkpoint names; see `read`.

    Raises:
        OtherFile: It is not what was announced, or gone; snapshots are written over after a while.
        ModelRefused: It is not for this pipeline, or not of our libraries.
        Transient: The store is away.
    """
    try:
        return read(store.get(said.uri, MOST_BYTES), said, dict(types), classes)
    except NotStored as error:
        raise OtherFile(f"online member: {error}") from error


class _Reader(pickle.Unpickler):
    """Knows the allowed types alone; a name with dots would reach through a type for something else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not an allowed type")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"persistent id {pid!r} is not allowed")


def _fits(head: _Head, said: Online, types: dict[str, FeatureType], classes: int) -> None:
    if head.libraries != libraries():
        raise ModelRefused(
            f"online member {said.uri} was made by {head.libraries}, here is {libraries()}: "
            "run training and serving with the same versions"
        )
    if (head.types, head.classes) != (types, classes):
        raise ModelRefused(f"online member {said.uri} was made for other features or classes than the pipeline's")
    if head.labels != said.labels:
        raise ModelRefused(f"online member {said.uri} has learnt {head.labels} labels, {said.labels} were announced")


def _answers(learnt: Learnt) -> None:
    """Refuse a state that is of another shape, or cannot answer a row of which everything is missing."""
    wanted = 1 if learnt.kind == "hoeffding_adaptive_tree" else learnt.width
    names = [type(each).__name__ for each in learnt.models]
    if type(learnt.models) is not list or names != [_MODELS[learnt.kind]] * wanted:
        raise ValueError(f"{names} is no {learnt.kind} of {learnt.classes} classes")
    scaler = "StandardScaler" if learnt.kind == "logistic_regression" else "NoneType"
    if type(learnt.scaler).__name__ != scaler:
        raise ValueError(f"the scaler of a {learnt.kind} is a {scaler}, not a {type(learnt.scaler).__name__}")
    empty = pa.record_batch({name: pa.nulls(1, _ARROW[kind]) for name, kind in learnt.types.items()})
    outputs = OnlineModel(learnt).score(empty)
    if not np.isfinite(outputs).all():
        raise ValueError("it gives no finite number for an empty row")


_ARROW = {"number": pa.float64(), "category": pa.string()}
