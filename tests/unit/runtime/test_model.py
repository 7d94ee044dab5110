from __future__ import annotations

import io
import zipfile

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from sklearn.preprocessing import FunctionTransformer

from runtime.artefact import ModelRefused
from runtime.bundle import SIGNATURE, sign_files
from runtime.model import OUTPUT, fetch, load
from runtime.store import Store
from schemas import batch as b
from schemas.artefact import MANIFEST, MODEL, WARMUP, Manifest, sha256
from schemas.encoding import LARGEST, Encoding, learn
from schemas.messages import Member
from tests.unit.services.serving.loop import artefact, features, spec

ESTIMATORS = ["logistic_regression", "hist_gradient_boosting"]


def stored(estimator: str = "logistic_regression") -> tuple[Store, Member, Manifest, dict[str, bytes]]:
    store, pipeline = Store("memory://"), spec(estimator)
    member = artefact(store, pipeline)
    manifest = Manifest.model_validate_json(store.get(f"{member.uri}/{MANIFEST}"))
    return store, member, manifest, {name: store.get(f"{member.uri}/{name}") for name in (MODEL, WARMUP)}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_stored_model_answers_as_when_it_was_made(estimator: str) -> None:
    store, member, manifest, files = stored(estimator)
    model = fetch(store, member, spec(estimator).feature_types)
    warmup = b.decode(files[WARMUP])
    assert warmup.num_rows == 40
    np.testing.assert_array_equal(model.score(warmup), warmup.column(OUTPUT).to_numpy())
    assert model.score(features(0, 0)).shape == (0,)
    assert manifest.digest == member.digest


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_same_fit_has_the_same_digest_though_its_file_has_other_bytes(estimator: str) -> None:
    first, second = stored(estimator), stored(estimator)
    assert first[1].digest == second[1].digest
    assert first[3][WARMUP] == second[3][WARMUP]


def test_storing_the_same_fit_again_changes_nothing() -> None:
    store, pipeline = Store("memory://"), spec()
    assert artefact(store, pipeline) == artefact(store, pipeline)


def test_a_model_that_answers_otherwise_than_recorded_is_refused() -> None:
    _, _, manifest, files = stored()
    _, _, _, others = stored("hist_gradient_boosting")
    with pytest.raises(ModelRefused, match="answers the warm-up rows otherwise"):
        load({MODEL: others[MODEL], WARMUP: files[WARMUP]}, manifest)


def test_warm_up_outputs_that_were_changed_with_the_model_do_not_have_the_digest() -> None:
    _, _, manifest, files = stored()
    warmup = b.decode(files[WARMUP])
    column = warmup.schema.get_field_index(OUTPUT)
    forged = warmup.set_column(column, OUTPUT, pa.array(np.full(warmup.num_rows, 0.5)))
    with pytest.raises(ModelRefused, match="digest"):
        load({MODEL: files[MODEL], WARMUP: b.encode(forged)}, manifest)


def evil() -> bytes:
    return skops.io.dumps(FunctionTransformer(func=print))  # type: ignore[no-any-return]


def emptied() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("schema.json", "{}")
    return sink.getvalue()


@pytest.mark.parametrize("value", [b"", b"not a zip", evil(), emptied()], ids=["empty", "text", "evil", "no schema"])
def test_a_file_that_asks_for_more_than_the_constant_list_or_is_none_is_refused(value: bytes) -> None:
    _, _, manifest, files = stored()
    with pytest.raises(ModelRefused, match="cannot be loaded"):
        load({MODEL: value, WARMUP: files[WARMUP]}, manifest)


def test_a_manifest_of_another_member_is_refused() -> None:
    store, member, _, _ = stored()
    with pytest.raises(ModelRefused, match="another model than was announced"):
        fetch(store, member.model_copy(update={"version": 7}), spec().feature_types)


