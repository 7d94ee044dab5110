"""Everything that is derived from the messages is fresh, and what was published stays readable."""

import json
import shutil
from pathlib import Path

import pytest

from schemas import generate
from schemas.cloudevents import decode, encode
from schemas.generate import FOLDER, GOLDEN, broken, documents, goldens, write
from schemas.messages import MESSAGES, DeadLetter, Message, Prediction, moment
from schemas.pipeline import parse, template
from schemas.public import CARRIED, NOON, examples, file_of, heard, topic_of
from schemas.topics import TOPICS

NEWEST = {f"{file_of(model)}.json" for model in MESSAGES}
EVENTS = sorted(path for path in GOLDEN.iterdir() if not path.name.startswith(f"{DeadLetter.what}."))
LETTERS = sorted(path for path in GOLDEN.iterdir() if path not in EVENTS)


def test_what_is_generated_is_fresh() -> None:
    """Where this fails: python -m schemas.generate."""
    for folder, files in ((FOLDER, documents()), (GOLDEN, goldens())):
        assert {name: (folder / name).read_text() for name in files} == files


def test_every_published_version_has_a_schema_and_a_golden_example() -> None:
    schemas = {path.name.removesuffix(".schema.json") for path in FOLDER.glob("*.v*.schema.json")}
    assert schemas == {path.stem for path in GOLDEN.iterdir()} >= {file_of(model) for model in MESSAGES}


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_a_golden_event_of_any_version_is_still_understood(path: Path) -> None:
    envelope = decode(path.read_bytes())
    message = envelope.message()
    assert f"{message.what}.v{envelope.type.rpartition('.v')[2]}" == path.stem
    assert envelope.dataschema == json.loads((FOLDER / f"{path.stem}.schema.json").read_text())["$id"]


@pytest.mark.parametrize("path", [path for path in EVENTS if path.name in NEWEST], ids=lambda path: path.stem)
def test_the_newest_version_is_written_byte_for_byte_like_its_golden_example(path: Path) -> None:
    golden = path.read_bytes().rstrip(b"\n")
    envelope = decode(golden)
    again, headers = encode(
        envelope.message(), id=envelope.id, source=envelope.source, subject=envelope.subject, time=moment(NOON)
    )
    assert again == golden
    assert decode(again, headers) == envelope


@pytest.mark.parametrize("path", LETTERS, ids=lambda path: path.stem)
def test_a_golden_dead_letter_is_read_from_its_headers_and_written_like_it(path: Path) -> None:
    golden = json.loads(path.read_text())
    headers = [(name, text.encode()) for name, text in golden["headers"]]
    letter = DeadLetter.from_headers(headers)
    assert letter.id == "events/1/1024/0"
    if path.name in NEWEST:
        assert [each for each in headers if each[0].startswith(DeadLetter.prefix)] == letter.headers()


def test_every_message_travels_on_one_public_topic_and_every_public_topic_carries_some() -> None:
    public = {topic.name for topic in TOPICS if topic.public}
    assert CARRIED.keys() == public - {"events", "labels"}
    assert [model for models in CARRIED.values() for model in models] == sorted(
        MESSAGES, key=lambda model: list(CARRIED).index(topic_of(model))
    )
    assert {model.what for model in MESSAGES if heard(model)} == {"wish"}


def test_both_forms_of_an_example_say_the_same() -> None:
    spec = parse(template("shop"))
    pairs = zip(examples(spec), examples(spec, "binary"), strict=True)
    for structured, binary in list(pairs)[:-1]:
        assert decode(structured.value, structured.headers) == decode(binary.value, binary.headers)


# --- the generator ----------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER, tmp_path / "generated")
    return tmp_path / "generated"


def test_nothing_that_is_published_breaks() -> None:
    assert broken() == []


def test_the_generator_writes_what_is_committed(tmp_path: Path) -> None:
    assert write(tmp_path / "generated", tmp_path / "golden") == []
    assert {path.name for path in tmp_path.rglob("*.*")} == {*documents(), *goldens()}


class Renamed(Prediction):
    """A prediction whose value has another name and whose probability is a text."""

    chance: str


def with_model(monkeypatch: pytest.MonkeyPatch, model: type[Message]) -> None:
    others = tuple(each for each in MESSAGES if each.what != model.what)
    monkeypatch.setattr(generate, "MESSAGES", (*others, model))
    monkeypatch.setattr(generate, "heard", lambda _: False)


def test_the_generator_refuses_to_break_a_published_version_and_says_how_to_go_on(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_text() for path in published.iterdir()}
    with_model(monkeypatch, Renamed)
    (refusal,) = write(published, published / "golden")
    assert "prediction.v2 $.chance" in refusal
    assert "raise Renamed.schema_version to 3 and keep golden/prediction.v2.json" in refusal
    assert {path.name: path.read_text() for path in published.iterdir()} == before


def test_a_new_version_may_break_and_the_old_files_stay(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Third(Renamed):
        schema_version = 3

    with_model(monkeypatch, Third)
    monkeypatch.setattr(generate, "goldens", dict)
    assert write(published, published.parent / "golden") == []
    assert {"prediction.v2.schema.json", "prediction.v3.schema.json"} <= {path.name for path in published.iterdir()}


def test_a_published_message_cannot_disappear(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "MESSAGES", tuple(each for each in MESSAGES if each is not Prediction))
    assert broken(published) == ["prediction is published, and no message is called so any more: keep its model"]
