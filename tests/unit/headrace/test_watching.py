"""What `watch` and `status` read from a pipeline's topics."""

import io
import json

import pyarrow as pa
import pytest
from rich.console import Console

from headrace.score import Prequential
from headrace.watch import rendered
from headrace.watching import HEARD, Fitting, Watcher
from runtime.memory import MemoryBroker, MemoryCarrier, MemoryLog, VirtualClock
from runtime.ports import Place
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Decision, DriftEpisode, Message, Pool, moment
from schemas.topics import TOPICS


def examples(rows: list[tuple[int, float | None, int]]) -> pa.RecordBatch:
    """Labelled rows: position, prediction, label."""
    positions, predictions, labels = zip(*rows, strict=True)
    return pa.record_batch(
        {
            b.SOURCE: pa.array([0] * len(rows), pa.int16()),
            b.POSITION: pa.array(positions, pa.int64()),
            b.ROW: pa.array([0] * len(rows), pa.int32()),
            "_prediction": pa.array(predictions, pa.float64()),
            "_label": pa.array(labels, pa.int8()),
        }
    )


class Rig:
    def __init__(self) -> None:
        self.broker = MemoryBroker({topic.name: 2 if topic.partitions == "P" else 1 for topic in TOPICS})
        self.watcher = Watcher(MemoryLog(self.broker, "watch"), self.committed, self.clock)

    @property
    def clock(self) -> VirtualClock:
        return self.broker.clock

    def committed(self, group: str, place: Place) -> int | None:
        return MemoryLog(self.broker, group).committed(place)

    def say(self, topic: str, message: Message) -> None:
        value, headers = cloudevents.encode(message, id="1", source="/test")
        self.broker.append(Place(topic, 0), value, b"key", headers)


POOL = Pool(
    model="m",
    version=1,
    members=(1,),
    leader=1,
    anchor=1,
    reference_pane=0,
    weights={1: 1.0},
    strategy="blend",
    epoch=1,
)
DECISION = Decision(subject="m/1", step="swapped", service="serving", outcome="swapped", reason="it was announced")


def episode(state: str) -> DriftEpisode:
    return DriftEpisode.model_validate(
        {
            "id": "e1",
            "state": state,
            "family": "loss",
            "kind": "concept",
            "anchor": 1,
            "detector": "adwin",
            "statistic": 0.3,
            "threshold": 0.002,
            "detected_at": moment(2),
            "estimated_start": moment(1),
            "rows": 100,
            "positions": {},
            "reason": "the loss rose",
            "epoch": 1,
        }
    )


def test_scores_are_of_judged_rows_only() -> None:
    score = Prequential()
    score.add(examples([(0, 0.9, 1), (1, 0.4, 1), (2, None, 1), (3, 0.5, 1)]))
    assert score.overall.accuracy == pytest.approx(2 / 3)
    assert score.overall.log_loss == pytest.approx((0.10536 + 0.91629 + 0.69315) / 3, abs=1e-4)
    assert score.unjudged == 1


def test_the_recent_score_forgets_and_the_overall_one_does_not() -> None:
    score = Prequential(recent=2)
    score.add(examples([(0, 0.1, 1), (1, 0.9, 1), (2, 0.9, 1)]))
    assert score.recent.accuracy == 1.0
    assert score.overall.accuracy == pytest.approx(2 / 3)


def test_a_certain_mistake_has_a_finite_loss() -> None:
    score = Prequential()
    score.add(examples([(0, 0.0, 1)]))
    assert score.overall.log_loss == pytest.approx(34.5, abs=0.1)


def test_a_row_that_a_crash_wrote_twice_counts_once() -> None:
    rig = Rig()
    for _ in range(2):
        rig.broker.append(Place("examples", 1), b.encode(examples([(0, 0.9, 1)])))
    assert rig.watcher.look().overall.rows == 1


def test_each_look_reads_only_what_is_new() -> None:
    rig = Rig()
    for position in range(3):
        rig.broker.append(Place("examples", 0), b.encode(examples([(position, 0.9, 1)])))
        assert rig.watcher.look().overall.rows == position + 1


