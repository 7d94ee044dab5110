"""`headrace explain`: what a log tells of versions, episodes, predictions, and of fits that did not happen."""

import io
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from headrace.cli import run
from headrace.demo.stream import readings
from headrace.errors import WrongUse
from headrace.explain import story, why_not
from headrace.explain.command import Stretch, tell
from headrace.explain.ledger import Ledger, Telling
from headrace.explain.pages import page
from headrace.explain.predicted import of_prediction, said
from headrace.explain.reading import ledger, numbered, weighings
from headrace.explain.rows import newest_ids, scored
from headrace.files import Options, messages
from headrace.following import whole
from headrace.output import Output
from headrace.simulate import assemble
from headrace.simulate import run as run_loop
from runtime.memory import MemoryBroker, MemoryLog
from runtime.ports import LogReader, Place
from runtime.signing import keys_in_memory
from runtime.store import Store
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Decision, DriftEpisode, Message, StreamChange, Wish, moment
from schemas.pipeline import load
from schemas.topics import TOPICS

NINE, MINUTE = 1_767_603_600_000, 60_000
PIPELINE = Path(__file__).parents[2] / "data" / "pumps.yaml"
SPEC = load(PIPELINE)
OPTIONS = Options.of(start="2026-01-01T00:00:00Z", every="1s", delay="300rows", prefix="reading-")
PRICE = StreamChange(
    name="price", kind="magnitude", share=0.9, effect=6.6, start=moment(NINE + 11 * MINUTE), bins=("x",), before=(9,),
    after=(9,), source="events/2",
)  # fmt: skip


# --- a run of the product's own handlers ------------------------------------------------------


@pytest.fixture(scope="module")
def store() -> Store:
    return Store("memory://", keys_in_memory())


@pytest.fixture(scope="module")
def log(store: Store) -> LogReader:
    """The demo's readings: the errors of a model rise on the way, and it is fitted anew."""
    ended = assemble(SPEC, store, 2)
    run_loop(ended, SPEC, messages(readings(7_000, 4_000, 7), SPEC, OPTIONS))
    return ended.log


def told(
    log: LogReader, subject: str | None, store: Store, stretch: Stretch | None = None, *, why: bool = False
) -> Telling:
    return tell(log, SPEC, subject, stretch or Stretch(), Output(machine=True), store=store, why=why)


def steps(telling: Telling) -> list[tuple[str, str]]:
    return [(each.service, each.step) for each in telling.entries]


def of_drift(log: LogReader) -> tuple[str, int]:
    """The first episode that led to a fit, and the version."""
    read = ledger(log, keys_in_memory())
    found = ((each.cause.id, each.version) for each in read.members.values() if each.cause.id in read.episodes)
    return next(found)


def test_a_version_is_told_from_its_cause_to_its_weight(log: LogReader, store: Store) -> None:
    episode, version = of_drift(log)
    telling = told(log, f"v{version}", store)
    assert (telling.kind, telling.subject) == ("version", f"v{version}")
    assert told(log, str(version), store) == telling
    entries = telling.entries
    assert len({(each.step, each.subject, each.near, each.outcome) for each in entries}) == len(entries)
    order = [("drift", "opened"), ("training", "fitted"), ("training", "announced"), ("serving", "swapped")]
    assert [each for each in steps(telling) if each in order] == order
    (data,) = (each for each in entries if each.step == "dataset")
    member = ledger(log, keys_in_memory()).members[version]
    assert data.evidence["rows"] == member.rows
    assert data.positions == member.trained_through
    weights = [float(str(each.evidence["weight"])) for each in entries if each.step == "weighed"]
    assert min(weights) >= 0.05, "it came with that, and labels spoke for it"
    assert weights[-1] > 0.5
    assert episode in telling.summary
    assert "of the weight" in telling.summary
    times = [each.near for each in entries]
    assert times == sorted(times)


