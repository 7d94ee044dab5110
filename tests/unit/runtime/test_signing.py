from __future__ import annotations

import base64
import hashlib
import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from runtime.bundle import SIGNATURE, hint, sign_files, signed_files
from runtime.errors import WrongSetup
from runtime.keys import keys_of, make, private_key
from runtime.service import Context
from runtime.settings import TrustSettings
from runtime.signing import Keys, Untrusted, envelope, key_id, keys_in_memory, signed
from runtime.store import Store
from schemas.messages import Member
from services.drift.__main__ import build as build_drift
from services.serving.__main__ import build as build_serving
from services.training.__main__ import build as build_training
from services.training.settings import Settings as TrainingSettings
from tests.unit.services.serving.loop import artefact, pool
from tests.unit.services.training.loop import spec

KEYS = keys_in_memory()
FILES = {"model.skops": "aa" * 32, "manifest.json": "bb" * 32, "a/b.bin": "cc" * 32}


@pytest.fixture(scope="module")
def member() -> Member:
    return artefact(Store("memory://"), spec())


def test_the_same_under_the_same_key_has_the_same_signature(member: Member) -> None:
    assert signed(KEYS, member) == signed(KEYS, member)
    assert signed(KEYS, pool(member)).signature != signed(KEYS, member).signature
    assert sign_files(KEYS, "1-x", FILES) == sign_files(KEYS, "1-x", FILES)


def test_signing_again_signs_the_content_and_not_the_old_signature(member: Member) -> None:
    assert signed(KEYS, signed(KEYS, member)) == signed(KEYS, member)


# --- the bundle ---------------------------------------------------------------------------------


def test_the_bundle_is_laid_out_as_open_model_signing_says() -> None:
    """Checked once with the verifier of the OpenSSF; this holds its form, and verifies it by the standards alone."""
    public = KEYS.private.public_key()  # type: ignore[union-attr]
    bundle = json.loads(sign_files(KEYS, "1-x", FILES) or b"")
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert bundle["verificationMaterial"] == {
        "publicKey": {"hint": hashlib.sha256(pem).hexdigest()},
        "tlogEntries": [],
    }
    (signature,) = bundle["dsseEnvelope"]["signatures"]
    assert bundle["dsseEnvelope"]["payloadType"] == "application/vnd.in-toto+json"
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    pae = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload
    public.verify(base64.b64decode(signature["sig"]), pae, ec.ECDSA(hashes.SHA256()))
    names = sorted(FILES)
    root = hashlib.sha256(b"".join(bytes.fromhex(FILES[each]) for each in names)).hexdigest()
    assert json.loads(payload) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "1-x", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
            "resources": [{"name": each, "algorithm": "sha256", "digest": FILES[each]} for each in names],
        },
    }


def test_a_bundle_says_what_it_signs() -> None:
    assert signed_files(KEYS, "1-x", sign_files(KEYS, "1-x", FILES) or b"") == FILES


BUNDLE = sign_files(KEYS, "1-x", FILES) or b""


@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_found_wherever_it_is(place: int, turned: int) -> None:
    changed = bytearray(BUNDLE)
    changed[place] ^= turned
    with pytest.raises(Untrusted):
        signed_files(KEYS, "1-x", bytes(changed))


def test_a_trusted_signature_over_something_else_is_none_over_files() -> None:
    seal = KEYS.sign("application/vnd.in-toto+json", b'{"_type":"https://in-toto.io/Statement/v1"}')
    assert seal is not None
    bundle = json.loads(BUNDLE)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(b'{"_type":"https://in-toto.io/Statement/v1"}').decode()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = seal.signature
    with pytest.raises(Untrusted, match="no signature of a model"):
        signed_files(KEYS, "1-x", json.dumps(bundle, separators=(",", ":")).encode())


def test_kinds_and_lengths_are_under_the_signature() -> None:
    assert envelope("a", b"b c") == b"DSSEv1 1 a 3 b c"
    seal = KEYS.sign("a", b"x")
    assert seal is not None
    KEYS.verify("a", b"x", seal)
    with pytest.raises(Untrusted):
        KEYS.verify("b", b"x", seal)


# --- keys -------------------------------------------------------------------------------------


def settings(place: Path, **more: object) -> TrustSettings:
    return TrustSettings(trusted_keys=str(place), **more)  # type: ignore[arg-type]


