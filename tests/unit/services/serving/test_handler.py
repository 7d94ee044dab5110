from __future__ import annotations

import pyarrow as pa
import pytest

from runtime.errors import Transient
from runtime.ports import Outgoing, Place
from schemas import batch as b
from schemas.artefact import MANIFEST, MODEL, WARMUP
from schemas.cloudevents import Form
from schemas.messages import Member
from schemas.predictions import NO_MODEL
from services.serving.domain.pool import Scorer
from services.serving.handler import AGAIN_MS, Serving
from tests.unit.services.serving.loop import Loop, artefact, features, pool
from tests.unit.services.training.loop import Crash


class Killed:
    """Crashes before the message of a topic with this number, counted from 0."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic, self.left = topic, number

    def __call__(self, outgoing: Outgoing) -> None:
        if outgoing.topic == self.topic:
            if self.left == 0:
                raise Crash(self.topic)
            self.left -= 1


def test_without_a_model_every_event_has_a_prediction_that_says_why_there_is_none() -> None:
    loop = Loop()
    loop.start()
    loop.events(0, 3)
    loop.run()
    assert [(each.event_id, each.probability, each.pool, each.reason) for each in loop.predictions()] == [
        (f"e{i}", None, None, NO_MODEL) for i in range(3)
    ]
    row = loop.scored().slice(0, 1).to_pylist()[0]
    assert (row["_prediction"], row["_pool"], row["_members"], row["_outputs"]) == (None, None, None, None)


def test_scored_rows_have_the_agreed_types_with_and_without_a_model() -> None:
    loop = Loop()
    loop.start()
    loop.events(0, 3)
    loop.run()
    loop.announce()
    loop.events(3, 3)
    loop.events(6, 0)
    loop.run()
    for message in loop.log("scored"):
        schema = b.decode(message.value).schema
        types = dict(zip(schema.names, schema.types, strict=True))
        assert types["_prediction"] == pa.float64()
        assert types["_pool"] == pa.int64()
        assert types["_members"] == pa.list_(pa.int32())
        assert types["_outputs"] == pa.list_(pa.float64())


def test_a_swap_happens_between_two_batches_and_every_batch_names_its_pool() -> None:
    loop = Loop()
    loop.start()
    loop.events(0, 2)
    loop.run()
    loop.announce(1)
    loop.events(2, 2)
    loop.run()
    loop.announce(2, turned=True)
    loop.events(2, 0)
    loop.events(4, 2)
    loop.run()
    assert [each.pool for each in loop.predictions()] == [None, None, 1, 1, 2, 2]
    assert [b.decode_headers(each.headers).pool for each in loop.log("scored")][:2] == [0, 1]
    assert [(each.step, each.subject) for each in loop.decisions()] == [
        ("swapped", "shop/pool/1"),
        ("swapped", "shop/pool/2"),
    ]


def test_what_was_announced_before_the_start_is_in_service_before_the_first_row() -> None:
    loop = Loop()
    loop.announce(1)
    loop.announce(2)
    loop.events(0, 2)
    loop.start()
    loop.run()
    assert [each.pool for each in loop.predictions()] == [2, 2]


def test_a_prediction_is_the_members_output_and_the_key_is_the_event_id() -> None:
    loop = Loop()
    loop.announce()
    loop.events(0, 5)
    loop.start()
    loop.run()
    for row, prediction, message in zip(
        loop.scored().to_pylist(), loop.predictions(), loop.log("predictions"), strict=True
    ):
        assert row["_members"] == [1]
        assert row["_outputs"] == pytest.approx([row["_prediction"]], abs=1e-12)
        assert prediction.probability == row["_prediction"]
        assert prediction.value == (row["_prediction"] >= 0.5)
        assert message.key == row["_event_id"].encode()


def tampered(name: str, change: str) -> Loop:
    """Pool 1 answers; pool 2 is announced, but a file of its artefact is not what it was."""
    loop = Loop()
    loop.announce(1)
    loop.start()
    loop.run()
    member = artefact(loop.store, loop.spec, 2)
    value = loop.store.get(f"{member.uri}/{name}")
    loop.store._store.delete(f"{member.uri}/{name}")
    changed = {"truncated": value[:-7], "flipped": value[:-1] + bytes([value[-1] ^ 1]), "empty": b""}
    if change != "deleted":
        loop.store.put(f"{member.uri}/{name}", changed[change])
    loop.say(member, pool(member))
    loop.events(0, 2)
    loop.run()
    return loop


@pytest.mark.parametrize("name", [MANIFEST, MODEL, WARMUP])
@pytest.mark.parametrize("change", ["truncated", "flipped", "deleted", "empty"])
def test_an_artefact_that_is_not_what_was_announced_is_refused_and_the_old_pool_stays(name: str, change: str) -> None:
    loop = tampered(name, change)
    assert [each.pool for each in loop.predictions()] == [1, 1]
    refused = loop.decisions()[-1]
    assert (refused.step, refused.outcome) == ("refused", "pool 1 stays")
    assert name in refused.reason


def test_a_uri_that_leads_out_of_the_store_is_refused() -> None:
    loop = Loop()
    member = artefact(loop.store, loop.spec)
    forged = member.model_copy(update={"uri": "../../etc"})
    loop.say(forged, pool(forged))
    loop.start()
    loop.run()
    assert loop.decisions()[-1].step == "refused"
    assert "not a path within" in loop.decisions()[-1].reason


def test_a_pool_whose_member_was_never_announced_is_refused() -> None:
    loop = Loop()
    loop.say(pool(artefact(loop.store, loop.spec)))
    loop.start()
    loop.run()
    assert "never announced" in loop.decisions()[-1].reason


def test_void_and_unreadable_announcements_change_nothing() -> None:
    loop = Loop()
    member = artefact(loop.store, loop.spec)
    newer = member.model_copy(update={"epoch": 3})
    loop.say(newer, pool(newer))
    stale = artefact(loop.store, loop.spec, 2)
    loop.say(stale, pool(stale))
    loop.broker.append(Place("models", 0), b"{not json", b"shop/pool")
    loop.broker.append(Place("models", 0), None, b"shop/pool")
    loop.events(0, 1)
    loop.start()
    loop.run()
    assert [each.pool for each in loop.predictions()] == [1]
    assert loop.log("dead-letters") == []


def test_a_store_that_is_away_is_waited_for_before_anything_changes() -> None:
    loop = Loop()
    loop.announce()
    attempts = []

    def flaky(member: object) -> object:
        attempts.append(member)
        if len(attempts) < 3:
            raise Transient("the store is away")
        return loaded

    loop.start()
    loop.run()
    served = loop.handler.pool
    assert served is not None
    loaded = served.models[1]
    handler = Serving(loop.spec, flaky, keys=loop.store.keys)  # type: ignore[arg-type]
    worker = loop.start()
    worker._handler = handler
    worker._clock.sleep = lambda seconds: None  # type: ignore[method-assign]  # noqa: ARG005
    loop.announce(2)
    loop.events(0, 1)
    loop.run()
    assert len(attempts) == 3
    assert [each.pool for each in loop.predictions()] == [2]


@pytest.mark.parametrize("form", ["structured", "binary"])
@pytest.mark.parametrize("lost", range(6))
def test_predictions_that_a_crash_left_out_are_told_at_the_restart_with_the_same_ids_and_values(
    lost: int, form: Form
) -> None:
    loop = Loop(form=form)
    loop.announce()
    loop.events(0, 6)
    try:
        loop.start(Killed("predictions", lost))
        loop.run()
    except Crash:
        pass
    assert len(loop.predictions()) == lost
    loop.start()
    loop.run()
    rows = loop.scored().to_pylist()
    assert len(rows) == 6
    assert [each.event_id for each in loop.predictions()] == [f"e{i}" for i in range(6)]
    assert [each.probability for each in loop.predictions()] == [row["_prediction"] for row in rows]


def test_a_quiet_partition_gets_its_missing_predictions_too() -> None:
    loop = Loop(partitions=2)
    loop.announce()
    loop.events(0, 4, partition=1)
    try:
        loop.start(Killed("predictions", 1))
        loop.run()
    except Crash:
        pass
    worker = loop.start()
    worker.step()
    assert len(loop.log("predictions", 1)) == 4


def test_nothing_is_lost_or_repeated_when_a_batch_in_pieces_is_cut_off_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(b, "MAX_ROWS", 2)
    loop = Loop()
    loop.announce()
    loop.events(0, 9)
    for _ in range(6):
        try:
            loop.start(Killed("scored", 2))
            loop.run()
            loop.start(Killed("predictions", 1))
            loop.run()
        except Crash:
            continue
    loop.start()
    loop.run()
    loop.events(9, 3)
    loop.run()
    assert loop.positions() == list(range(12))
    assert [each.event_id for each in loop.predictions()] == [f"e{i}" for i in range(12)]


def test_strange_values_get_a_finite_prediction() -> None:
    loop = Loop()
    loop.announce()
    rows = features(0, 4).to_pydict()
    rows["x"] = [float("inf"), -1e308, None, float("nan")]
    rows["colour"] = [None, "never seen", "", "red"]
    batch = pa.RecordBatch.from_pydict(rows, schema=features(0, 1).schema)
    headers = b.encode_headers(b.Headers(coverage={"records": (0, 0)}, through=b.Through()))
    loop.broker.append(Place("features", 0), b.encode(batch), None, headers)
    loop.start()
    loop.run()
    assert all(0 <= (each.probability or 0) <= 1 for each in loop.predictions())
    assert [each.reason for each in loop.predictions()] == [None] * 4


def test_a_store_that_is_away_stops_no_pool_that_answers_and_is_asked_again_by_and_by() -> None:
    loop = Loop()
    loop.announce(1)
    worker = loop.start()
    loop.run()
    load, asked = loop.handler._load, []

    def away(member: Member) -> Scorer:
        asked.append(member.version)
        raise Transient("the store is away")

    loop.handler._load = away
    loop.announce(2, turned=True)
    loop.events(0, 2)
    loop.run()
    loop.events(2, 2)
    loop.run()
    assert [each.pool for each in loop.predictions()] == [1] * 4
    assert asked == [2]
    assert [loop.handler.tick(now) for now in (10_000, 10_000 + AGAIN_MS - 1)] == [[], ()]
    assert asked == [2, 2]

    loop.handler._load = load
    worker._publish(loop.handler.tick(10_000 + AGAIN_MS))
    loop.events(4, 2)
    loop.run()
    assert [each.pool for each in loop.predictions()][4:] == [2, 2]
    assert [(each.step, each.subject) for each in loop.decisions()][-1] == ("swapped", "shop/pool/2")


def test_foreign_messages_on_own_outputs_are_passed_over_at_the_restart() -> None:
    loop = Loop()
    loop.announce()
    loop.events(0, 4)
    try:
        loop.start(Killed("predictions", 2))
        loop.run()
    except Crash:
        pass
    loop.broker.append(Place("predictions", 0), b"who wrote this?")
    loop.broker.append(Place("scored", 0), b"and this?", None, [("coverage", b"{")])
    loop.start()
    loop.run()
    told = [message for message in loop.log("predictions") if message.value != b"who wrote this?"]
    assert len(told) == 4
