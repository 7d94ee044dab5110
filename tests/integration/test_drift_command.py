"""`headrace drift` and `headrace operator` on a real Kafka: what is read there, and what a wish writes."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cli import run
from runtime.bootstrap import bootstrap
from runtime.kafka import KafkaCarrier, KafkaLog
from runtime.ports import Outgoing, Place
from schemas import cloudevents
from schemas.messages import DriftEpisode, Message, Wish
from schemas.pipeline import parse, template
from schemas.public import examples

pytestmark = pytest.mark.timeout(120)


class Rig:
    """A pipeline on the broker, and the command as a person runs it."""

    def __init__(self, brokers: str, name: str, folder: Path) -> None:
        text = template(name)
        self._file, self._brokers = folder / "pipeline.yaml", brokers
        self._file.write_text(text)
        bootstrap(brokers, parse(text), text, 1, 1)
        self.log, self._carrier = KafkaLog(brokers, name, "test"), KafkaCarrier(brokers, name, "test")
        self.example = next(each.message for each in examples(parse(text)) if isinstance(each.message, DriftEpisode))

    def close(self) -> None:
        self._carrier.close()
        self.log.close()

    def say(self, topic: str, message: Message, name: str) -> None:
        value, headers = cloudevents.encode(message, id=name, source="/test")
        self._carrier.publish([Outgoing(topic, 0, value, name.encode(), headers)])
        self._carrier.confirm()

    def run(self, *words: str) -> int:
        return run([*words, "-p", str(self._file), "--brokers", self._brokers])


@pytest.fixture
def rig(kafka: str, unique: str, tmp_path: Path) -> Iterator[Rig]:
    with contextlib.closing(Rig(kafka, unique, tmp_path)) as made:
        yield made


def test_episodes_are_listed_shown_drawn_and_released(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rig.run("drift", "list") == 0
    assert "no drift episode" in capsys.readouterr().out
    assert rig.run("drift", "show", "e1") == 1
    assert "there is none at all yet" in capsys.readouterr().err

    rig.say("drift", rig.example.model_copy(update={"id": "e1", "kind": "bad_data"}), "e1:opened")
    assert rig.run("drift", "list", "--json") == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["id"], line["kind"], line["state"], line["streams"]) == ("e1", "bad_data", "open", ["price"])

    page = tmp_path / "e1.html"
    assert rig.run("drift", "show", "e1", "--html", str(page)) == 0
    assert "price (numeric): 75% of the statistic" in capsys.readouterr().out
    assert "<svg" in page.read_text("utf-8")
    assert rig.run("drift", "show", "e1", "--html", str(page / "e1.html")) == 2
    assert "cannot be written" in capsys.readouterr().err

    assert rig.run("operator", "release", "e1", "--reason", "it is right", "--who", "ada", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    place = Place("operator", 0)
    (message,) = rig.log.read(place, 0, rig.log.end(place))
    wish = cloudevents.decode(message.value or b"", message.headers).read(Wish)
    assert wish.model_dump() == told
    assert (wish.kind, wish.subject, wish.who, wish.reason, message.key) == (
        "release", "e1", "ada", "it is right", b"e1",
    )  # fmt: skip
