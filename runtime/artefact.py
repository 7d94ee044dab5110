"""Artefacts as they lie in the store: signed, with the manifest that was announced and the files that it names.

Nothing of an artefact is parsed before its signature was verified, apart from the signature itself.
"""

from __future__ import annotations

from pydantic import ValidationError

from runtime.bundle import MOST_BYTES, SIGNATURE, signed_files
from runtime.errors import HeadraceError
from runtime.signing import Untrusted
from runtime.store import NotStored, Store
from schemas.artefact import MANIFEST, Manifest, sha256
from schemas.messages import Member

MANIFEST_BYTES, FILE_BYTES = 1 << 20, 256 << 20
MOST_NAMED = 3


class ModelRefused(HeadraceError):
    """An artefact is not what was announced, or does not answer as it did when it was made."""


def fetch_manifest(store: Store, member: Member) -> Manifest:
    """The manifest of an announced artefact, which is signed as a whole.

    Raises:
        ModelRefused: It is not the one that was announced, nobody who is trusted signed it, or it is about other files
            than were signed or lie there.
        NotStored: There is none.
        Transient: The store is away.
    """
    text = store.get(f"{member.uri}/{MANIFEST}", MANIFEST_BYTES)
    if sha256(text) != member.manifest_sha256:
        raise ModelRefused(f"member {member.version}: {MANIFEST} has another SHA-256 than was announced")
    try:
        return signed_manifest(store, member.uri, text)
    except (Untrusted, ModelRefused) as error:
        raise ModelRefused(f"member {member.version}: {error}") from error


def signed_manifest(store: Store, directory: str, text: bytes) -> Manifest:
    """The manifest in bytes that lie in a directory, once its signature was verified.

    Raises:
        Untrusted: It is not signed, or not as it is.
        ModelRefused: It is no manifest, or other files lie there than it names.
        NotStored: The path leads out of the store.
        Transient: The store is away.
    """
    signed = _signed(store, directory)
    if signed is not None and signed.get(MANIFEST) != sha256(text):
        raise Untrusted("wrong_signature", f"{MANIFEST} is not the file that {SIGNATURE} signs (SHA-256 differs)")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ModelRefused(f"{MANIFEST} is not a manifest: {error}") from error
    named = {name: file.sha256 for name, file in manifest.files.items()}
    if signed is not None and signed != {**named, MANIFEST: sha256(text)}:
        raise Untrusted("wrong_signature", f"{SIGNATURE} signs other files than {MANIFEST} names")
    there = {path.removeprefix(f"{directory}/") for path in store.names(directory)}
    if strange := there - {MANIFEST, SIGNATURE, *named}:
        raise ModelRefused(f"files lie in {directory} that {MANIFEST} does not name: {sorted(strange)[:MOST_NAMED]}")
    return manifest


def _signed(store: Store, directory: str) -> dict[str, str] | None:
    """The files that the signature is over; None where there is none and none is needed."""
    try:
        bundle = store.get(f"{directory}/{SIGNATURE}", MOST_BYTES)
    except NotStored:
        store.keys.unsealed()
        return None
    return signed_files(store.keys, directory.rsplit("/", 1)[-1], bundle)


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
