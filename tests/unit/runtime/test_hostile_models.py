"""What somebody may do who can write to the artefact store or to `models`: every reader refuses it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from runtime.announced import Announced
from runtime.artefact import ModelRefused
from runtime.bundle import MOST_BYTES, SIGNATURE, sign_files
from runtime.memory import MemoryBroker, MemoryLog
from runtime.metrics import Metrics
from runtime.model import fetch
from runtime.ports import LogReader, Place, Stored
from runtime.references import References
from runtime.signing import Keys, keys_in_memory, seal_json, signed
from runtime.store import NotStored, Store
from runtime.weighed import TAIL, Weighed, outgoing, tail
from schemas import cloudevents
from schemas.artefact import MANIFEST, MODEL, WARMUP, File, Manifest, sha256
from schemas.messages import Member, Pool
from schemas.pooling import IDENTITY, Calibrator, Weights
from schemas.reference import REFERENCE
from tests.unit.services.drift.scores import reference
from tests.unit.services.serving.loop import Loop, artefact, pool
from tests.unit.services.training.loop import spec

KEYS = keys_in_memory()
_PRIVATE = ec.derive_private_key(4_711, ec.SECP256R1())
STRANGER = Keys.of([_PRIVATE.public_key()], _PRIVATE)
SPEC = spec()


class Bomb:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return Path.write_text, (self._path, "it went off")


def stored(store: Store, version: int = 1) -> Member:
    """A genuine artefact with everything that readers want."""
    return artefact(store, SPEC, version, others={REFERENCE: reference(1.0).to_bytes()})


def change(store: Store, member: Member, name: str, value: bytes, by: Keys | None = None) -> Member:
    """Put another file into an artefact such that everything fits again, signed by whoever it is; the announcement."""
    manifest = Manifest.model_validate_json(store.get(f"{member.uri}/{MANIFEST}"))
    listed = {**manifest.files, name: File(sha256=sha256(value), size=len(value))}
    text = manifest.model_copy(update={"files": listed}).model_dump_json(indent=2).encode()
    digests = {**{each: file.sha256 for each, file in listed.items()}, MANIFEST: sha256(text)}
    store.replace(f"{member.uri}/{name}", value)
    store.replace(f"{member.uri}/{MANIFEST}", text)
    if by is not None:
        signature = sign_files(by, member.uri.rsplit("/", 1)[-1], digests)
        assert signature is not None
        store.replace(f"{member.uri}/{SIGNATURE}", signature)
    return member.model_copy(update={"manifest_sha256": sha256(text), "sha256": listed[MODEL].sha256})


def swap(store: Store, member: Member, name: str) -> Member:
    """A file of another genuine artefact, as it lies there."""
    other = stored(store, 2)
    value = store.get(f"{other.uri}/{name}")
    store.replace(f"{member.uri}/{name}", value)
    return member if name != MANIFEST else member.model_copy(update={"manifest_sha256": sha256(value)})


def put(name: str, value: bytes | Callable[[bytes], bytes]) -> Callable[[Store, Member], Member]:
    def attack(store: Store, member: Member) -> Member:
        path = f"{member.uri}/{name}"
        store.replace(path, value if isinstance(value, bytes) else value(store.get(path)))
        return member

    return attack


def bundle(**changes: object) -> Callable[[Store, Member], Member]:
    """The genuine bundle with another envelope."""

    def turned(value: bytes) -> bytes:
        found = json.loads(value)
        found["dsseEnvelope"] |= changes
        return json.dumps(found, separators=(",", ":")).encode()

    return put(SIGNATURE, turned)


def hinted(store: Store, member: Member) -> Member:
    """A stranger's signature that says that it is by the trusted key."""
    genuine = json.loads(store.get(f"{member.uri}/{SIGNATURE}"))
    member = change(store, member, MODEL, b"another", STRANGER)
    forged = json.loads(store.get(f"{member.uri}/{SIGNATURE}"))
    forged["verificationMaterial"] = genuine["verificationMaterial"]
    store.replace(f"{member.uri}/{SIGNATURE}", json.dumps(forged, separators=(",", ":")).encode())
    return member


