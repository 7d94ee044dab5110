"""The parser: every command is there, and one that is not asked for costs nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.cli import COMMANDS, run
from schemas.batch import BatchError
from schemas.cloudevents import EnvelopeError

ROOT = Path(__file__).parents[3]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f" {name} " in told for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    told = capsys.readouterr().out
    assert name == "kafka" or f"headrace {name}" in told.split("For example:")[1]


@pytest.mark.parametrize("name", ["start", "stop", "status"])
def test_the_commands_about_kafka_explain_themselves(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kafka", name, "--help"]) == 0
    assert f"headrace kafka {name}" in capsys.readouterr().out


def test_an_unknown_command_is_wrong_use_and_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["valdate"]) == 2
    assert "validate" in capsys.readouterr().err


@pytest.mark.parametrize("error", [BatchError("not an Arrow batch"), EnvelopeError("e-1: is another's")])
def test_a_log_of_another_version_is_one_message_and_exit_code_1(
    error: ValueError, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def validate() -> None:
        raise error

    monkeypatch.setattr("headrace.project.validate", validate)
    assert run(["validate"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("headrace: the log holds a message that this version cannot read")
    assert str(error) in told
    assert told.count("\n") == 1


def test_a_light_command_does_not_import_the_libraries_of_the_heavy_ones() -> None:
    code = "import sys; from headrace.cli import run; run(['validate', '--help']); print(sorted(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not any(f"'{heavy}'" in told for heavy in ("sklearn", "river", "kafka", "faust", "scipy"))
