"""Models as artefacts: stored by training, and by serving fetched, verified, loaded and warmed up before they answer.

Files are skops with a constant list of types: nothing outside of it is ever constructed, whatever a file asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import sklearn
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from runtime.artefact import MANIFEST_BYTES, ModelRefused, fetch_file, fetch_manifest, signed_manifest
from runtime.bundle import SIGNATURE, sign_files
from runtime.codes import coded
from runtime.estimators import TRUSTED, UNLOADABLE, dumps, loads
from runtime.joining import joined
from runtime.signing import Untrusted
from runtime.store import NotStored, Store
from runtime.trees import BOOSTED
from schemas import batch as b
from schemas.answers import Estimator, answer, one_thread
from schemas.artefact import MANIFEST, MODEL, WARMUP, File, Manifest, model_digest, sha256
from schemas.encoding import Encoding
from schemas.messages import Member
from schemas.spec import FeatureType
from schemas.task import Target, shaped

OUTPUT = "_output"
"""Column of the warm-up rows: what the model answered when it was made."""

TOLERANCE = 1e-9
"""Other processors and batch sizes may round sums in another order, not more."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that may answer.

    Attributes:
        version: Version of the member.
        encoding: How batches become its input.
        estimator: What answers.
        target: What it predicts.
    """

    version: int
    encoding: Encoding
    estimator: Estimator
    target: Target

    def score(self, batch: pa.RecordBatch) -> npt.NDArray[np.float64]:
        """The output for each row, shape (rows,) for one number per row, else (rows, K)."""
        return answer(self.estimator, self.encoding.matrix(batch), self.target)


# --- storing ----------------------------------------------------------------------------------


def digest_of(manifest: Manifest, rows: pa.RecordBatch, outputs: npt.NDArray[np.float64]) -> str:
    """The digest of the model that a manifest describes."""
    return model_digest(manifest.made, manifest.encoding, manifest.encoding.matrix(rows), outputs)


def save(
    store: Store,
    directory: str,
    estimator: Estimator,
    rows: pa.RecordBatch,
    manifest: Manifest,
    others: Mapping[str, bytes] = MappingProxyType({}),
) -> bytes:
    """Store an artefact; returns the manifest as it is stored. Storing the same model again changes nothing.

    The signature is written last: where there is one, everything that it signs is there. What was not signed yet is
    left of a crash, or somebody else put it there: it is written anew, never signed.

    Args:
        store: The artefact store.
        directory: The artefact's path.
        estimator: The fitted estimator.
        rows: The warm-up rows, feature columns alone.
        manifest: Its `files` are filled in here.
        others: Files besides the model and its warm-up rows, by name.
    """
    if (stored := _stored(store, directory)) is not None:
        return stored
    outputs = answer(estimator, manifest.encoding.matrix(rows), manifest.target)
    warmup = rows.append_column(OUTPUT, _column(outputs))
    files: dict[str, bytes] = {MODEL: dumps(estimator), WARMUP: b.encode(warmup), **others}
    listed = {name: File(sha256=sha256(value), size=len(value)) for name, value in files.items()}
    files[MANIFEST] = manifest.model_copy(update={"files": listed}).model_dump_json(indent=2).encode()
    signature = sign_files(store.keys, directory.rsplit("/", 1)[-1], {name: sha256(files[name]) for name in files})
    for name, value in files.items():
        store.replace(f"{directory}/{name}", value)
    if signature is not None:
        store.replace(f"{directory}/{SIGNATURE}", signature)
    return files[MANIFEST]


def _stored(store: Store, directory: str) -> bytes | None:
    """The manifest of an artefact that was stored whole, None where there is none."""
    try:
        text = store.get(f"{directory}/{MANIFEST}", MANIFEST_BYTES)
        signed_manifest(store, directory, text)
    except (NotStored, Untrusted, ModelRefused):
        return None
    return text


# --- loading ----------------------------------------------------------------------------------


def fetch(store: Store, member: Member, features: Mapping[str, FeatureType], trusted: Sequence[str] = ()) -> Model:
    """Fetch, verify, load and warm up an announced model.

    Args:
        store: The artefact store.
        member: The announcement.
        features: What the pipeline computes.
        trusted: Types that a model may hold besides those of the list: an operator has named them.

    Raises:
        ModelRefused: It is not what was announced; the text says in which respect.
        Transient: The store is away.
    """
    try:
        manifest = fetch_manifest(store, member)
        _fits(manifest, member, features)
        files = {name: fetch_file(store, member, manifest, name) for name in (MODEL, WARMUP)}
    except NotStored as error:
        raise ModelRefused(f"member {member.version}: {error}") from error
    return load(files, manifest, trusted)


def load(files: Mapping[str, bytes], manifest: Manifest, trusted: Sequence[str] = ()) -> Model:
    """The model in verified files, warmed up.

    Raises:
        ModelRefused: A file cannot be read, or the model answers otherwise than when it was made.
    """
    one_thread()
    try:
        estimator = joined(coded(loads(files[MODEL], trusted)))
        warmup = b.decode(files[WARMUP])
        model = Model(manifest.version, manifest.encoding, estimator, manifest.target)
        _warm_up(model, warmup, manifest)
    except UntrustedTypesFoundException as error:
        unknown = untrusted(files[MODEL], trusted)
        raise ModelRefused(f"member {manifest.version} cannot be loaded: {_mend(unknown)}") from error
    except UNLOADABLE as error:
        raise ModelRefused(f"member {manifest.version} cannot be loaded: {type(error).__name__}: {error}") from error
    return model


def untrusted(stored: bytes, trusted: Sequence[str] = ()) -> list[str]:
    """The types in a model's file that are neither on the list nor named by an operator."""
    return sorted({*skops.io.get_untrusted_types(data=stored)} - {*TRUSTED, *trusted})


