"""`headrace init` and `validate`: what they write, say and refuse."""

import json
import re
from pathlib import Path

import pytest
import typer.main

from headrace.cli import application, run
from headrace.options import BROKERS


def test_init_writes_a_pipeline_that_validate_accepts(tmp_path: Path) -> None:
    assert run(["init", str(tmp_path / "shop")]) == 0
    assert run(["validate", "-p", str(tmp_path / "shop" / "pipeline.yaml")]) == 0


def test_the_next_steps_of_init_are_commands_that_parse_and_reach_the_same_kafka(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["init", str(tmp_path / "shop")])
    told = capsys.readouterr().out
    steps = re.findall(r"^  headrace (\w+) (.+?)  ", told, re.MULTILINE)
    assert [name for name, _ in steps] == ["validate", "up", "replay", "watch"]
    for name, arguments in steps:
        command = typer.main.get_command(application(name)).commands[name]  # type: ignore[attr-defined]
        given = command.make_context(name, arguments.split(), resilient_parsing=False).params
        assert given["pipeline"] == tmp_path / "shop" / "pipeline.yaml"
        if name == "up":
            assert given["kafka"] is True
            assert f"127.0.0.1:{given['port']}" == BROKERS


def test_init_names_the_pipeline_after_its_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["init", str(tmp_path / "My Shop!"), "--json"])
    assert json.loads(capsys.readouterr().out)["pipeline"] == "my-shop"


def test_init_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pipeline.yaml").write_text("mine")
    assert run(["init", str(tmp_path)]) == 2
    assert (tmp_path / "pipeline.yaml").read_text() == "mine"
    assert "exists already" in capsys.readouterr().err


def test_init_refuses_a_name_that_topics_cannot_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path), "--name", "My Shop"]) == 2
    assert "--name" in capsys.readouterr().err
    assert not (tmp_path / "pipeline.yaml").exists()


def test_init_says_when_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["init", str(tmp_path / "file" / "shop")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_validate_says_what_a_program_needs_as_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["init", str(tmp_path), "--name", "returns"])
    capsys.readouterr()
    run(["validate", "-p", str(tmp_path / "pipeline.yaml"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["features"]["amount"] == "number"
    assert told["topics"]["events"] == "returns.events.v1"


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("entity: customer", "entitty: customer", "unknown key (did you mean entity?)"),
        ("amount / items", "amount / itms", "itms"),
        ("amount / items", "amount / / items", "amount_per_item"),
        ("horizon: 24h", "horizon: soon", "not a duration"),
        ("type: boolean", "type: number", "a binary label is a boolean or category"),
    ],
)
def test_validate_names_line_and_mend_of_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], right: str, wrong: str, said: str
) -> None:
    path = tmp_path / "pipeline.yaml"
    run(["init", str(tmp_path)])
    text = path.read_text()
    line = text[: text.index(right)].count("\n") + 1
    path.write_text(text.replace(right, wrong, 1))
    capsys.readouterr()

    assert run(["validate", "-p", str(path)]) == 2
    told = capsys.readouterr()
    assert f"pipeline.yaml:{line}: " in told.err
    assert said in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_a_missing_pipeline_is_wrong_use_and_names_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "-p", str(tmp_path / "none.yaml")]) == 2
    assert "headrace init" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["valdate"], ["validate", "--no-such"], ["init", "a", "b"]])
def test_wrong_arguments_end_with_2(arguments: list[str]) -> None:
    assert run(arguments) == 2
