"""Snapshots that are not what was announced, or try to be more than a model: refused, and nothing of them is run."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from river import drift, linear_model, preprocessing, tree

from runtime import online
from runtime.artefact import ModelRefused
from runtime.online import ALLOWED, MOST_BYTES, read, written
from schemas.artefact import sha256
from schemas.online import Learnt
from schemas.pooling import Online
from schemas.spec import FeatureType

TYPES: dict[str, FeatureType] = {"price": "number"}


def learnt() -> Learnt:
    """A tree that has seen a few rows."""
    grown = tree.HoeffdingAdaptiveTreeClassifier(seed=1)
    for each in range(50):
        grown.learn_one({"price": float(each)}, each % 2)
    return Learnt("hoeffding_adaptive_tree", dict(TYPES), 2, 50, [grown])


def said(value: bytes, labels: int = 50) -> Online:
    return Online("online/50", sha256(value), len(value), labels)


def file_of(state: bytes) -> bytes:
    """A file whose head is right and whose state is that."""
    value = written(learnt())
    assert value is not None
    return value.partition(b"\n")[0] + b"\n" + state


def refused(value: bytes, match: str, labels: int = 50) -> None:
    with pytest.raises(ModelRefused, match=match):
        read(value, said(value, labels), TYPES, 2)


def calling(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls what it names: protocol 4 takes names with dots apart."""

    def text(value: str) -> bytes:
        return pickle.SHORT_BINUNICODE + struct.pack("B", len(value)) + value.encode()

    return b"\x80\x04" + text(module) + text(name) + pickle.STACK_GLOBAL + text(argument) + b"\x85R."


def test_a_snapshot_as_it_was_written_is_read() -> None:
    value = file_of(pickle.dumps((learnt().models, None), 5))
    model = read(value, said(value), TYPES, 2)
    assert model.score(pa.record_batch({"price": [1.0, None]})).shape == (2, 1)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("river.datasets.base", "os.system"),
        ("river.tree.hoeffding_adaptive_tree_classifier", "HoeffdingAdaptiveTreeClassifier.__init__"),
        ("river.drift.adwin", "ADWIN.__class__"),
        ("river.drift", "adwin.ADWIN"),
        ("river.stats", "Mean"),
        ("random.Random", "seed"),
        ("random", "Random.seed"),
        ("collections", "defaultdict.fromkeys"),
        ("functools", "partial"),
        ("numpy", "ndarray"),
        ("operator", "attrgetter"),
        ("copyreg", "_reconstructor"),
        ("river.anomaly", "HalfSpaceTrees"),
        ("", "float"),
        ("builtins ", "float"),
    ],
)
def test_nothing_outside_of_the_list_is_even_looked_up(module: str, name: str, tmp_path: Path) -> None:
    target = tmp_path / "touched"
    refused(file_of(calling(module, name, f"touch {target}")), "is not an allowed type")
    assert not target.exists()


def test_old_opcodes_reach_no_further(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    text = f"cos\nsystem\n(S'touch {target}'\ntR.".encode()
    refused(file_of(text), "os.system is not an allowed type")
    inst = f"(S'touch {target}'\nios\nsystem\n.".encode()
    refused(file_of(inst), "os.system is not an allowed type")
    assert not target.exists()


def test_extension_codes_and_persistent_ids_are_refused() -> None:
    refused(file_of(b"\x80\x04\x82\x01."), "cannot be read")
    refused(file_of(b"\x80\x04\x8c\x01aQ."), "persistent id")


def test_an_attribute_cannot_be_a_function_of_another_module(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    grown = learnt().models[0]
    grown.splitter = Evil()
    refused(file_of(pickle.dumps(([grown], None), 5)), "is not an allowed type")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "state",
    [
        [[], None],
        [[drift.ADWIN()], None],
        [[linear_model.LogisticRegression()], None],
        [[tree.HoeffdingAdaptiveTreeClassifier(), tree.HoeffdingAdaptiveTreeClassifier()], None],
        [[tree.HoeffdingAdaptiveTreeClassifier()], preprocessing.StandardScaler()],
        [{}, None],
        [None, None],
        [1, 2, 3],
    ],
)
def test_a_state_of_another_shape_is_refused(state: list[object]) -> None:
    refused(file_of(pickle.dumps(tuple(state), 5)), "cannot be read")


def test_a_state_that_cannot_answer_is_refused() -> None:
    grown = learnt().models[0]
    del grown.__dict__["_root"]
    refused(file_of(pickle.dumps(([grown], None), 5)), "cannot be read")


@pytest.mark.parametrize("length", [0, 1, 10, 100, -1, -100])
def test_a_truncated_file_is_refused(length: int) -> None:
    value = written(learnt())
    assert value is not None
    refused(value[:length], "cannot be read")


def test_a_changed_byte_is_found_before_anything_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    value = written(learnt())
    assert value is not None
    changed = value[:-5] + bytes([value[-5] ^ 1]) + value[-4:]
    monkeypatch.setattr(online, "_Reader", None)
    with pytest.raises(ModelRefused, match="SHA-256 differs"):
        read(changed, said(value), TYPES, 2)
    with pytest.raises(ModelRefused, match="size or SHA-256"):
        read(value + b"x", said(value), TYPES, 2)


def test_a_large_file_is_neither_read_nor_written(monkeypatch: pytest.MonkeyPatch) -> None:
    refused(bytes(MOST_BYTES + 1), "not the file that was announced")
    monkeypatch.setattr(online, "MOST_BYTES", 100)
    assert written(learnt()) is None


def test_another_version_of_a_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    value = written(learnt())
    assert value is not None
    monkeypatch.setattr(online, "libraries", lambda: {"python": "3.99", "river": "0.1"})
    refused(value, "same versions")


def test_a_snapshot_of_another_pipeline_or_moment_is_refused() -> None:
    value = written(learnt())
    assert value is not None
    refused(value, "51 were announced", labels=51)
    for types, classes in (({"price": "category"}, 2), ({}, 2), (TYPES, 3)):
        with pytest.raises(ModelRefused, match="other features or classes"):
            read(value, said(value), types, classes)  # type: ignore[arg-type]


def test_the_list_is_what_snapshots_need_and_has_no_door() -> None:
    names = {name for _, name in ALLOWED}
    assert not names & {"getattr", "eval", "exec", "partial", "deepcopy", "_reconstructor", "__import__", "ndarray"}
    assert not any("." in name for name in names)
    assert needed() <= ALLOWED
    assert ALLOWED - needed() <= {("river.stats.mean", "Mean"), ("builtins", "dict"), ("river.stats.var", "Var")}


def needed() -> set[tuple[str, str]]:
    """Every global that a grown tree and a line name."""
    rng = np.random.default_rng(0)
    grown, line, scaler = (
        tree.HoeffdingAdaptiveTreeClassifier(seed=1, binary_split=True),
        linear_model.LogisticRegression(),
        preprocessing.StandardScaler(),
    )
    for each in range(6_000):
        x, city = float(rng.normal()), str(rng.integers(0, 4))
        label = int(x > 0) if each > 3_000 else int(city in "01")
        grown.learn_one({"x": x, "city": city}, label)
        scaler.learn_one({"x": x})
        line.learn_one({"x": x}, bool(label))
    return set().union(*(named(each) for each in (grown, line, scaler)))


def named(model: object) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()

    class Listing(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            found.add((module, name))
            return super().find_class(module, name)

    data = pickle.dumps(model, 5)
    assert next(pickletools.genops(data))[1] == 5
    Listing(io.BytesIO(data)).load()
    return found
