"""The judge: the same episodes for any number of partitions, any interleaving, any crash."""

from collections.abc import Sequence
from functools import cache

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import HoleFound, WrongSetup
from runtime.memory import MemoryLog
from runtime.ports import Message, Place
from runtime.signing import signed
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Decision, DriftEpisode, Pool
from services.drift.domain.panes import judged
from services.drift.handler.checkpoint import Checkpoint, newest
from tests.unit.services.drift.stream import (
    CrashError,
    Drift,
    Row,
    crash_at,
    errors,
    examples,
    leave,
    spread,
)


@cache
def stream() -> tuple[Row, ...]:
    """Two rises under member 1, then member 2, which gets worse, too."""
    old = errors(4_000, 1_500, 0.1, 0.45) + errors(5_000, 4_000, 0.45, 0.9, seed=3)[4_000:]
    new = errors(4_000, 2_000, 0.1, 0.5, seed=9)
    rows = [*old, *(Row(row.position, row.time, ((2, row.outputs[0][1]),), 1, row.source) for row in new)]
    return tuple(Row(i // 2, 100 * i, row.outputs, 1, i % 2) for i, row in enumerate(rows))


@cache
def counts(partitions: int, step: int) -> dict[int, list[Message]]:
    drift = Drift(partitions)
    spread(drift, stream(), step)
    drift.finish(drift.counter())
    return {p: drift.messages("drift-counts", p) for p in range(partitions)}


def counted(partitions: int = 1, step: int = 97) -> Drift:
    """The stream, counted, and nothing judged yet."""
    drift = Drift(partitions)
    for p, messages in counts(partitions, step).items():
        give(drift, p, messages)
    return drift


def give(drift: Drift, partition: int, messages: Sequence[Message]) -> None:
    for message in messages:
        drift.broker.append(Place("drift-counts", partition), message.value, headers=message.headers)


def episodes(drift: Drift) -> list[DriftEpisode]:
    return [cloudevents.decode(m.value or b"", m.headers).read(DriftEpisode) for m in drift.messages("drift")]


def core(drift: Drift) -> list[dict[str, object]]:
    """Episodes but for what names the log's layout and the leader."""
    return [each.model_dump(exclude={"positions", "epoch"}) for each in episodes(drift)]


@cache
def expected() -> list[dict[str, object]]:
    drift = counted()
    drift.finish(drift.judge())
    return core(drift)


def test_each_rise_opens_and_closes_one_episode() -> None:
    drift = counted()
    drift.finish(drift.judge())

    found = episodes(drift)
    assert [(each.state, each.anchor) for each in found] == [
        (state, anchor) for anchor in (1, 1, 2) for state in ("opened", "closed")
    ]
    first = found[0]
    assert first.family == first.kind == "concept"
    assert 1_500 <= first.detected_at.timestamp() * 10 <= 1_700
    assert first.estimated_start <= first.detected_at
    assert first.positions == found[0].positions
    assert set(first.positions) == {"examples/0"}
    assert [message.key for message in drift.messages("drift")] == [each.id.encode() for each in found]


def test_each_fact_has_a_decision_in_the_ledger_with_its_evidence() -> None:
    drift = counted()
    drift.finish(drift.judge())
    said = [cloudevents.decode(m.value or b"", m.headers).read(Decision) for m in drift.messages("decisions")]
    assert [(each.subject, each.step) for each in said] == [(each.id, each.state) for each in episodes(drift)]
    assert all(each.evidence["error_after"] > each.evidence["error_before"] for each in said)  # type: ignore[operator]


@pytest.mark.parametrize("partitions", [1, 4, 16])
def test_any_number_of_partitions_gives_the_same_episodes(partitions: int) -> None:
    drift = counted(partitions)
    drift.finish(drift.judge())
    assert core(drift) == expected() != []


@given(st.sampled_from([1, 3, 4]), st.sampled_from([61, 500]), st.data())
@settings(deadline=None, max_examples=15)
def test_any_interleaving_gives_the_same_episodes(partitions: int, step: int, data: st.DataObject) -> None:
    drift = Drift(partitions)
    judge = drift.judge()
    left = {p: list(messages) for p, messages in counts(partitions, step).items()}
    while waiting := [p for p in left if left[p]]:
        p = data.draw(st.sampled_from(waiting))
        count = data.draw(st.integers(1, max(1, len(left[p]))))
        give(drift, p, left[p][:count])
        del left[p][:count]
        judge.step(0)
    assert core(drift) == expected()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 40)), max_size=6))
