from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console, RenderableType

from headrace.models import pages
from headrace.models.checks import Check, Verification, fitted_again, other_libraries
from headrace.models.reading import Models, models
from runtime.artefact import fetch_manifest
from runtime.bundle import SIGNATURE
from runtime.memory import MemoryLog
from runtime.ports import Place
from runtime.signing import Keys, keys_in_memory, signed
from runtime.store import Store
from schemas import cloudevents
from schemas.artefact import MANIFEST, MODEL, WARMUP, Manifest
from schemas.messages import Member
from schemas.reference import REFERENCE
from schemas.spec import FeatureType
from services.training import archive
from services.training.domain.estimators import Recipe
from services.training.domain.fitting import Made, made_from
from services.training.remaking import remake
from tests.unit.runtime.test_hostile_models import STRANGER, change
from tests.unit.services.training.loop import FAR, STEP, Loop, labelled, spec

KEYS = keys_in_memory()
EVERYTHING = [SIGNATURE, MANIFEST, MODEL, REFERENCE, WARMUP, "directory", "model", "dataset", "fit"]


def trained(estimator: str = "logistic_regression", store: Store | None = None, seats: int = 1) -> Loop:
    """A log with two models, the second one wished for; in a pool of several seats growth makes more."""
    loop = Loop(spec(estimator, seats=seats), store=store)
    loop.start()
    loop.examples(labelled(0, 600))
    loop.passes(606 * STEP)
    loop.run()
    loop.wish("w1")
    loop.passes(FAR)
    loop.run()
    assert [each.version for each in loop.members()][: 2 if seats > 1 else None] == [1, 2]
    return loop


def verified(loop: Loop, version: int = 2, *, refit: bool = True) -> list[Check]:
    log = MemoryLog(loop.broker, "verify")
    return list(Verification(models(log, KEYS).members[version], loop.store, log, refit).run())


def broken(loop: Loop, version: int = 2) -> dict[str, str]:
    return {each.what: each.text for each in verified(loop, version) if not each.holds}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    return trained(store=Store(tmp_path_factory.mktemp("store").as_uri(), KEYS))


# --- verify -----------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["logistic_regression", "hist_gradient_boosting"])
def test_every_model_is_made_again_from_its_rows(estimator: str) -> None:
    loop = trained(estimator)
    for version in (1, 2):
        found = verified(loop, version)
        assert [each.what for each in found] == EVERYTHING
        assert [each for each in found if not each.holds] == []


@pytest.mark.parametrize(("seats", "learnt"), [(1, False), (6, True)])
def test_a_fit_is_made_again_once_for_its_manifest_says_of_which_rows(
    seats: int, learnt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = trained(seats=seats)
    made: list[int] = []

    def counted(recipe: Recipe, rows: pa.RecordBatch, types: Mapping[str, FeatureType], seed: int) -> Made:
        made.append(rows.num_rows)
        return made_from(recipe, rows, types, seed)

    monkeypatch.setattr("headrace.models.checks.made_from", counted)
    for member in loop.members():
        manifest = Manifest.model_validate_json(loop.store.get(f"{member.uri}/{MANIFEST}"))
        data = manifest.dataset
        assert data.held_out_learnt is learnt
        assert broken(loop, member.version) == {}
        assert made.pop() == data.rows - (0 if learnt else data.held_out)
        assert made == []
        unsaid = data.model_copy(update={"held_out_learnt": None})
        rows = remake(data, manifest.model, manifest.features, loop.store, MemoryLog(loop.broker, "verify"))
        assert fitted_again(manifest.model_copy(update={"dataset": unsaid}), rows) == manifest.digest
        made.clear()


def test_without_a_fit_everything_else_is_verified(once: Loop) -> None:
    assert [each.what for each in verified(once, refit=False)] == EVERYTHING[:-1]


@pytest.mark.parametrize("name", [SIGNATURE, MANIFEST, MODEL, REFERENCE, WARMUP])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 0.999])
def test_a_changed_byte_is_found_and_its_file_named(name: str, place: float, once: Loop) -> None:
    member = once.members()[1]
    file = Path(once.store.url.removeprefix("file://")) / member.uri / name
    value = file.read_bytes()
    at = int(len(value) * place)
    file.write_bytes(value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :])
    try:
        found = broken(once)
    finally:
        file.write_bytes(value)
    assert list(found) == [name]
    assert name in found[name]


def test_a_changed_byte_in_the_archive_is_found_and_the_segment_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "CUT_BYTES", 20_000)
    loop = trained(store=Store(tmp_path.as_uri(), KEYS))
    paths = loop.store.names("archive")
    assert paths
    assert broken(loop) == {}
    for path in paths:
        file = tmp_path / path
        value = file.read_bytes()
        file.write_bytes(value[:-20] + bytes([value[-20] ^ 1]) + value[-19:])
        found = broken(loop)
        assert list(found) == ["dataset"]
        assert path in found["dataset"]
        file.write_bytes(value)


