import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headrace.cli import run
from headrace.contract import files
from headrace.contract_page import kind_of, page
from schemas.cloudevents import decode
from schemas.contract import event_model, label_model
from schemas.generate import FOLDER, GOLDEN, goldens, schema_of
from schemas.messages import MESSAGES, Prediction
from schemas.pipeline import Pipeline, parse, template
from schemas.reasons import reasons
from schemas.topics import TOPICS

SHOP = parse(template("shop"))
HOSTILE = parse(
    """
pipeline: odd
task: binary
events:
  fields:
    price: {type: number, min: 0, unit: "<script>alert('$name & co')</script>"}
    kind: {type: category, values: ["<b>", "&"], nullable: true}
labels: {id: event, field: up, type: boolean, horizon: 90m}
features: {price: price}
"""
)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(template("shop"))
    return path


def made(pipeline: Path, out: Path, *more: str) -> int:
    return run(["contract", "-p", str(pipeline), "--out", str(out), *more])


def test_the_contract_is_written_and_listed(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "contract"
    assert made(shop, out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert (told["pipeline"], told["digest"], told["directory"]) == ("shop", SHOP.digest, str(out))
    assert set(told["files"]) == written
    assert {"index.html", "asyncapi.json", "schemas/event.schema.json", "schemas/label.schema.json"} < written


def test_for_people_it_says_where_to_look(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made(shop, tmp_path / "contract") == 0
    assert f"{tmp_path / 'contract' / 'index.html'}" in capsys.readouterr().out


def test_the_contract_of_the_template_is_what_is_committed() -> None:
    found = files(SHOP, "structured")
    assert found["asyncapi.json"] == (FOLDER / "asyncapi.json").read_text()
    for name in goldens():
        schema = f"{name.removesuffix('.json')}.schema.json"
        assert found[f"examples/{name}"] == (GOLDEN / name).read_text()
        assert found[f"schemas/{schema}"] == (FOLDER / schema).read_text()


@pytest.mark.parametrize("spec", [SHOP, HOSTILE], ids=lambda spec: spec.pipeline)
def test_the_examples_of_event_and_label_are_valid(spec: Pipeline) -> None:
    found = files(spec, "structured")
    event_model(spec).model_validate_json(found["examples/event.json"])
    label_model(spec).model_validate_json(found["examples/label.json"])


def test_examples_of_a_binary_pipeline_show_their_headers() -> None:
    found = json.loads(files(SHOP, "binary")["examples/prediction.v2.json"])
    envelope = decode(found["value"].encode(), [(name, text.encode()) for name, text in found["headers"]])
    assert envelope.read(Prediction).id == envelope.id
    assert found["key"] == "customer-17"


def test_a_second_run_overwrites_its_own_files_and_leaves_others_alone(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "contract"
    assert made(shop, out) == 0
    (out / "notes.md").write_text("ours")
    (out / "index.html").write_text("old")
    assert made(shop, out) == 0
    assert (out / "index.html").read_text().startswith("<!doctype html>")
    assert (out / "notes.md").read_text() == "ours"


def test_a_directory_with_other_files_is_used_and_they_stay(shop: Path, tmp_path: Path) -> None:
    assert made(shop, tmp_path) == 0
    assert shop.read_text() == template("shop")


def test_files_of_somebody_else_are_not_overwritten(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").write_text("<h1>My site</h1>")
    assert made(shop, tmp_path) == 2
    assert "is not from `headrace contract`" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path != shop] == ["index.html"]


def test_the_contract_of_another_pipeline_is_not_overwritten(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(shop, tmp_path / "out") == 0
    shop.write_text(template("returns"))
    assert made(shop, tmp_path / "out") == 2
    assert "another pipeline, urn:headrace:pipelines:shop" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written_is_wrong_use_with_the_mend(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(shop, shop / "contract") == 2
    told = capsys.readouterr().err
    assert "cannot be written" in told
    assert "--out" in told


def test_a_form_that_does_not_exist_is_wrong_use(shop: Path, tmp_path: Path) -> None:
    assert made(shop, tmp_path / "out", "--cloudevents", "avro") == 2


# --- the page ---------------------------------------------------------------------------------


class Balanced(HTMLParser):
    """Fails on a tag that is closed in the wrong order; keeps the text."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - the parser's signature
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def test_the_page_names_every_public_topic_field_message_and_reason() -> None:
    said = Balanced(page(SHOP, "structured")).said
    for topic in TOPICS:
        assert (f"shop.{topic.name}.v1" in said) == bool(topic.public)
    for name in [*SHOP.event_fields, *SHOP.label_fields, "EUR", "≥ 0", *reasons(), *(m.__name__ for m in MESSAGES)]:
        assert name in said


def test_the_page_loads_nothing_from_elsewhere() -> None:
    assert re.findall(r"(?:src|href)=\"(?!#)|@import|url\(|<script|<link", page(SHOP, "binary")) == []


def test_words_of_the_pipeline_are_texts_and_never_markup() -> None:
    text = page(HOSTILE, "structured")
    assert "<script>" not in text
    assert "<script>alert('$name & co')</script>" in Balanced(text).said
    assert "one of <b>, &" in Balanced(text).said
    assert "90 minutes" in text
    assert "1 day after" in page(SHOP, "structured")


def test_the_fields_of_a_dead_letter_are_told_as_the_headers_that_they_are() -> None:
    said = Balanced(page(SHOP, "structured")).said
    for header in ("headrace-topic", "headrace-offset", "headrace-reason"):
        assert said.count(header) == 2  # in the table and in the example


def test_types_are_told_in_words() -> None:
    schema = schema_of(Prediction)
    told = {name: kind_of(part, schema) for name, part in schema["properties"].items()}
    assert told["probability"] == "number ≥ 0 ≤ 1 or null"
    assert told["value"] == "boolean or text or number or null"
    assert told["time"] == "time, RFC 3339"
    assert told["source"] == "{partition: integer ≥ 0, position: integer ≥ 0, row: integer ≥ 0}"