def test_a_version_whose_artefact_is_gone_is_told_without_its_dataset(log: LogReader) -> None:
    telling = told(log, "v1", Store("memory://", keys_in_memory()))
    assert ("training", "fitted") in steps(telling)
    assert "dataset" not in {each.step for each in telling.entries}


def test_an_episode_is_told_to_the_weight_that_the_labels_gave(log: LogReader, store: Store) -> None:
    name, version = of_drift(log)
    telling = told(log, name, store)
    found = steps(telling)
    assert [each for each in found if each[0] == "drift"] == [("drift", "opened"), ("drift", "closed")]
    assert found.index(("drift", "opened")) < found.index(("training", "fitted"))
    assert ("training", "weighed") in found
    assert telling.entries[0].evidence["loss"].startswith("moved by")  # type: ignore[union-attr]
    assert f"Training fitted version {version}" in telling.summary
    assert "there was training" in told(log, name, store, why=True).summary


def test_a_prediction_is_told_by_its_members_weights_features_and_label(log: LogReader, store: Store) -> None:
    telling = told(log, "reading-5000", store)
    made, *answers = telling.entries
    assert set(made.evidence) == set(SPEC.features)
    row = scored(log, "reading-5000")
    assert row is not None
    members = [each for each in answers if each.step == "answered"]
    assert [each.subject for each in members] == [f"v{each}" for each in row.values[b.MEMBERS]]
    assert sum(each.evidence["weight"] for each in members) == pytest.approx(1)  # type: ignore[misc]
    assert all("fitted at" in each.reason for each in members)
    assert members[0].evidence["anchor"]
    (mixed,) = (each for each in answers if each.step == "mixed")
    assert f"made {said(SPEC.target, row.values).split(', ')[1]} of it" in mixed.outcome
    label = telling.entries[-1]
    assert (label.step, label.evidence["delay"]) == ("labelled", "5m")
    assert telling.summary.endswith(("right", "wrong"))
    assert told(log, row.id, store).entries == telling.entries


def test_a_prediction_of_a_champion_names_it_and_claims_no_mixture(log: LogReader) -> None:
    row = scored(log, "reading-5900")
    assert row is not None
    outputs, members = row.values[b.OUTPUTS], row.values[b.MEMBERS]
    headers = msgspec.structs.replace(row.headers, weights=0)  # those of a champion do not count
    row = replace(row, headers=headers, values={**row.values, b.PREDICTION: outputs[1]})
    telling = of_prediction(ledger(log, keys_in_memory()), SPEC, row, None, None)
    (mixed,) = (each for each in telling.entries if each.step == "mixed")
    assert mixed.outcome.startswith(f"v{members[1]} alone answers")


def test_a_row_without_label_or_model_says_so(log: LogReader, store: Store) -> None:
    newest = max(newest_ids(log), key=lambda each: int(each.rpartition("-")[2]))
    broker = MemoryBroker({topic.name: 2 for topic in TOPICS})
    for topic in ("scored", "models", "weights"):
        for place, message in whole(log, topic):
            broker.append(place, message.value, message.key, message.headers)
    alone = MemoryLog(broker, "test")
    assert "its label has not come; it counts until 1h behind" in told(alone, newest, store).summary
    first = told(alone, "reading-0", store)
    assert "no prediction: there is no model yet" in first.summary
    assert [each.step for each in first.entries] == ["scored"]


def test_the_checkpoint_that_ruled_is_found_by_its_number(log: LogReader) -> None:
    kept = weighings(log, keys_in_memory(), 10_000)
    assert [each.said.number for each in kept] == list(range(1, len(kept) + 1))
    for each in kept:
        assert numbered(log, keys_in_memory(), each.said.number) == each.said
    assert numbered(log, keys_in_memory(), len(kept) + 1) is None
    few = weighings(log, keys_in_memory(), 3)
    assert [few[0].said.number, few[-1].said.number] == [1, len(kept)]


