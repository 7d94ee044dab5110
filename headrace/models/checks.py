"""Verifies a member: its files against its signature, its dataset against the log, and the fit by fitting again.

Each check is by itself, so that everything that is broken is named. But nothing of an artefact is loaded, and no fit is
made, where its signature does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
from pydantic import ValidationError

from runtime.artefact import FILE_BYTES, MANIFEST_BYTES, ModelRefused
from runtime.bundle import MOST_BYTES, SIGNATURE, signed_files
from runtime.errors import HeadraceError
from runtime.model import fetch, libraries
from runtime.ports import LogReader
from runtime.references import fetch_reference
from runtime.signing import Untrusted
from runtime.store import NotStored, Store
from schemas.answers import answer
from schemas.artefact import MANIFEST, Manifest, model_digest, sha256
from schemas.messages import Member
from schemas.reference import BadReferenceError
from services.training.domain.estimators import Recipe, Refused
from services.training.domain.fitting import made_from, parts, warm_up
from services.training.remaking import DatasetDiffers, RowsGone, remake
from services.training.segments import SegmentDamaged

BROKEN = (
    ModelRefused,
    NotStored,
    BadReferenceError,
    Untrusted,
    DatasetDiffers,
    RowsGone,
    SegmentDamaged,
    Refused,
    ValidationError,
)
"""What a check finds; anything else, such as a store that is away, ends the verification."""


SHORT = 12
"""Digits of a digest that are shown."""


class Broken(HeadraceError):
    """Something is not what it was."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: What it is.
        holds: Whether it is as it was made.
        text: What was found.
    """

    what: str
    holds: bool
    text: str


@dataclass
class Verification:
    """Verifies one member.

    Args:
        member: Its announcement, which was believed.
        store: Where its artefact and the archive are.
        log: The pipeline's log.
        refit: Whether the fit is made again, too.
    """

    member: Member
    store: Store
    log: LogReader
    refit: bool = True
    _manifest: Manifest | None = None
    _rows: pa.RecordBatch | None = None
    _files: dict[str, str] = field(default_factory=dict)
    _broken: set[str] = field(default_factory=set)

    def run(self) -> Iterator[Check]:
        """The checks, one by one as they are done.

        Raises:
            Transient: Store or broker is away.
        """
        yield self._check(SIGNATURE, self._verify_signature)
        yield self._check(MANIFEST, self._read_manifest)
        for name in sorted(self._files.keys() - {MANIFEST}):
            yield self._check(name, partial(self._verify_file, name))
        yield self._check("directory", self._look_for_strangers)
        if self._manifest is None or self._broken:
            return
        yield self._check("model", partial(self._load, self._manifest))
        yield self._check("dataset", partial(self._remake, self._manifest))
        if self.refit and self._rows is not None:
            yield self._check("fit", partial(self._fit_again, self._manifest, self._rows))

    def _check(self, what: str, look: Callable[[], str]) -> Check:
        try:
            return Check(what, True, look())
        except (*BROKEN, Broken) as error:
            self._broken.add(what)
            return Check(what, False, str(error))

    def _verify_signature(self) -> str:
        """The bundle in itself, and that it is over the manifest that was announced."""
        try:
            bundle = self.store.get(f"{self.member.uri}/{SIGNATURE}", MOST_BYTES)
        except NotStored:
            self.store.keys.unsealed()
            return "nobody signed it, and HEADRACE_ALLOW_UNSIGNED takes that"
        files = signed_files(self.store.keys, self.member.uri.rsplit("/", 1)[-1], bundle)
        if files.get(MANIFEST) != self.member.manifest_sha256:
            raise Broken(f"{SIGNATURE} is over another {MANIFEST} than was announced")
        self._files = files
        return f"signs {len(files)} files"

    def _read_manifest(self) -> str:
        text = self.store.get(f"{self.member.uri}/{MANIFEST}", MANIFEST_BYTES)
        if sha256(text) != self.member.manifest_sha256:
            raise Broken(f"{self.member.uri}/{MANIFEST} is not the one that was announced: its SHA-256 differs")
        self._manifest = Manifest.model_validate_json(text)
        named = {name: file.sha256 for name, file in self._manifest.files.items()}
        if self._files and self._files != {**named, MANIFEST: self.member.manifest_sha256}:
            raise Broken(f"{MANIFEST} names other files than {SIGNATURE} signs")
        self._files = named
        return f"{len(text):,} bytes, as announced"

    def _verify_file(self, name: str) -> str:
        value = self.store.get(f"{self.member.uri}/{name}", FILE_BYTES)
        if sha256(value) != self._files[name]:
            raise Broken(f"{self.member.uri}/{name} is not the file that was signed: its SHA-256 differs")
        return f"{len(value):,} bytes, as signed"

    def _look_for_strangers(self) -> str:
        there = {path.removeprefix(f"{self.member.uri}/") for path in self.store.names(self.member.uri)}
        if self._files and (strange := there - {SIGNATURE, MANIFEST, *self._files}):
            raise Broken(f"files lie in {self.member.uri} that nobody signed: {', '.join(sorted(strange))}")
        return f"{len(there)} files lie there, no other ones"

    def _load(self, manifest: Manifest) -> str:
        fetch(self.store, self.member, manifest.features)
        fetch_reference(self.store, self.member)
        return f"loads, and answers its warm-up rows as when it was made: digest {manifest.digest[:SHORT]}"

    def _remake(self, manifest: Manifest) -> str:
        self._rows = remake(manifest.dataset, manifest.model, manifest.features, self.store, self.log)
        return f"{self._rows.num_rows:,} rows, read again: digest {manifest.dataset.digest[:SHORT]}"

    @staticmethod
    def _fit_again(manifest: Manifest, rows: pa.RecordBatch) -> str:
        found, was = fitted_again(manifest, rows), manifest.digest
        if found == was:
            return f"made again, the same: digest {found[:SHORT]}"
        raise Broken(f"made again it is another model: digest {found[:SHORT]}, not {was[:SHORT]}; {_because(manifest)}")


def fitted_again(manifest: Manifest, rows: pa.RecordBatch) -> str:
    """The digest of the model that a manifest's estimator, parameters and seed make of a dataset.

    Of all its rows, or of those that were not held out, as the manifest says; of an old one, which does not, of either.

    Raises:
        Refused: The estimator does not take them.
    """
    older, held_out = parts(rows)
    chosen = {True: [rows], False: [older], None: [rows, older]}[manifest.dataset.held_out_learnt]
    found = [_digest(manifest, each, held_out) for each in chosen]
    return manifest.digest if manifest.digest in found else found[0]


def _digest(manifest: Manifest, rows: pa.RecordBatch, held_out: pa.RecordBatch) -> str:
    recipe = Recipe(manifest.estimator, manifest.params, manifest.target)
    made = made_from(recipe, rows, manifest.features, manifest.seed)
    matrix = made.encoding.matrix(warm_up(held_out, made.encoding))
    return model_digest(manifest.made, made.encoding, matrix, answer(made.estimator, matrix, manifest.target))


def other_libraries(manifest: Manifest, here: Mapping[str, str]) -> list[str]:
    """Which libraries a model was made with that are other ones here."""
    then = manifest.libraries
    return [f"{name} {then[name]} then, {here.get(name, 'none')} here" for name in then if here.get(name) != then[name]]


def _because(manifest: Manifest) -> str:
    if differing := other_libraries(manifest, libraries()):
        return f"{', '.join(differing)}: verify it with the versions of then"
    return "the libraries are those of then: it was not made from these rows, or on another sort of processor"
