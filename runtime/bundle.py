"""`model.sig`: the signature of an artefact, a bundle of OpenSSF Model Signing 1.0 over all its other files.

The form is a Sigstore bundle with a DSSE envelope around an in-toto statement: verifiers of other makers read it, given
the public key. We take only bundles written as ours are: a byte that was changed is found wherever it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from runtime.signing import Keys, PublicKey, Seal, Untrusted, key_id

SIGNATURE = "model.sig"
MOST_BYTES = 1 << 20
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"


class _Signature(msgspec.Struct, frozen=True):
    sig: str


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    payload: str
    signatures: tuple[_Signature, ...]


class _PublicKey(msgspec.Struct, frozen=True):
    hint: str


class _Material(msgspec.Struct, frozen=True, rename="camel"):
    public_key: _PublicKey


class _Bundle(msgspec.Struct, frozen=True, rename="camel"):
    verification_material: _Material
    dsse_envelope: _Envelope


class _Resource(msgspec.Struct, frozen=True):
    name: str
    algorithm: str
    digest: str


class _Predicate(msgspec.Struct, frozen=True):
    resources: tuple[_Resource, ...]


class _Subject(msgspec.Struct, frozen=True):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct, frozen=True, rename={"kind": "_type", "predicate_type": "predicateType"}):
    kind: str
    subject: tuple[_Subject, ...]
    predicate_type: str
    predicate: _Predicate


def sign_files(keys: Keys, name: str, files: Mapping[str, str]) -> bytes | None:
    """The bundle over files; None where nothing is signed.

    Args:
        keys: Who signs.
        name: Name of the artefact: its directory.
        files: Name to SHA-256 in hex.

    Raises:
        WrongSetup: There is no private key.
    """
    statement = _compact(_statement(name, files))
    seal = keys.sign(PAYLOAD_TYPE, statement)
    if seal is None or keys.private is None:
        return None
    return _bundle(hint(keys.private.public_key()), base64.b64encode(statement).decode(), seal.signature)


def _bundle(hinted: str, payload: str, signature: str) -> bytes:
    return _compact(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": hinted}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": payload,
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": signature, "keyid": ""}],
            },
        }
    )


def signed_files(keys: Keys, name: str, bundle: bytes) -> dict[str, str]:
    """Name to SHA-256 of each file that a bundle signs. Nothing in it is believed before its signature was verified.

    Args:
        keys: Whom one trusts.
        name: Name of the artefact that it must be about.
        bundle: The bytes of `model.sig`.

    Raises:
        Untrusted: No trusted key signed it, or it is about something else.
    """
    try:
        found = msgspec.json.decode(bundle, type=_Bundle)
        (signature,) = found.dsse_envelope.signatures
        payload = base64.b64decode(found.dsse_envelope.payload, validate=True)
    except (ValueError, RecursionError) as error:  # no JSON, no bundle, no base64, or nested without end
        raise Untrusted("wrong_signature", f"{SIGNATURE} is no bundle: {error}") from error
    hinted = found.verification_material.public_key.hint
    if bundle != _bundle(hinted, base64.b64encode(payload).decode(), signature.sig):
        raise Untrusted("wrong_signature", f"{SIGNATURE} is not written as Headrace writes it: it was changed")
    try:
        keys.verify(PAYLOAD_TYPE, payload, Seal(_named(keys, hinted), signature.sig))
    except Untrusted as error:
        raise Untrusted(error.why, f"{SIGNATURE}: {error}") from error
    return _files(payload, name)


def _files(payload: bytes, name: str) -> dict[str, str]:
    try:
        statement = msgspec.json.decode(payload, type=_Statement)
    except ValueError as error:
        raise Untrusted("wrong_signature", f"{SIGNATURE} is no signature of a model: {error}") from error
    files = {each.name: each.digest for each in statement.predicate.resources if each.algorithm == "sha256"}
    subjects = [(each.name, each.digest) for each in statement.subject]
    if (subjects, statement.predicate_type) != ([(name, {"sha256": _root(files)})], PREDICATE):
        raise Untrusted("wrong_signature", f"{SIGNATURE} is the signature of another artefact than {name}")
    return files


def hint(public: PublicKey) -> str:
    """How a bundle names its key: the SHA-256 of its PEM."""
    return hashlib.sha256(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _named(keys: Keys, hinted: str) -> str:
    return next((key_id(each) for each in keys.trusted.values() if hint(each) == hinted), hinted)


def _root(files: Mapping[str, str]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(files[each]) for each in sorted(files))).hexdigest()


def _statement(name: str, files: Mapping[str, str]) -> dict[str, object]:
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": _root(files)}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
            "resources": [{"name": each, "algorithm": "sha256", "digest": files[each]} for each in sorted(files)],
        },
    }


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