def without(store: Store, member: Member) -> Member:
    """The artefact in another directory, with everything but its signature."""
    for name in (MANIFEST, MODEL, WARMUP, REFERENCE):
        store.replace(f"models/bare/{name}", store.get(f"{member.uri}/{name}"))
    return member.model_copy(update={"uri": "models/bare"})


ATTACKS: dict[str, Callable[[Store, Member], Member]] = {
    "unsigned": without,
    "signed by an unknown key": lambda store, member: change(store, member, MODEL, b"x", STRANGER),
    "signed by an unknown key under the name of a trusted one": hinted,
    "changed with its manifest, the old signature kept": lambda store, member: change(store, member, MODEL, b"x"),
    "the signature of another artefact": lambda store, member: swap(store, member, SIGNATURE),
    "the manifest of another artefact": lambda store, member: swap(store, member, MANIFEST),
    "a manifest with a changed byte": put(MANIFEST, lambda value: value.replace(b"shop", b"shot", 1)),
    "a file more": put("more.pkl", b"x"),
    "a file more in a directory below": put("below/more.py", b"x"),
    "an empty signature": put(SIGNATURE, b""),
    "a signature that is too large": put(SIGNATURE, b" " * (MOST_BYTES + 1)),
    "a signature nested without end": put(SIGNATURE, b'{"a":' * 100_000),
    "a signature that is cut": put(SIGNATURE, lambda value: value[:-10]),
    "a signature with a space more": put(SIGNATURE, lambda value: value + b" "),
    "no signature in the bundle": bundle(signatures=[]),
    "two signatures in the bundle": bundle(signatures=[{"sig": "AA=="}, {"sig": "AA=="}]),
    "a signature that is no base64": bundle(signatures=[{"sig": "%%%", "keyid": ""}]),
    "a payload of another type": bundle(payloadType="application/vnd.headrace.pool.v1+json"),
    "another payload": bundle(payload="e30="),
    "a manifest that is too large": put(MANIFEST, b" " * (2 << 20)),
}
ON_A_FILE: dict[str, Callable[[bytes], bytes]] = {
    "changed": lambda value: value[:-1] + bytes([value[-1] ^ 1]),
    "cut": lambda value: value[: len(value) // 2],
    "too large": lambda value: value + b"\0" * 10_000_000,
    "empty": lambda value: value[:0],
}


def refused(store: Store, member: Member, *, reference_too: bool = True) -> str:
    """Why serving and training refuse an artefact; drift does, too."""
    with pytest.raises(ModelRefused) as told:
        fetch(store, member, SPEC.feature_types)
    if reference_too:
        metrics = Metrics()
        assert References(store, metrics).get(member.version, log_of(member)) is None
        assert metrics.registry.get_sample_value("headrace_refused_models_total", {"why": "artefact"}) == 1
    return str(told.value)


class Log:
    """A log whose topic `models` says what it is given."""

    def __init__(self, *messages: Stored) -> None:
        self._messages = messages

    def read(self, place: Place, start: int, stop: int) -> list[Stored]:
        assert place.topic == "models"
        return list(self._messages[start:stop])

    def end(self, place: Place) -> int:
        assert place.topic == "models"
        return len(self._messages)


def message(said: Member | Pool, offset: int = 0) -> Stored:
    value, headers = cloudevents.encode(said, id=said.key, source="/headrace/shop/training")
    return Stored(offset, 0, said.key.encode(), value, headers)


def log_of(member: Member) -> LogReader:
    return Log(message(signed(KEYS, member)))  # type: ignore[return-value]


# --- artefacts --------------------------------------------------------------------------------


def test_a_genuine_artefact_is_taken_by_every_reader() -> None:
    store = Store("memory://")
    member = stored(store)
    assert fetch(store, member, SPEC.feature_types).version == 1
    assert References(store).get(1, log_of(member)) is not None


@pytest.mark.parametrize("name", ATTACKS)
def test_an_artefact_that_is_not_signed_as_it_is_is_refused(name: str) -> None:
    store = Store("memory://")
    assert "member 1" in refused(store, ATTACKS[name](store, stored(store)))


@pytest.mark.parametrize("name", [MODEL, WARMUP, REFERENCE])
@pytest.mark.parametrize("how", ON_A_FILE)
def test_a_file_that_is_not_the_signed_one_is_refused_by_who_needs_it(name: str, how: str) -> None:
    store = Store("memory://")
    member = stored(store)
    store.replace(f"{member.uri}/{name}", ON_A_FILE[how](store.get(f"{member.uri}/{name}")))
    if name == REFERENCE:
        assert References(store).get(1, log_of(member)) is None
    else:
        assert name in refused(store, member, reference_too=False)


@pytest.mark.parametrize("keys", [STRANGER, KEYS], ids=["by a stranger", "by training itself"])
def test_a_pickle_never_runs(keys: Keys, tmp_path: Path) -> None:
    store, mark = Store("memory://"), tmp_path / "mark"
    value = pickle.dumps(Bomb(mark))
    member = change(store, stored(store), MODEL, value, keys)
    refused(store, member, reference_too=False)
    assert not mark.exists()
    pickle.loads(value)  # noqa: S301 - the bomb is a real one
    assert mark.exists()


@pytest.mark.parametrize(
    "uri",
    ["../models", "/etc", "models/../models", "models//shop", "models/.", "", "models\\shop", "models/%2e%2e/x", "~"],
)
def test_an_announcement_cannot_lead_out_of_the_store(uri: str, tmp_path: Path) -> None:
    store = Store((tmp_path / "store").as_uri(), KEYS)
    member = stored(store)
    outside = Store(tmp_path.as_uri(), KEYS)
    for name in (MANIFEST, SIGNATURE, MODEL, WARMUP, REFERENCE):
        outside.replace(f"models/{name}", store.get(f"{member.uri}/{name}"))
    assert "path" in refused(store, member.model_copy(update={"uri": uri}))


def test_a_manifest_cannot_lead_out_of_the_artefact() -> None:
    store = Store("memory://")
    member = stored(store)
    store.replace("models/shop/outside", b"x")
    manifest = Manifest.model_validate_json(store.get(f"{member.uri}/{MANIFEST}"))
    listed = {**manifest.files, "../outside": File(sha256=sha256(b"x"), size=1)}
    text = manifest.model_copy(update={"files": listed}).model_dump_json().encode()
    store.replace(f"{member.uri}/{MANIFEST}", text)
    forged = member.model_copy(update={"manifest_sha256": sha256(text)})
    refused(store, forged)
    with pytest.raises(NotStored, match="not a path"):
        store.get(f"{member.uri}/../outside")


def test_a_reader_without_keys_takes_nothing(tmp_path: Path) -> None:
    url = tmp_path.as_uri()
    member = stored(Store(url, KEYS))
    with pytest.raises(ModelRefused, match="trusted are: none"):
        fetch(Store(url), member, SPEC.feature_types)


def test_unsigned_artefacts_are_taken_only_where_that_is_allowed_and_forged_ones_never(tmp_path: Path) -> None:
    lenient = Store(tmp_path.as_uri(), Keys.of(KEYS.trusted.values(), unsigned=True))
    member = stored(Store(tmp_path.as_uri(), KEYS))
    bare = without(lenient, member)
    assert fetch(lenient, bare, SPEC.feature_types).version == 1
    forged = change(lenient, member, MODEL, b"x")
    assert SIGNATURE in refused(lenient, forged)


# --- announcements ----------------------------------------------------------------------------


def heard(*messages: Stored, keys: Keys = KEYS) -> tuple[Announced, dict[str, float]]:
    """What readers believe of messages, and how many were refused, by why."""
    metrics = Metrics()
    announced = Announced(keys, metrics)
    for each in messages:
        announced.take(each)
    samples = next(iter(metrics.refused_models.collect())).samples
    return announced, {
        each.labels["why"]: each.value for each in samples if each.value and each.name.endswith("_total")
    }


def two() -> tuple[Member, Pool]:
    member = artefact(Store("memory://"), SPEC)
    return member, pool(member, 5).model_copy(update={"epoch": 3})


MEMBER, POOL = two()
OLD = message(signed(KEYS, POOL))


def twisted(said: Member | Pool, **changes: object) -> Stored:
    """Signed, and changed afterwards."""
    return message(signed(KEYS, said).model_copy(update=changes), 1)


def retyped() -> Stored:
    """A member's content and signature in an event that says that it is a pool."""
    told = message(signed(KEYS, MEMBER), 1)
    return told._replace(value=(told.value or b"").replace(b"headrace.member.v1", b"headrace.pool.v1"))


def doubled() -> Stored:
    """A key twice: the one that a careless verifier reads, and the one that a careless reader reads."""
    told = message(signed(KEYS, POOL), 1)
    return told._replace(value=(told.value or b"").replace(b'"version":5', b'"version":5,"version":6', 1))


FORGED: dict[str, tuple[Stored, str]] = {
    "unsigned": (message(POOL.model_copy(update={"version": 6}), 1), "unsigned"),
    "by an unknown key": (message(signed(STRANGER, POOL.model_copy(update={"version": 6})), 1), "unknown_key"),
    "by an unknown key under the name of a trusted one": (
        message(
            signed(STRANGER, POOL.model_copy(update={"version": 6})).model_copy(
                update={"signed_by": signed(KEYS, POOL).signed_by}
            ),
            1,
        ),
        "wrong_signature",
    ),
    "changed": (twisted(POOL, version=6), "wrong_signature"),
    "of a higher epoch": (twisted(POOL, epoch=4), "wrong_signature"),
    "a member of another uri": (twisted(MEMBER, uri="models/evil"), "wrong_signature"),
    "a member as a pool": (retyped(), "wrong_signature"),
    "a key twice": (doubled(), "wrong_signature"),
    "no base64": (twisted(POOL, signature="%%%"), "wrong_signature"),
    "an older epoch": (message(signed(KEYS, POOL.model_copy(update={"epoch": 2, "version": 9})), 1), "void"),
    "an older pool": (message(signed(KEYS, POOL.model_copy(update={"version": 4})), 1), "void"),
    "cut": (Stored(1, 0, b"shop/pool", (OLD.value or b"")[:-20], OLD.headers), "unreadable"),
    "nested without end": (Stored(1, 0, b"shop/pool", b'{"data":' + b"[" * 200_000, OLD.headers), "unreadable"),
    "no JSON": (Stored(1, 0, b"shop/pool", b"\x80\x04.", OLD.headers), "unreadable"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_or_replayed_announcement_is_ignored_and_counted(name: str) -> None:
    forged, why = FORGED[name]
    announced, counted = heard(OLD, forged)
    assert counted == {why: 1}
    assert (announced.pool, announced.members, announced.epoch) == (signed(KEYS, POOL), {}, 3)


def test_a_message_that_is_read_again_is_no_replay() -> None:
    newer = message(signed(KEYS, POOL.model_copy(update={"version": 6, "epoch": 4})), 1)
    announced, counted = heard(OLD, newer, OLD, newer)
    assert counted == {}
    assert announced.pool is not None
    assert announced.pool.version == 6


def test_who_composes_pools_hears_of_an_older_own_one_without_an_alarm() -> None:
    metrics = Metrics()
    announced = Announced(KEYS, metrics)
    announced.pool = POOL.model_copy(update={"version": 7})
    assert announced.take(OLD) is None
    assert announced.pool.version == 7
    assert metrics.registry.get_sample_value("headrace_refused_models_total", {"why": "void"}) == 0


def test_a_message_that_a_newer_version_says_is_neither_believed_nor_counted() -> None:
    newer = OLD._replace(value=(OLD.value or b"").replace(b"headrace.pool.v1", b"headrace.lake.v1"))
    announced, counted = heard(newer)
    assert (announced.pool, counted) == (None, {})


def test_unsigned_announcements_are_taken_only_where_that_is_allowed() -> None:
    announced, counted = heard(message(POOL), keys=Keys(unsigned=True))
    assert (announced.pool, counted) == (POOL, {})


def test_a_field_that_this_version_does_not_know_is_under_the_signature() -> None:
    value = json.loads(message(POOL).value or b"")
    value["data"]["of_tomorrow"] = 1.5
    told = seal_json(KEYS, "headrace.pool.v1", json.dumps(value["data"]).encode())
    assert told is not None
    value["data"] |= {"signed_by": told.key, "signature": told.signature}
    announced, counted = heard(OLD._replace(value=json.dumps(value, indent=3).encode()))
    assert counted == {}
    assert announced.pool is not None
    assert announced.pool.version == POOL.version


# --- weights ----------------------------------------------------------------------------------


def weights(number: int = 5, **changed: object) -> Weights:
    parts = {"model": "shop", "epoch": 3, "number": number, "pool": 5, "members": (1,), "log_weights": (0.0,)}
    return Weights(**{**parts, "labels": (7,), "calibrator": Calibrator(IDENTITY["binary"]), **changed})  # type: ignore[arg-type]


def weighing(said: Weights, by: Keys = KEYS, offset: int = 1, **changed: object) -> Stored:
    """A checkpoint as somebody signs it, and changes it afterwards."""
    value = json.loads(outgoing(said, by).value) | changed
    return Stored(offset, 0, b"shop/weights", json.dumps(value).encode())


FORGED_WEIGHTS: dict[str, tuple[Stored, str]] = {
    "unsigned": (weighing(weights(6), Keys(unsigned=True)), "unsigned"),
    "by an unknown key": (weighing(weights(6), STRANGER), "unknown_key"),
    "changed": (weighing(weights(5), number=6), "wrong_signature"),
    "with another snapshot": (weighing(weights(6), online={"uri": "x", "sha256": "0" * 64}), "wrong_signature"),
    "an older epoch": (weighing(weights(9, epoch=2)), "void"),
    "an older number": (weighing(weights(4)), "void"),
    "no JSON": (Stored(1, 0, b"shop/weights", b"\x80\x04."), "unreadable"),
    "nested without end": (Stored(1, 0, b"shop/weights", b"[" * 200_000), "unreadable"),
}


@pytest.mark.parametrize("name", FORGED_WEIGHTS)
def test_forged_or_replayed_weights_are_ignored_and_counted(name: str) -> None:
    forged, why = FORGED_WEIGHTS[name]
    metrics = Metrics()
    weighed = Weighed(KEYS, metrics)
    assert weighed.take(weighing(weights(), offset=0)) is not None
    assert weighed.take(forged) is None
    assert weighed.newest is not None
    assert (weighed.newest.number, weighed.newest.epoch, weighed.newest.online) == (5, 3, None)
    assert metrics.registry.get_sample_value("headrace_refused_models_total", {"why": why}) == 1


def test_weights_survive_whoever_writes_them_in_another_form() -> None:
    said = weights(log_weights=(-1.5e-9,))
    value = json.dumps(json.loads(outgoing(said, KEYS).value), indent=4, sort_keys=True).encode()
    taken = Weighed(KEYS).take(Stored(0, 0, None, value))
    assert taken is not None
    assert (taken.log_weights, taken.key) == (said.log_weights, *KEYS.trusted)


def test_a_flood_of_forged_weights_does_not_hide_the_genuine_ones_at_a_start() -> None:
    broker = MemoryBroker({"weights": 1})
    genuine = outgoing(weights(), KEYS)
    broker.append(Place("weights", 0), genuine.value, genuine.key)
    for number in range(3 * TAIL):
        forged = outgoing(weights(100 + number), STRANGER)
        broker.append(Place("weights", 0), forged.value, forged.key)
    assert tail(MemoryLog(broker, "serving"), KEYS) == 0


# --- serving ----------------------------------------------------------------------------------


def test_the_old_pool_answers_on_whatever_is_announced_or_lies_in_the_store() -> None:
    loop = Loop()
    loop.announce(1)
    loop.start()
    loop.events(0, 5)
    loop.run()
    for number, forged in enumerate(forged for forged, why in FORGED.values() if why != "void"):
        loop.broker.append(Place("models", 0), forged.value, forged.key, forged.headers)
        loop.events(10 + 5 * number, 5)
    member = stored(loop.store, 2)
    loop.say(change(loop.store, member, MODEL, b"x", STRANGER), pool(member))
    loop.events(90, 5)
    loop.run()
    assert {each.pool for each in loop.predictions()} == {1}
    assert {each.value is None for each in loop.predictions()} == {False}
    assert [(each.subject, each.step) for each in loop.decisions()] == [
        ("shop/pool/1", "swapped"),
        ("shop/pool/2", "refused"),
    ]
    counted = loop.handler._metrics.registry.get_sample_value
    assert counted("headrace_refused_models_total", {"why": "artefact"}) == 1
    assert counted("headrace_refused_models_total", {"why": "wrong_signature"}) >= 4  # type: ignore[operator]
