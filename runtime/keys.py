"""Keys as files: PEM, a private one for training alone, public ones for everybody who reads models.

Run as `python -m runtime.keys FILE DIRECTORY`, it makes a pair unless there is one: what docker compose does at first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from runtime.errors import WrongSetup
from runtime.settings import TrustSettings
from runtime.signing import Keys, PrivateKey, PublicKey, key_id

CURVE = ec.SECP256R1()
MEND = "make a pair with `headrace keys new`, and give every reader of models the public one"


def keys_of(settings: TrustSettings, signing: Path | None = None) -> Keys:
    """The keys that settings name.

    Args:
        settings: Whom a service trusts.
        signing: The private key's file, for training alone.

    Raises:
        WrongSetup: A file is missing or is no key on P-256; or nobody would be trusted, the own key included.
    """
    trusted = [key for place in _places(settings.trusted_keys) for key in _trusted(place, settings)]
    private = None if signing is None else _private_key(signing, settings)
    keys = Keys.of(trusted, private, unsigned=settings.allow_unsigned)
    if not keys.trusted and not keys.unsigned:
        raise WrongSetup(f"HEADRACE_TRUSTED_KEYS: there is no key in {settings.trusted_keys}; {MEND}")
    if private is not None and key_id(private.public_key()) not in keys.trusted and keys.trusted:
        raise WrongSetup(
            f"HEADRACE_SIGNING_KEY: {signing} is key {key_id(private.public_key())}, which HEADRACE_TRUSTED_KEYS does "
            f"not hold ({', '.join(sorted(keys.trusted))}): readers would refuse its models; give them its public key"
        )
    return keys


def _places(text: str) -> list[Path]:
    return [Path(each.strip()) for each in text.split(",") if each.strip()]


def _trusted(place: Path, settings: TrustSettings) -> list[PublicKey]:
    if not place.exists() and settings.allow_unsigned:
        return []
    try:
        return public_keys(place)
    except OSError as error:
        raise WrongSetup(f"HEADRACE_TRUSTED_KEYS: {place} cannot be read: {error.strerror}; {MEND}") from error


def public_keys(place: Path) -> list[PublicKey]:
    """The public keys in a file or a directory; raises as `public_key`."""
    return [public_key(file) for file in (sorted(place.glob("*.pem")) if place.is_dir() else [place])]


def public_key(file: Path) -> PublicKey:
    """The public key in a file.

    Raises:
        WrongSetup: There is none, or it is no public key on P-256.
        OSError: The file cannot be read.
    """
    try:
        key = load_pem_public_key(file.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise WrongSetup(f"{file} is no public key in PEM: {error}; {MEND}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise WrongSetup(f"{file} is no key on the curve P-256; {MEND}")
    return key


def _private_key(file: Path, settings: TrustSettings) -> PrivateKey | None:
    if not file.exists() and settings.allow_unsigned:
        return None
    try:
        return private_key(file)
    except OSError as error:
        raise WrongSetup(f"HEADRACE_SIGNING_KEY: {file} cannot be read: {error.strerror}; {MEND}") from error


def private_key(file: Path) -> PrivateKey:
    """The private key in a file; raises as `public_key`."""
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise WrongSetup(f"{file} is no private key in PEM without a password: {error}; {MEND}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise WrongSetup(f"{file} is no key on the curve P-256; {MEND}")
    return key


# --- making -----------------------------------------------------------------------------------


def make(private: Path, trusted: Path) -> str:
    """Make a pair unless the private key is there, and put its public key among the trusted ones; its id.

    May be run by several at a time, and again after a crash.

    Args:
        private: File of the private key; only its owner may read it.
        trusted: Directory of the public keys.

    Raises:
        WrongSetup: They cannot be written, or what is there is no key.
    """
    try:
        if not private.exists():
            _write(private, _pem(ec.generate_private_key(CURVE)), 0o600)
        public = private_key(private).public_key()
        text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _write(trusted / f"{key_id(public)}.pem", text, 0o644)
    except OSError as error:
        raise WrongSetup(f"{error.filename} cannot be written: {error.strerror}; name another place") from error
    return key_id(public)


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, text: bytes, mode: int) -> None:
    """Whole or not at all, and never over a file that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=".new-") as file:  # readable by its owner alone
        file.write(text)
        file.flush()
        Path(file.name).chmod(mode)
        with contextlib.suppress(FileExistsError):
            os.link(file.name, path)


def main() -> int:
    """Make a pair at the two places that the command line names; exit code 0, or 2 with the mend on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m runtime.keys", description="Make a pair of keys unless there is one."
    )
    parser.add_argument("private", type=Path, help="file of the private key")
    parser.add_argument("trusted", type=Path, help="directory of the public keys")
    given = parser.parse_args()
    try:
        key = make(given.private, given.trusted)
    except WrongSetup as error:
        print(f"keys: {error}", file=sys.stderr)  # noqa: T201 - for the person who starts it
        return 2
    print(f"key {key} signs models; readers trust what is in {given.trusted}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
