from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import Transient, WrongSetup
from runtime.store import NotStored, Store


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store("memory://" if request.param == "memory" else f"file://{tmp_path}/artefacts")


def test_an_object_is_read_back_as_written(store: Store) -> None:
    assert store.put("models/m/1/x.bin", b"abc") == b"abc"
    assert store.get("models/m/1/x.bin") == b"abc"


def test_the_first_writer_of_an_object_wins_and_the_second_is_told(store: Store) -> None:
    store.put("a/b", b"first")
    assert store.put("a/b", b"second") == b"first"
    assert store.get("a/b") == b"first"


def test_an_object_above_the_cap_is_not_read(store: Store) -> None:
    store.put("big", b"x" * 11)
    with pytest.raises(NotStored, match="has 11 bytes; at most 10"):
        store.get("big", limit=10)


def test_a_missing_object_is_named(store: Store) -> None:
    with pytest.raises(NotStored, match="there is no models/none"):
        store.get("models/none")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "a/../../x", ".hidden", "", "a/", "a\\b", "s3://x"])
def test_no_path_leads_out_of_the_store(store: Store, path: str) -> None:
    with pytest.raises(NotStored, match="not a path within"):
        store.get(path)
    with pytest.raises(NotStored, match="not a path within"):
        store.put(path, b"")


def test_a_relative_file_url_is_a_directory_below_the_working_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Store("file://.headrace/artefacts").put("a", b"x")
    assert (tmp_path / ".headrace/artefacts/a").read_bytes() == b"x"


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    Store(f"file://{tmp_path}/s").check()
    assert [path for path in (tmp_path / "s").rglob("*") if path.is_file()] == []


def test_a_store_that_cannot_be_made_says_so_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WrongSetup, match=r"not writable.*HEADRACE_ARTEFACTS"):
        Store(f"file://{tmp_path}/file/artefacts")


def test_a_store_that_is_not_writable_says_so_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "probe").write_text("in the way")
    with pytest.raises(WrongSetup, match=r"not writable.*HEADRACE_ARTEFACTS"):
        Store(f"file://{tmp_path}").check()


def test_an_unknown_scheme_names_the_mend() -> None:
    with pytest.raises(WrongSetup, match="file://<directory> or s3://"):
        Store("gopher://bucket")


def test_a_write_that_fails_later_is_tried_again(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}")
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(Transient, match="cannot write models/x"):
        store.put("models/x", b"")