def test_everything_that_is_broken_is_named_at_once(tmp_path: Path) -> None:
    loop = trained(store=Store(tmp_path.as_uri(), KEYS))
    place = tmp_path / loop.members()[1].uri
    (place / MODEL).write_bytes(b"x")
    (place / WARMUP).unlink()
    (place / "more.pkl").write_bytes(b"x")
    found = broken(loop)
    assert list(found) == [MODEL, WARMUP, "directory"]
    assert "more.pkl" in found["directory"]


def test_what_a_stranger_signed_is_neither_loaded_nor_made_again(tmp_path: Path) -> None:
    loop = trained(store=Store(tmp_path.as_uri(), KEYS))
    change(loop.store, loop.members()[1], MODEL, b"x", STRANGER)
    found = broken(loop)
    assert list(found)[:2] == [SIGNATURE, MANIFEST]
    assert "model" not in [each.what for each in verified(loop)]


def test_rows_that_are_gone_are_named(once: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryLog, "begin", lambda _, place: 10_000 if place.topic == "examples" else 0)
    assert "neither in the archive nor on the topic" in broken(once)["dataset"]


def test_a_model_that_comes_out_otherwise_is_told_with_the_library_that_differs(
    once: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.models.checks.fitted_again", lambda *_: "0" * 64)
    assert "the libraries are those of then" in broken(once)["fit"]
    monkeypatch.setattr("headrace.models.checks.libraries", lambda: {"scikit-learn": "9.9", "numpy": "1.0"})
    assert "scikit-learn " in broken(once)["fit"]
    assert "then, 9.9 here" in broken(once)["fit"]


def test_libraries_that_are_the_same_are_not_named(once: Loop) -> None:
    manifest = fetch_manifest(once.store, once.members()[0])
    assert other_libraries(manifest, manifest.libraries) == []
    assert other_libraries(manifest, {**manifest.libraries, "numpy": "0"}) == [
        f"numpy {manifest.libraries['numpy']} then, 0 here"
    ]


# --- list, show, diff -------------------------------------------------------------------------


def known(loop: Loop, keys: Keys = KEYS) -> Models:
    return models(MemoryLog(loop.broker, "models"), keys)


def text(shown: RenderableType) -> str:
    console = Console(width=300, color_system=None)
    with console.capture() as said:
        console.print(shown)
    return said.get()


def test_the_list_says_role_weight_and_who_signed(once: Loop) -> None:
    found = known(once)
    lines = [pages.line(each, found) for each in found.members.values()]
    assert [each["version"] for each in lines] == [1, 2]
    assert {each["signed_by"] for each in lines} == set(KEYS.trusted)
    assert any("leader" in str(each["role"]) for each in lines)
    told = text(pages.table(found))
    assert all(str(each["signed_by"]) in told for each in lines)
    assert text(pages.table(Models())) == "no model is announced yet\n"


def test_announcements_that_nobody_believes_are_told_and_change_nothing(tmp_path: Path) -> None:
    loop = trained(store=Store(tmp_path.as_uri(), KEYS))
    genuine = known(loop)
    for by, version in ((STRANGER, 1), (Keys(unsigned=True), 7)):
        forged = signed(
            by, loop.members()[0].model_copy(update={"version": version, "signed_by": None, "signature": None})
        )
        value, headers = cloudevents.encode(forged, id="x", source="/x")
        loop.broker.append(Place("models", 0), value, forged.key.encode(), headers)
    found = known(loop)
    assert (found.members, found.pool) == (genuine.members, genuine.pool)
    assert ["trusted are" in each for each in found.refused] == [True, False]
    assert "shop/member/7: nobody signed it" in found.refused[1]


def test_to_who_trusts_nobody_there_are_no_models(once: Loop) -> None:
    found = known(once, Keys())
    assert found.members == {}
    assert len(found.refused) == len(once.log("models"))


def facts(loop: Loop, member: Member) -> dict[str, object]:
    return pages.facts(member, fetch_manifest(loop.store, member), known(loop))


def test_a_model_is_shown_with_all_that_its_manifest_says(once: Loop) -> None:
    found = facts(once, once.members()[1])
    assert json.loads(json.dumps(found)) == found
    told = text(pages.page(found))
    for name in ("dataset.digest", "libraries.numpy", "seed", "cause.kind", f"files.{MODEL}.sha256"):
        assert name in told


def test_a_difference_is_told_by_name_and_equal_things_are_not(once: Loop) -> None:
    one, two = (facts(once, each) for each in once.members())
    found = {str(each["what"]): (each["left"], each["right"]) for each in pages.differences(one, two)}
    assert found["version"] == (1, 2)
    assert found["cause.kind"] == ("first", "operator")
    assert "estimator" not in found
    assert pages.differences(one, one) == []
    assert "same in everything" in text(pages.compared([], 1, 1))
    assert "cause.kind" in text(pages.compared(pages.differences(one, two), 1, 2))


def test_what_only_one_model_has_is_a_difference() -> None:
    assert pages.differences({"a": {"b": 1}}, {"c": [2]}) == [
        {"what": "a.b", "left": 1, "right": None},
        {"what": "c", "left": None, "right": [2]},
    ]
