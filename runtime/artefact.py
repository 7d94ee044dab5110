"""Artefacts as they lie in the store: the manifest that was announced, and the files that it names, verified."""

from __future__ import annotations

from pydantic import ValidationError

from runtime.errors import HeadraceError
from runtime.store import Store
from schemas.artefact import MANIFEST, Manifest, sha256
from schemas.messages import Member

MANIFEST_BYTES, FILE_BYTES = 1 << 20, 256 << 20


class ModelRefused(HeadraceError):
    """An artefact is not what was announced, or does not answer as it did when it was made."""


def fetch_manifest(store: Store, member: Member) -> Manifest:
    """The manifest of an announced artefact.

    Raises:
        ModelRefused: It is not the one that was announced.
        NotStored: There is none.
        Transient: The store is away.
    """
    text = store.get(f"{member.uri}/{MANIFEST}", MANIFEST_BYTES)
    if sha256(text) != member.manifest_sha256:
        raise ModelRefused(f"member {member.version}: {MANIFEST} has another SHA-256 than was announced")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ModelRefused(f"member {member.version}: {MANIFEST} is not a manifest: {error}") from error


def fetch_file(store: Store, member: Member, manifest: Manifest, name: str) -> bytes:
    """The bytes of a file that the manifest names.

    Raises:
        ModelRefused: It is another file.
        NotStored: It is not there.
        Transient: The store is away.
    """
    expected = manifest.files[name]
    value = store.get(f"{member.uri}/{name}", min(expected.size, FILE_BYTES))
    if len(value) != expected.size or sha256(value) != expected.sha256:
        raise ModelRefused(f"member {member.version}: {name} is not the file that the manifest names (SHA-256 differs)")
    return value