def test_a_stretch_of_time_is_told_whole(log: LogReader, store: Store) -> None:
    read = ledger(log, keys_in_memory())
    start, stop = read.entries[2].near, read.entries[-1].near
    telling = told(log, None, store, Stretch(start, stop))
    assert telling.entries
    assert all(start <= each.near < stop for each in telling.entries)
    assert len(told(log, None, store, Stretch(moment(0))).entries) == len(read.entries)


def test_an_unknown_subject_is_refused_and_near_ones_are_named(log: LogReader, store: Store) -> None:
    with pytest.raises(WrongUse, match="did you mean reading-"):
        told(log, "readng-6900", store)
    with pytest.raises(WrongUse, match="v99 is no model version"):
        told(log, "v99", store)
    with pytest.raises(WrongUse, match="no episode or other subject"):
        told(log, "reading-5000", store, why=True)


def test_a_story_is_drawn_for_people_and_says_the_same_to_programs(log: LogReader, store: Store) -> None:
    telling = told(log, of_drift(log)[0], store)
    console = Console(width=200, file=io.StringIO(), color_system=None)
    console.print(page(telling))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.startswith(telling.summary[:60])
    assert "01:12:30" in text
    fields = telling.as_json()
    assert len(fields["entries"]) == len(telling.entries)
    assert set(fields["entries"][0]) == {
        "time", "service", "step", "subject", "outcome", "reason", "evidence", "positions",
    }  # fmt: skip


# --- why not ----------------------------------------------------------------------------------


class Rig:
    """A pipeline's ledger in memory, and whoever writes to it."""

    def __init__(self) -> None:
        self._broker = MemoryBroker({topic.name: 1 for topic in TOPICS})

    def say(self, topic: str, message: Message, name: str, at: int) -> None:
        value, headers = cloudevents.encode(message, id=name, source="/test", time=moment(at))
        self._broker.append(Place(topic, 0), value, b"key", headers)

    def episode(self, name: str, kind: str, minute: int, **fields: Any) -> None:
        at = NINE + minute * MINUTE
        self.say("drift", DriftEpisode.written(**{
            "id": name, "state": "opened", "family": "features", "kind": kind, "anchor": 1, "detector": "counts",
            "statistic": 5.0, "threshold": 4.5, "detected_at": moment(at), "estimated_start": moment(at - 3 * MINUTE),
            "rows": 40, "positions": {}, "reason": "price arrives 100 times too large", "epoch": 1,
            "streams": (PRICE,), **fields,
        }), f"{name}:opened", at)  # fmt: skip

    def decided(self, subject: str, step: str, minute: int, reason: str = "because", **evidence: Any) -> None:
        decision = Decision.written(
            subject=subject, step=step, service="training", outcome=f"outcome of {step}", reason=reason,
            evidence=evidence, time=moment(NINE + minute * MINUTE),
        )  # fmt: skip
        self.say("decisions", decision, f"{decision.id}@{minute}", NINE + minute * MINUTE)

    def garbage(self) -> None:
        for topic in ("decisions", "models", "operator"):
            self._broker.append(Place(topic, 0), b"hello")

    @property
    def ledger(self) -> Ledger:
        return ledger(MemoryLog(self._broker, "test"), keys_in_memory())

    def why(self, first: int, last: int) -> Telling:
        start = moment(NINE)
        return why_not.of_stretch(self.ledger, SPEC, start + timedelta(minutes=first), start + timedelta(minutes=last))


def test_bad_data_is_why_there_was_no_training() -> None:
    rig = Rig()
    rig.episode("e1", "bad_data", 14)
    rig.decided(
        "e1", "quarantined", 14, "price arrives 100 times too large",
        **{"from": "2026-01-05T09:11:00.000Z", "to": None, "source": "events/2"},
    )  # fmt: skip
    during, later = rig.why(10, 20), rig.why(30, 40)
    words = "no retraining: bad data, price arrives 100 times too large from source events/2, since 2026-01-05T09:11"
    for each in (during, later):
        assert each.summary.startswith(words)
    rig.decided("e1", "released", 25)
    assert "nothing asked for it" in rig.why(30, 40).summary
    assert "bad data" in rig.why(20, 24).summary


