"""Who signs and whom one trusts: ECDSA on P-256 over SHA-256, of artefacts and of announcements.

What is signed is an envelope of DSSE: the kind of the thing, then its bytes, so that a signature over one kind is none
over another. Signatures are deterministic (RFC 6979): the same content under the same key has the same one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from runtime.errors import HeadraceError, WrongSetup
from schemas.canonical import composed, fields
from schemas.cloudevents import type_of
from schemas.messages import Message

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey
Announcement = TypeVar("Announcement", bound=Message)
Why = Literal["unsigned", "unknown_key", "wrong_signature"]

ALGORITHM: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
MARKS = frozenset({"key", "signed_by", "signature"})
"""The fields of a message that its signature is not over."""


class Untrusted(HeadraceError):
    """Nobody who is trusted has signed it, or something else was signed.

    Attributes:
        why: In one word, for metrics.
    """

    def __init__(self, why: Why, text: str) -> None:
        super().__init__(text)
        self.why: Why = why


@dataclass(frozen=True, slots=True)
class Seal:
    """A signature, and the id of the key that made it."""

    key: str
    signature: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one process.

    Attributes:
        trusted: Public keys by id; several, so that keys can be changed while everything runs.
        private: What this process signs with, None where it only reads.
        unsigned: Whether what nobody signed is taken, too. What is signed wrongly never is.
    """

    trusted: Mapping[str, PublicKey] = field(default_factory=dict)
    private: PrivateKey | None = None
    unsigned: bool = False

    @classmethod
    def of(cls, trusted: Iterable[PublicKey], private: PrivateKey | None = None, *, unsigned: bool = False) -> Keys:
        """From keys in any order."""
        return cls({key_id(each): each for each in trusted}, private, unsigned)

    @property
    def signs(self) -> bool:
        """Whether it signs what it makes.

        Raises:
            WrongSetup: It has no private key, and unsigned ones are not wanted.
        """
        if self.private is None and not self.unsigned:
            raise WrongSetup("there is no key to sign models with; name one in HEADRACE_SIGNING_KEY")
        return self.private is not None

    def sign(self, kind: str, payload: bytes) -> Seal | None:
        """The signature over a thing of a kind; None where nothing is signed.

        Raises:
            WrongSetup: As `signs`.
        """
        if not self.signs or self.private is None:
            return None
        signature = self.private.sign(envelope(kind, payload), ALGORITHM)
        return Seal(key_id(self.private.public_key()), base64.b64encode(signature).decode())

    def verify(self, kind: str, payload: bytes, seal: Seal) -> None:
        """Return where a trusted key made the signature over exactly this.

        Raises:
            Untrusted: The key is not trusted, or it has not signed this.
        """
        if (key := self.trusted.get(seal.key)) is None:
            if self.unsigned:
                return
            known = ", ".join(sorted(self.trusted)) or "none"
            raise Untrusted("unknown_key", f"it is signed with key {seal.key[:64]!r}; trusted are: {known}")
        try:
            key.verify(base64.b64decode(seal.signature, validate=True), envelope(kind, payload), ALGORITHM)
        except (InvalidSignature, binascii.Error, ValueError) as error:
            raise Untrusted(
                "wrong_signature", f"key {seal.key} has not signed this: it was changed, or forged"
            ) from error

    def unsealed(self) -> None:
        """Return where things may come without a signature.

        Raises:
            Untrusted: They may not.
        """
        if not self.unsigned:
            raise Untrusted("unsigned", "nobody signed it; only HEADRACE_ALLOW_UNSIGNED=true would take it")


def envelope(kind: str, payload: bytes) -> bytes:
    """What a signature is over: the pre-authentication encoding of DSSE 1.0."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def key_id(public: PublicKey) -> str:
    """The name of a key: the first 16 hex digits of the SHA-256 of its DER."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]


# --- announcements ----------------------------------------------------------------------------


def seal_json(keys: Keys, kind: str, content: bytes) -> Seal | None:
    """The signature over a JSON object, without its fields that hold signatures: over its canonical form (RFC 8785).

    Args:
        keys: Who signs.
        kind: The CloudEvents type of the message, or what else no other kind of message is called.
        content: The object.
    """
    return keys.sign(_media(kind), _unmarked(fields(_OBJECT.decode(content))))


def verify_json(keys: Keys, kind: str, content: bytes, seal: Seal | None) -> bytes:
    """The object in canonical form, which is what was verified and must be what is read: a key is in it once.

    Args:
        keys: Whom one trusts.
        kind: As it was signed.
        content: A JSON object, as it came.
        seal: The signature; None for none.

    Raises:
        Untrusted: It is not to be believed.
        ValueError: It is no JSON object.
    """
    found = _OBJECT.decode(content)
    if seal is None:
        keys.unsealed()
    texts = fields(found)
    if seal is not None:
        keys.verify(_media(kind), _unmarked(texts), seal)
    return composed(texts)


def signed(keys: Keys, message: Announcement) -> Announcement:
    """The announcement with its signature; as it is where nothing is signed."""
    seal = seal_json(keys, type_of(message.__class__), message.model_dump_json().encode())
    if seal is None:
        return message
    return message.model_copy(update={"signed_by": seal.key, "signature": seal.signature})


_OBJECT = msgspec.json.Decoder(dict[str, object])


def _unmarked(texts: Mapping[str, str]) -> bytes:
    return composed({name: text for name, text in texts.items() if name not in MARKS})


def _media(kind: str) -> str:
    return f"application/vnd.{kind}+json"


# --- keys that are no secret ------------------------------------------------------------------


def keys_in_memory(*, unsigned: bool = False) -> Keys:
    """A pair that everybody knows, for what lives and ends with one process: a simulation, a test.

    With `unsigned` it takes what others signed, too: for a log that is only read again.
    """
    number = int.from_bytes(hashlib.sha256(b"headrace: a log in memory").digest()[:31], "big")
    private = ec.derive_private_key(number, ec.SECP256R1())
    return Keys.of([private.public_key()], private, unsigned=unsigned)