def test_a_model_file_that_the_announcement_does_not_name_is_refused() -> None:
    store, member, _, _ = stored()
    with pytest.raises(ModelRefused, match=r"model.skops has another SHA-256"):
        fetch(store, member.model_copy(update={"sha256": "0" * 64}), spec().feature_types)


def test_a_model_for_features_that_the_pipeline_does_not_compute_is_refused() -> None:
    store, member, _, _ = stored()
    with pytest.raises(ModelRefused, match=r"other features.*\['colour'\]"):
        fetch(store, member, {"x": "number", "z": "number"})


def test_a_manifest_that_is_none_is_refused() -> None:
    store, member, _, _ = stored()
    store.put("models/x/manifest.json", b"{}")
    store.put("models/x/model.sig", sign_files(store.keys, "x", {"manifest.json": sha256(b"{}")}) or b"")
    forged = member.model_copy(update={"uri": "models/x", "manifest_sha256": sha256(b"{}")})
    with pytest.raises(ModelRefused, match="is not a manifest"):
        fetch(store, forged, spec().feature_types)


class Noting(Store):
    """Remembers which files were read."""

    def __init__(self) -> None:
        super().__init__("memory://")
        self.asked: set[str] = set()

    def get(self, path: str, limit: int = 1 << 30) -> bytes:
        self.asked.add(path.rpartition("/")[2])
        return super().get(path, limit)


def test_another_form_of_the_model_beside_it_is_neither_refused_nor_read() -> None:
    store, pipeline = Noting(), spec()
    member = artefact(store, pipeline, others={"model.onnx": b"for readers that know it"})
    manifest = Manifest.model_validate_json(store.get(f"{member.uri}/{MANIFEST}"))
    assert {MODEL, "model.onnx"} <= manifest.files.keys()
    assert (member.format, member.sha256) == ("skops", manifest.files[MODEL].sha256)
    warmup = b.decode(store.get(f"{member.uri}/{WARMUP}"))
    model = fetch(store, member, pipeline.feature_types)
    np.testing.assert_array_equal(model.score(warmup), warmup.column(OUTPUT).to_numpy())
    assert store.asked == {SIGNATURE, MANIFEST, MODEL, WARMUP}


# --- encoding ---------------------------------------------------------------------------------


def test_a_category_is_its_place_in_the_vocabulary_and_the_unknown_is_missing() -> None:
    batch = pa.RecordBatch.from_pydict({"c": ["b", None, "zz", "a"], "n": pa.array([1.0, None, float("inf"), -1e300])})
    encoding = Encoding({"n": "number", "c": "category"}, {"c": ("a", "b")})
    expected = [[1, 1], [np.nan, np.nan], [LARGEST, np.nan], [-LARGEST, 0]]
    np.testing.assert_array_equal(encoding.matrix(batch), expected)
    assert encoding.categories == [1]


def test_the_most_frequent_categories_are_learnt_and_equal_counts_go_by_the_text() -> None:
    batch = pa.RecordBatch.from_pydict({"c": ["x", "b", "a", "x", None, "b", "a", "d"]})
    assert learn(batch, {"c": "category"}, 2).vocabulary == {"c": ("a", "b")}


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_texts_of_any_arrow_type_are_understood(kind: pa.DataType) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(["b", "a"]).cast(kind)], names=["c"])
    assert Encoding({"c": "category"}, {"c": ("a", "b")}).matrix(batch).tolist() == [[1.0], [0.0]]


def test_an_encoding_of_no_rows_and_no_vocabulary_is_empty() -> None:
    batch = pa.RecordBatch.from_arrays([pa.nulls(0, pa.string())], names=["c"])
    assert Encoding({"c": "category"}, {"c": ()}).matrix(batch).shape == (0, 1)
    full = pa.RecordBatch.from_arrays([pa.array(["x"])], names=["c"])
    assert np.isnan(Encoding({"c": "category"}, {"c": ()}).matrix(full)).all()