def test_rates_are_growth_over_time() -> None:
    rig = Rig()
    rig.broker.append(Place("events", 0), b"{}")
    assert rig.watcher.look().per_second["events"] == 0
    rig.clock.advance(2)
    for _ in range(10):
        rig.broker.append(Place("events", 0), b"{}")
    assert rig.watcher.look().per_second["events"] == 5


def test_lag_counts_what_a_group_has_not_committed() -> None:
    rig = Rig()
    for _ in range(5):
        rig.broker.append(Place("events", 0), b"{}")
    assert rig.watcher.look().lag["ingestion"] == 5
    member = MemoryCarrier(rig.broker, "ingestion")
    member.subscribe(["events", "labels"])
    member.commit({Place("events", 0): 3})
    assert rig.watcher.look().lag["ingestion"] == 2


def test_pool_episodes_and_decisions_are_the_newest() -> None:
    rig = Rig()
    rig.say("models", POOL)
    rig.say("models", POOL.model_copy(update={"version": 2}))
    rig.say("drift", episode("opened"))
    rig.say("decisions", DECISION)
    snapshot = rig.watcher.look()
    assert snapshot.pool is not None
    assert snapshot.pool.version == 2
    assert [each.id for each in snapshot.open_episodes] == ["e1"]
    assert snapshot.decisions == [DECISION]
    rig.say("drift", episode("closed"))
    assert rig.watcher.look().open_episodes == []


@pytest.mark.parametrize("topic", HEARD)
def test_a_message_that_this_version_cannot_read_is_left_out_and_counted(topic: str) -> None:
    rig = Rig()
    newer, headers = cloudevents.encode(DECISION, id="1", source="/test", type="headrace.decision.v9")
    other = b.encode(pa.record_batch({"a": [1]}))
    for value in (b"hello", newer, other, other[:-40]):
        rig.broker.append(Place(topic, 0), value, b"key", headers)
    rig.say("decisions", DECISION)
    snapshot = rig.watcher.look()
    assert snapshot.unreadable == 4
    assert snapshot.decisions == [DECISION]
    page = io.StringIO()
    Console(file=page).print(rendered(snapshot))
    assert "4 messages are not of this version" in page.getvalue()
    assert rig.watcher.look().unreadable == 4


def test_an_open_episode_is_told_with_its_kind() -> None:
    rig, page = Rig(), io.StringIO()
    rig.say("drift", episode("opened").model_copy(update={"kind": "bad_data"}))
    Console(file=page, width=120).print(rendered(rig.watcher.look()))
    assert "e1 (bad data): the loss rose" in page.getvalue()


def test_a_fit_under_way_is_shown_until_something_became_of_it() -> None:
    rig = Rig()
    begun = DECISION.model_copy(
        update={"step": "fitting", "subject": "w1", "evidence": {"rows": 1200, "estimator": "ridge"}}
    )
    rig.clock.advance(60)
    rig.say("decisions", begun)
    snapshot = rig.watcher.look()
    assert snapshot.fitting == Fitting("w1", moment(60_000), 1200, "ridge")
    page = io.StringIO()
    Console(file=page, width=120).print(rendered(snapshot))
    assert "ridge on 1,200 rows for w1, since 1970-01-01 00:01:00+00:00" in page.getvalue()
    assert json.loads(json.dumps(snapshot.as_json()))["fitting"]["since"] == "1970-01-01T00:01:00+00:00"
    rig.say("decisions", DECISION.model_copy(update={"step": "fitted", "subject": "another"}))
    assert rig.watcher.look().fitting is not None
    rig.say("decisions", DECISION.model_copy(update={"step": "failed", "subject": "w1"}))
    assert rig.watcher.look().fitting is None


def test_a_snapshot_is_json_and_can_be_shown_at_every_stage() -> None:
    rig = Rig()
    for topic, told in (("decisions", DECISION), ("models", POOL), ("drift", episode("opened"))):
        rig.say(topic, told)
        snapshot = rig.watcher.look()
        assert json.loads(json.dumps(snapshot.as_json()))["messages"]["events"] == 0
        page = io.StringIO()
        Console(file=page).print(rendered(snapshot))
        assert "pool" in page.getvalue()