def storable(estimator: Estimator, trusted: Sequence[str] = ()) -> None:
    """Whether an estimator can be stored and loaded again.

    Raises:
        ModelRefused: skops cannot, or must not: the text says which types would have to be trusted.
    """
    try:
        stored = dumps(estimator)
        unknown = untrusted(stored, trusted)
    except UNLOADABLE as error:
        raise ModelRefused(f"it cannot be stored as skops: {type(error).__name__}: {error}") from error
    if unknown:
        raise ModelRefused(_mend(unknown))


def _mend(unknown: Sequence[str]) -> str:
    return (
        f"it holds {', '.join(unknown)}, which nobody has called safe to load; if you trust the package, name them in "
        "HEADRACE_TRUSTED_TYPES where training and serving run"
    )


def _fits(manifest: Manifest, member: Member, features: Mapping[str, FeatureType]) -> None:
    said = (member.model, member.version, member.digest, tuple(member.features))
    if (manifest.model, manifest.version, manifest.digest, tuple(manifest.features)) != said:
        raise ModelRefused(f"member {member.version}: the manifest describes another model than was announced")
    if missing := [name for name, kind in manifest.features.items() if features.get(name) != kind]:
        raise ModelRefused(f"member {member.version} needs other features than the pipeline computes: {missing}")
    if not {MODEL, WARMUP} <= manifest.files.keys():
        raise ModelRefused(f"member {member.version}: the manifest does not name {MODEL} and {WARMUP}")
    if manifest.files[MODEL].sha256 != member.sha256:
        raise ModelRefused(f"member {member.version}: {MODEL} has another SHA-256 than was announced")


def _warm_up(model: Model, warmup: pa.RecordBatch, manifest: Manifest) -> None:
    recorded = _recorded(warmup.column(OUTPUT), model.target.width)
    if digest_of(manifest, warmup, recorded) != manifest.digest:
        raise ModelRefused(f"member {model.version}: parameters and warm-up outputs do not have the announced digest")
    batches = [warmup.num_rows, 1] if isinstance(model.estimator, BOOSTED) else [warmup.num_rows]  # see `joining`
    outputs = [model.score(warmup.slice(0, rows)) for rows in batches]
    same = [np.allclose(each, recorded[: len(each)], rtol=TOLERANCE, atol=TOLERANCE) for each in outputs]
    if not warmup.num_rows or not all(same):
        raise ModelRefused(f"member {model.version} answers the warm-up rows otherwise than when it was made")


def _column(outputs: npt.NDArray[np.float64]) -> pa.Array:
    if outputs.ndim == 1:
        return pa.array(outputs)
    return pa.FixedSizeListArray.from_arrays(pa.array(outputs.ravel()), outputs.shape[1])


def _recorded(column: pa.Array, width: int) -> npt.NDArray[np.float64]:
    """The outputs in the column of the warm-up rows; ValueError where they are not of that width."""
    flat = column.flatten() if width > 1 else column
    return shaped(flat.cast(pa.float64()).to_numpy(zero_copy_only=False), width)


def libraries() -> dict[str, str]:
    """Versions of what a fit depends on."""
    modules = {"numpy": np, "pyarrow": pa, "scikit-learn": sklearn, "skops": skops}
    return {name: str(module.__version__) for name, module in modules.items()}
