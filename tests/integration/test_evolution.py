"""`headrace validate --against` as a person meets it, beside a pipeline that was announced on a real Kafka."""

import json
from pathlib import Path

import pytest

from headrace.cli import run
from runtime.bootstrap import bootstrap
from runtime.kafka_admin import TopicShape, topic_admin
from schemas.pipeline import parse, template
from schemas.topics import physical


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def file(kafka: str, unique: str, tmp_path: Path) -> Path:
    """The file of a pipeline that runs."""
    path = tmp_path / "pipeline.yaml"
    path.write_text(template(unique))
    bootstrap(kafka, parse(template(unique)), template(unique), 1, 1)
    return path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def against(kafka: str, file: Path, *more: str) -> int:
    return run(["validate", "-p", str(file), "--against", kafka, *more])


def test_the_file_that_runs_changes_nothing(kafka: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert against(kafka, file) == 0
    assert "nothing changes" in capsys.readouterr().out


def test_what_is_fine_is_shown_and_ends_with_0(kafka: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(file, "  fields:\n", "  fields:\n    colour: {type: text, nullable: true}\n")
    edit(file, "features: ", "features:\n  colour: colour #")
    assert against(kafka, file) == 0
    told = capsys.readouterr().out
    assert "events.fields.colour" in told
    assert "added: text, nullable" in told
    assert "features.colour" in told
    assert "refused" not in told


def test_what_is_refused_is_shown_with_reason_and_way_among_all_changes_and_ends_with_1(
    kafka: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(file, "items:      {type: integer, min: 1}", "items:      {type: number, min: 0}")
    edit(file, "hour: extract(hour from ordered_at)", "hour: extract(minute from ordered_at)")
    assert against(kafka, file) == 1
    told = capsys.readouterr().out
    for part in ("events.fields.items.type", "integer → number", "events.fields.items.min", "1 → 0", "fine"):
        assert part in told
    assert "a feature's name is its definition for ever" in told
    assert "give the new definition a new name" in told
    assert "2 of 3 changes are refused" in told
    assert "another `pipeline:` name" in told


def test_programs_get_one_object_and_nothing_else(
    kafka: str, file: Path, capsys: pytest.CaptureFixture[str], unique: str
) -> None:
    edit(file, "horizon: 24h", "horizon: 1h")
    assert against(kafka, file, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["pipeline"] == unique
    assert said["running"] == parse(template(unique)).digest
    assert said["digest"] == parse(file.read_text()).digest
    assert said["compatible"] is False
    [change] = said["changes"]
    assert (change["path"], change["verdict"], change["what"]) == ("labels.horizon", "refused", "1d → 1h")


def test_no_kafka_there_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pipeline.yaml").write_text(template("shop"))
    assert against("127.0.0.1:9", tmp_path / "pipeline.yaml") == 2
    assert "no Kafka answers at 127.0.0.1:9" in capsys.readouterr().err


def test_a_pipeline_that_has_no_log_there_is_wrong_use(
    kafka: str, file: Path, unique: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(file, f"pipeline: {unique}", f"pipeline: {unique}-other")
    assert against(kafka, file) == 2
    assert f"there is no topic {unique}-other.pipeline.v1" in capsys.readouterr().err


def test_a_log_on_which_nothing_was_announced_is_wrong_use(
    kafka: str, unique: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipeline.yaml").write_text(template(unique))
    with topic_admin(kafka) as admin:
        admin.create({physical(unique, "pipeline"): TopicShape(1, {"cleanup.policy": "compact"})}, 1)
    assert against(kafka, tmp_path / "pipeline.yaml") == 2
    assert "announces no pipeline that this version knows" in capsys.readouterr().err
