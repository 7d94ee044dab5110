from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.cli import run


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_pair_is_made_once_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--directory", str(tmp_path), "--json"]
    assert run(["keys", "new", *where]) == 0
    assert run(["keys", "new", *where]) == 0
    first, again = lines(capsys)
    assert (first["made"], again["made"]) == (True, False)
    assert first["key"] == again["key"]
    assert run(["keys", "list", *where]) == 0
    assert lines(capsys) == [
        {"key": first["key"], "signs": True, "file": str(tmp_path / "trusted" / f"{first['key']}.pem")}
    ]


def test_where_no_keys_are_the_mend_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "list", "--directory", str(tmp_path)]) == 1
    assert "headrace keys new" in capsys.readouterr().err