def test_the_cool_down_the_budget_and_a_frozen_pool_are_why_there_was_no_training() -> None:
    rig = Rig()
    rig.garbage()
    rig.decided("demo/first", "fitted", 0, version=1)
    assert "there was training" in rig.why(0, 1).summary
    start = moment(NINE + MINUTE // 2)
    resting = why_not.of_stretch(rig.ledger, SPEC, start, start + timedelta(seconds=10))
    assert "the cool-down after the fit at 2026-01-05T09:00:00Z ends at 2026-01-05T09:01:00Z" in resting.summary
    rig.decided("c", "rejected", 2, challenger=1)
    assert "nothing asked for it" in rig.why(3, 4).summary
    rig.decided("w1", "frozen", 5, "ada wished it")
    assert rig.why(10, 20).entries[-1].reason == "ada wished it"
    rig.decided("w2", "unfrozen", 21)
    assert "nothing asked for it" in rig.why(30, 40).summary
    for minute in range(40, 40 + SPEC.training.fits.count):
        rig.decided(f"f{minute}", "rejected", minute)
    assert "the budget of" in rig.why(90, 100).summary


def test_an_episode_that_waits_for_rows_is_why_there_was_no_training() -> None:
    rig = Rig()
    rig.episode("e1", "concept", 14, reason="errors rose")
    assert "errors rose, waits for 1,000 labelled rows behind 2026-01-05T09:11:00Z" in rig.why(20, 30).summary
    assert "nothing asked for it" in rig.why(0, 10).summary
    assert "; 400 are there" in why_not.of_episode(rig.ledger, SPEC, "e1", 400).summary
    rig.decided("e1", "suppressed", 40, "the cool-down ends later", episode="e1")
    assert "no retraining: the cool-down ends later" in why_not.of_episode(rig.ledger, SPEC, "e1", 1_000).summary


def test_what_an_operator_wished_stands_before_its_answer() -> None:
    rig = Rig()
    for name, kind in (("w1", "evict"), ("w2", "retrain")):
        wish = Wish.written(id=name, kind=kind, subject="demo/member/2", who="ada", reason="it is wrong")
        rig.say("operator", wish, name, NINE + 60 * MINUTE)
    rig.decided("w1", "evicted", 5, "ada wished it: it is wrong", who="ada", wish="evict", of="demo/member/2")
    telling = story.between(rig.ledger, None, None)
    assert [(each.subject, each.step) for each in telling.entries] == [
        ("w1", "wished"), ("w1", "evicted"), ("w2", "wished"),
    ]  # fmt: skip
    assert "not answered yet" in telling.entries[-1].outcome


def test_a_decision_on_a_wish_is_told_with_the_version_that_it_is_about() -> None:
    rig = Rig()
    rig.decided("w1", "evicted", 5, "ada wished it: it is wrong", who="ada", wish="evict", of="demo/member/2")
    telling = story.of_subject(rig.ledger, "w1")
    assert (telling.kind, telling.summary) == ("decision", "09:05:00 outcome of evicted")


# --- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["v1", "--from", "2h"], ["--why-not"]])
def test_neither_or_both_of_subject_and_stretch_is_wrong_use(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain", *words, "-p", str(PIPELINE)]) == 2
    assert "name either" in capsys.readouterr().err


def test_a_time_that_is_none_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "--from", "yesterday", "-p", str(PIPELINE)]) == 2
    assert "--from yesterday" in capsys.readouterr().err


def test_the_end_that_is_not_given_lies_an_hour_from_the_other() -> None:
    noon = datetime.fromisoformat("2026-01-05T12:00:00Z")
    hour = timedelta(hours=1)
    assert Stretch(noon).closed() == (noon, noon + hour)
    assert Stretch(None, noon).closed() == (noon - hour, noon)