@settings(deadline=None, max_examples=25)
def test_a_judge_that_dies_anywhere_says_each_fact_once(lives: list[tuple[int, int]]) -> None:
    drift = counted(3, 150)
    for writes, most in lives:
        try:
            judge = drift.judge(on_publish=crash_at(writes), max_messages=most)
        except CrashError:
            continue
        try:
            while judge.step(0):
                pass
        except CrashError:
            pass
        leave(judge)
    drift.finish(drift.judge())
    assert core(drift) == expected()
    said = {cloudevents.decode(m.value or b"").id for m in drift.messages("decisions")}
    assert said == {f"{each.id}:{each.state}" for each in episodes(drift)}


def test_each_leader_begins_a_higher_epoch_at_once_and_names_it() -> None:
    drift = counted()
    first, second = drift.judge(), drift.judge()
    first.step(0)
    leave(first)
    drift.finish(second)
    epochs = [msgspec.msgpack.decode(m.value or b"", type=Checkpoint).epoch for m in drift.messages("state")]
    assert epochs[0] == 1
    assert epochs == sorted(epochs)
    assert epochs[-1] == 2


def test_a_zombies_late_checkpoint_of_a_lower_epoch_is_passed_over() -> None:
    drift = Drift()
    for epoch in (3, 4, 3):
        each = Checkpoint(epoch).outgoing()
        drift.broker.append(Place(each.topic, 0), each.value, each.key)
    for _ in range(500):
        drift.broker.append(Place("state", 0), b"{}", b"training/controller")
    assert newest(MemoryLog(drift.broker, "drift-judge")).epoch == 4


def test_after_a_restart_only_counts_since_the_last_reset_are_read_again() -> None:
    drift = counted()
    drift.finish(drift.judge())
    before = len(drift.messages("drift"))
    judge = drift.judge()
    judge.step(0)
    followed = judge._handler.follow(judge._carrier.log)
    assert followed[Place("drift-counts", 0)] > len(drift.messages("drift-counts")) // 2
    assert len(drift.messages("drift")) == before


def test_missing_counts_stop_the_judge() -> None:
    drift = Drift()
    for panes in ((0, 1), (3, 4)):
        headers = b.Headers(panes=panes, coverage={"examples": (0, 0)})
        drift.broker.append(Place("drift-counts", 0), b.encode(judged(examples([]))), headers=b.encode_headers(headers))
    with pytest.raises(HoleFound, match="panes from 3 on"):
        drift.finish(drift.judge())


def test_what_is_no_batch_of_counts_goes_to_the_dead_letters() -> None:
    drift = Drift()
    drift.broker.append(Place("drift-counts", 0), b"nonsense")
    drift.broker.append(Place("drift-counts", 0), b.encode(judged(examples([]))))
    drift.finish(drift.judge())
    reasons = [dict(message.headers)["headrace-reason"] for message in drift.messages("dead-letters")]
    assert reasons == [b"undecodable_batch"] * 2


def test_foreign_messages_on_what_is_read_whole_are_passed_over_at_each_start() -> None:
    drift = counted()
    drift.broker.append(Place("models", 0), b"{}", b"shop/pool")
    drift.broker.append(Place("drift", 0), b"who wrote this?")
    drift.broker.append(Place("state", 0), b"{", b"drift/judge")
    for _ in range(2):
        drift.finish(drift.judge())
    del drift.broker.log(Place("drift", 0))[0]
    assert core(drift) == expected()
    assert drift.messages("dead-letters") == []


def announce(drift: Drift, anchor: int, epoch: int) -> None:
    pool = Pool.written(
        model="shop", version=2, members=(1, 2), leader=2, anchor=anchor, reference_pane=0,
        weights={1: 0.5, 2: 0.5}, strategy="blend", epoch=epoch,
    )  # fmt: skip
    value, headers = cloudevents.encode(signed(drift.store.keys, pool), id="shop/2", source="/headrace/shop/training")
    drift.broker.append(Place("models", 0), value, pool.key.encode(), headers)


def test_the_pool_of_a_controller_that_was_replaced_is_void() -> None:
    drift = Drift()
    announce(drift, anchor=2, epoch=5)
    announce(drift, anchor=1, epoch=4)
    drift.finish(drift.judge())


def test_a_new_leader_outranks_every_judge_that_spoke_even_where_the_checkpoint_is_gone() -> None:
    drift = counted()
    drift.finish(drift.judge())
    drift.broker.log(Place("state", 0)).clear()
    judge = drift.judge()
    judge.step(0)
    assert newest(MemoryLog(drift.broker, "drift-judge")).epoch == 2


def test_a_pool_may_keep_an_anchor_that_is_not_its_newest_member_and_must_not_go_back_to_an_older_one() -> None:
    drift = Drift()
    announce(drift, anchor=1, epoch=1)
    announce(drift, anchor=2, epoch=1)
    drift.finish(drift.judge())
    announce(drift, anchor=1, epoch=1)
    with pytest.raises(WrongSetup, match="rows of an older anchor are not judged"):
        drift.finish(drift.judge())
