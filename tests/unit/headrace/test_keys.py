from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.cli import run
from headrace.keys_command import first_keys
from headrace.output import Output
from runtime.keys import keys_of


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


def test_a_pair_is_made_at_the_first_start_unless_keys_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = first_keys(Output(machine=False))
    assert "made key" in capsys.readouterr().out
    assert keys_of(settings, settings.signing_key).signs
    first_keys(Output(machine=False))
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("HEADRACE_SIGNING_KEY", "elsewhere.pem")
    first_keys(Output(machine=False))
    assert not Path("elsewhere.pem").exists()