def test_a_pair_is_made_once_and_its_private_half_is_for_its_owner_alone(tmp_path: Path) -> None:
    private, trusted = tmp_path / "keys" / "signing.pem", tmp_path / "keys" / "trusted"
    first, text = make(private, trusted), private.read_bytes()
    assert make(private, trusted) == first
    assert private.read_bytes() == text
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert [each.name for each in trusted.iterdir()] == [f"{first}.pem"]
    keys = keys_of(settings(trusted), private)
    assert (list(keys.trusted), keys.unsigned, keys.signs) == ([first], False, True)


def test_a_crash_between_the_halves_is_mended_by_the_next_start(tmp_path: Path) -> None:
    private, trusted = tmp_path / "signing.pem", tmp_path / "trusted"
    name = make(private, trusted)
    (trusted / f"{name}.pem").unlink()
    assert make(private, trusted) == name
    assert (trusted / f"{name}.pem").exists()


def test_several_trusted_keys_let_an_old_and_a_new_one_sign_meanwhile(tmp_path: Path) -> None:
    old, new = tmp_path / "old.pem", tmp_path / "new.pem"
    for each in (old, new):
        make(each, tmp_path / "trusted")
    both = keys_of(settings(tmp_path / "trusted"))
    for each in (old, new):
        private = private_key(each)
        seal = Keys.of([], private).sign("a", b"x")
        assert seal is not None
        assert seal.key == key_id(private.public_key())
        both.verify("a", b"x", seal)


def test_files_and_directories_of_keys_may_be_named_together(tmp_path: Path) -> None:
    names = [make(tmp_path / f"{each}.pem", tmp_path / each) for each in ("a", "b")]
    file = tmp_path / "b" / f"{names[1]}.pem"
    assert sorted(keys_of(settings(f"{tmp_path / 'a'}, {file}")).trusted) == sorted(names)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "cannot be read"), (b"", "no public key"), (b"-----BEGIN PUBLIC KEY-----\nAAAA\n", "no public key")],
)
def test_a_trusted_key_that_is_none_is_refused(text: bytes | None, says: str, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(WrongSetup, match=rf"{says}.*headrace keys new"):
        keys_of(settings(file))


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    public, private = tmp_path / "public.pem", tmp_path / "private.pem"
    public.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    private.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(WrongSetup, match="P-256"):
        keys_of(settings(public))
    make(tmp_path / "signing.pem", tmp_path / "trusted")
    with pytest.raises(WrongSetup, match="P-256"):
        keys_of(settings(tmp_path / "trusted"), private)


def test_an_empty_directory_of_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongSetup, match="HEADRACE_TRUSTED_KEYS: there is no key"):
        keys_of(settings(tmp_path))


def test_a_private_key_that_nobody_trusts_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "mine.pem", tmp_path / "mine")
    make(tmp_path / "other.pem", tmp_path / "others")
    with pytest.raises(WrongSetup, match="readers would refuse its models"):
        keys_of(settings(tmp_path / "others"), tmp_path / "mine.pem")


def test_without_a_private_key_nothing_is_signed_only_where_that_is_allowed(tmp_path: Path, member: Member) -> None:
    keys = keys_of(settings(tmp_path / "none", allow_unsigned=True), tmp_path / "none.pem")
    assert signed(keys, member) == member
    assert sign_files(keys, "1-x", FILES) is None
    with pytest.raises(WrongSetup, match="HEADRACE_SIGNING_KEY"):
        signed(Keys(), member)


@pytest.mark.parametrize("build", [build_serving, build_drift, build_training], ids=["serving", "drift", "training"])
def test_a_service_that_reads_models_does_not_start_without_keys(build: object, tmp_path: Path) -> None:
    given = TrainingSettings(artefacts="memory://", trusted_keys=str(tmp_path / "no"), signing_key=tmp_path / "no.pem")
    with pytest.raises(WrongSetup, match=r"HEADRACE_TRUSTED_KEYS: .*cannot be read.*headrace keys new"):
        build(Context("x", given, spec()), given)  # type: ignore[operator]


def test_a_bundle_names_its_key_by_the_pem(tmp_path: Path) -> None:
    make(tmp_path / "signing.pem", tmp_path)
    private = private_key(tmp_path / "signing.pem")
    keys = Keys.of([private.public_key()], private)
    assert hint(private.public_key()).encode() in (sign_files(keys, SIGNATURE, {}) or b"")
