"""`headrace operator`: what is written, and what is refused before it is."""

from pathlib import Path

import pytest

from headrace.cli import run
from headrace.errors import RunFailed
from headrace.wishes import blocking, send
from runtime.memory import MemoryBroker, MemoryCarrier, MemoryLog
from runtime.ports import Place
from schemas import cloudevents
from schemas.messages import Wish
from schemas.topics import TOPICS
from tests.unit.headrace.test_drift import NOON, Rig

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    assert run(["init", str(tmp_path / "shop")]) == 0
    return str(tmp_path / "shop" / "pipeline.yaml")


def test_a_wish_is_on_the_log_under_its_subject_when_it_was_sent() -> None:
    broker = MemoryBroker({topic.name: 1 for topic in TOPICS})
    carrier = MemoryCarrier(broker, "operator")
    wish = Wish(id="w1", kind="release", subject="e1", who="ada", reason="it is right")
    send(carrier, "shop", wish, broker.clock)
    (message,) = MemoryLog(broker, "test").read(Place("operator", 0), 0, 1)
    envelope = cloudevents.decode(message.value or b"", message.headers)
    assert (message.key, envelope.id, envelope.source) == (b"e1", "w1", "/headrace/shop/operator")
    assert envelope.read(Wish) == wish


def test_only_an_open_episode_of_bad_data_can_be_released() -> None:
    rig = Rig()
    rig.opened("open", kind="bad_data")
    rig.opened("over", kind="bad_data")
    rig.closed("over", NOON, kind="bad_data")
    rig.opened("other", kind="covariate")
    assert blocking(rig.stories, "open").episode.id == "open"
    for name, why in (
        ("over", "is over since 2026-01-05T12:00:00.000Z"),
        ("other", "is one of covariate: only bad data holds rows back"),
        ("none", "there is no drift episode 'none'.*open, over, other"),
    ):
        with pytest.raises(RunFailed, match=why):
            blocking(rig.stories, name)


@pytest.mark.parametrize(
    "command",
    [["release", "e1"], ["retrain"], ["pin", "3"], ["evict", "3"], ["rollback"], ["freeze"], ["unfreeze"]],
)
def test_a_wish_needs_a_reason_and_a_broker(
    command: list[str], pipeline: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["operator", *command, "-p", pipeline, "--brokers", NOWHERE]
    assert run(given) == 2
    assert "--reason" in capsys.readouterr().err
    assert run([*given, "--reason", " "]) == 2
    assert "--reason is empty: say why" in capsys.readouterr().err
    assert run([*given, "--reason", "to see"]) == 2
    assert f"no Kafka answers at {NOWHERE}" in capsys.readouterr().err
