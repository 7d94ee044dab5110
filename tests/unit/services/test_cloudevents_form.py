"""What training and drift say in the binary form of CloudEvents is understood by everybody who reads it."""

import pytest

from runtime.announced import Announced
from runtime.memory import MemoryBroker, MemoryLog
from runtime.ports import Outgoing, Place, Stored
from runtime.settings import ServiceSettings
from runtime.signing import keys_in_memory, signed
from schemas.cloudevents import Form, decode
from schemas.messages import Cause, Decision, DriftEpisode, Member, Pool
from schemas.pipeline import parse, template
from services.drift.domain.evidence import Episode, Transition
from services.drift.handler.saying import Sayings
from services.training.domain.triggers import Trigger
from services.training.saying import Saying
from tests.unit.schemas.test_messages import EXAMPLES

MEMBER = next(each for each in EXAMPLES if isinstance(each, Member))
POOL = next(each for each in EXAMPLES if isinstance(each, Pool))
EPISODE = Episode(
    id="concept-1",
    family="concept",
    kind="concept",
    cause="",
    anchor=1,
    pane=4,
    at=70_000,
    start=60_000,
    detector="adwin",
    statistic=0.4,
    threshold=0.002,
    rows=50,
    reason="the error rose",
)
TRANSITION = Transition("concept", 4, 70_000, "the error rose", opened=EPISODE)


def stored(said: Outgoing) -> Stored:
    return Stored(0, 0, said.key, said.value, said.headers)


def test_the_form_is_a_setting_of_every_service(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ServiceSettings().cloudevents == "structured"
    monkeypatch.setenv("HEADRACE_CLOUDEVENTS", "binary")
    assert ServiceSettings().cloudevents == "binary"


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_announcements_are_folded_in_either_form(form: Form) -> None:
    keys = keys_in_memory()
    saying, announced = Saying("shop", form, keys), Announced(keys)
    for said in (MEMBER, POOL):
        message = stored(saying.announcement(said, 1_700_000_000_000))
        assert message.value
        assert announced.take(message) == signed(keys, said)
        assert ("ce_id" in dict(message.headers)) == (form == "binary")


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_decisions_keep_their_id_in_either_form(form: Form) -> None:
    trigger = Trigger(Cause(kind="growth", id="growth-1"), 0, 0)
    said = stored(Saying("shop", form).decision(trigger, "triggered", "a fit begins", "rows grew", 7))
    envelope = decode(said.value or b"", said.headers)
    assert envelope.id == "growth-1:triggered@7"
    assert envelope.read(Decision).outcome == "a fit begins"


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_a_judge_says_an_episode_once_in_either_form(form: Form) -> None:
    broker = MemoryBroker({"drift": 1, "decisions": 1})
    sayings = Sayings(parse(template("shop")), form)
    first = sayings.say(TRANSITION, {"examples/0": 8}, 3)
    assert [each.topic for each in first] == ["drift", "decisions"]
    assert decode(first[0].value or b"", first[0].headers).read(DriftEpisode).epoch == 3
    for each in first:
        broker.append(Place(each.topic, each.partition), each.value, each.key, each.headers)
    again = Sayings(parse(template("shop")), form)
    assert again.remember(MemoryLog(broker, "reader")) == 3
    assert [each.topic for each in again.say(TRANSITION, {"examples/0": 8}, 4)] == ["decisions"]
