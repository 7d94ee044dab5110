"""Several members, one prediction: who counts how much, from which message on, and what a batch tells of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from runtime.artefact import ModelRefused
from runtime.online import OtherFile, fetch_online
from runtime.weighed import WEIGHTS
from schemas import batch as b
from schemas.messages import Pool
from schemas.pooling import IDENTITY, Calibrator, Online, Weights, mix
from schemas.task import Target
from services.serving.domain.pool import ServedPool, scored
from tests.unit.services.serving.loop import Loop, artefact, features, pool


def two(loop: Loop, version: int = 2, **changed: Any) -> Pool:
    """Members 1 and 2 think the opposite; the pool of both."""
    members = [artefact(loop.store, loop.spec, number, turned=number == 2) for number in (1, 2)]
    loop.say(*members)
    both = {"members": (1, 2), "anchor": 1, "leader": 1, "weights": {1: 0.75, 2: 0.25}}
    said = Pool.model_validate(pool(members[1], version).model_dump() | both | changed)
    loop.say(said)
    return said


def checkpoint(number: int, of: int = 2, share: float = 0.5, epoch: int = 1, **changed: Any) -> Weights:
    """Member 1 has this share."""
    parts: dict[str, Any] = {
        "model": "shop", "epoch": epoch, "number": number, "pool": of, "members": (1, 2), "labels": (200, 200),
        "log_weights": tuple(np.log([share, 1 - share]).tolist()), "calibrator": Calibrator(IDENTITY["binary"]),
    }  # fmt: skip
    return Weights(**{**parts, **changed})


def expected(row: dict[str, Any], share: float, calibrator: Calibrator | None = None) -> float:
    outputs = np.array(row["_outputs"]).reshape(1, -1, 1)
    order = [share if member == 1 else 1 - share for member in row["_members"]]
    return float(mix("binary", outputs, np.array(order), calibrator or Calibrator(IDENTITY["binary"]))[0])


def told(loop: Loop) -> list[tuple[int, int]]:
    """Pool and checkpoint that each scored batch names."""
    headers = [b.decode_headers(each.headers) for each in loop.log("scored")]
    return [(each.pool, each.weights) for each in headers]


def test_before_a_checkpoint_the_weights_of_the_announcement_rule() -> None:
    loop = Loop()
    two(loop)
    loop.events(0, 5)
    loop.start()
    loop.run()
    assert told(loop) == [(2, 0)]
    for row in loop.scored().to_pylist():
        assert row["_prediction"] == pytest.approx(expected(row, 0.75))
        assert abs(row["_outputs"][0] - row["_outputs"][1]) > 0.1


def test_the_newest_checkpoint_rules_from_the_next_batch_on_and_the_batch_names_it() -> None:
    loop = Loop()
    two(loop)
    loop.start()
    loop.run()
    for number, share in ((7, 0.5), (8, 0.1)):
        loop.weigh(checkpoint(number, share=share))
        loop.events(number, 1)
        loop.run()
    assert told(loop) == [(2, 7), (2, 8)]
    first, second = loop.scored().to_pylist()
    assert (first["_prediction"], second["_prediction"]) == pytest.approx((expected(first, 0.5), expected(second, 0.1)))


def test_a_checkpoint_of_a_controller_that_was_replaced_is_void() -> None:
    loop = Loop()
    two(loop)
    loop.weigh(checkpoint(3, epoch=2))
    loop.weigh(checkpoint(9, epoch=1))
    loop.events(0, 2)
    loop.start()
    loop.run()
    assert told(loop) == [(2, 3)]


def test_a_checkpoint_of_a_pool_that_is_not_here_yet_waits_for_it() -> None:
    loop = Loop()
    two(loop)
    loop.weigh(checkpoint(3))
    loop.weigh(checkpoint(4, of=3, share=0.9))
    loop.start()
    loop.events(0, 1)
    loop.run()
    two(loop, 3)
    loop.events(1, 1)
    loop.run()
    assert told(loop) == [(2, 3), (3, 4)]
    assert loop.scored().to_pylist()[1]["_prediction"] == pytest.approx(expected(loop.scored().to_pylist()[1], 0.9))


def test_a_pool_without_a_checkpoint_of_its_own_keeps_the_calibrator_of_the_one_before() -> None:
    loop = Loop()
    two(loop)
    bent = Calibrator((0.5, 0.0, 0.3))
    loop.weigh(checkpoint(3, share=0.1, calibrator=bent))
    two(loop, 3)
    loop.events(0, 1)
    loop.start()
    loop.run()
    assert told(loop) == [(3, 3)]
    (row,) = loop.scored().to_pylist()
    assert row["_prediction"] == pytest.approx(expected(row, 0.75, bent))


class Told:
    """A model that says the same of every row."""

    def __init__(self, value: float) -> None:
        self._value = value

    def score(self, batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.full(batch.num_rows, self._value)


def test_members_of_a_regression_keep_their_lines_when_the_pool_changes_and_a_newcomer_has_none() -> None:
    loop = Loop()
    three = {"members": (1, 2, 3), "anchor": 3, "leader": 1, "weights": {1: 0.5, 2: 0.25, 3: 0.25}}
    said = Pool.model_validate(two(loop, 3).model_dump() | three)
    lines = (Calibrator((2.0, 1.0)), Calibrator((0.5, 0.0)))
    ruling = checkpoint(9, calibrator=Calibrator((1.0, 10.0)), lines=lines)
    served = ServedPool(said, {1: Told(4.0), 2: Told(6.0), 3: Told(8.0)}, Target("regression"), ruling)
    rows = pa.record_batch({"x": [0.0, 1.0]})
    assert served.answers(served.outputs(rows)).ravel().tolist() == [0.5 * 9 + 0.25 * 3 + 0.25 * 8 + 10] * 2


def test_what_is_on_the_log_of_weights_is_in_service_before_the_first_row_however_much_it_is() -> None:
    loop = Loop()
    two(loop)
    for number in range(1, 200):
        loop.weigh(checkpoint(number))
    for _ in range(150):  # a writer that was replaced and does not know it
        loop.broker.append(WEIGHTS, b"{")
    loop.events(0, 1)
    loop.start()
    loop.run()
    assert told(loop) == [(2, 199)]


def test_the_anchor_comes_first_in_the_members_of_a_row_then_the_others_ascending() -> None:
    loop = Loop()
    two(loop, anchor=2)
    loop.events(0, 3)
    loop.start()
    loop.run()
    rows = loop.scored().to_pylist()
    assert {tuple(row["_members"]) for row in rows} == {(2, 1)}
    second = loop.handler.pool
    assert second is not None
    alone = second.models[2].score(features(0, 3))
    assert [row["_outputs"][0] for row in rows] == pytest.approx(alone.tolist())


@pytest.mark.parametrize("changed", [{"strategy": "champion", "leader": 2}, {"pinned": 2}])
def test_whoever_rules_alone_is_answered_for_as_it_is_while_the_others_are_scored(changed: dict[str, Any]) -> None:
    loop = Loop()
    two(loop, **changed)
    loop.weigh(checkpoint(3, share=0.999, calibrator=Calibrator((9.0, 0.0, 2.0))))
    loop.events(0, 5)
    loop.start()
    loop.run()
    assert told(loop) == [(2, 0)]
    for row in loop.scored().to_pylist():
        assert row["_members"] == [1, 2]
        assert row["_prediction"] == row["_outputs"][1]


def test_a_batch_without_rows_is_scored_like_any_other() -> None:
    loop = Loop()
    two(loop)
    loop.start()
    loop.run()
    served = loop.handler.pool
    assert isinstance(served, ServedPool)
    assert scored(features(0, 0), served).schema == scored(features(0, 2), served).schema


# --- the online member ------------------------------------------------------------------------


class Half:
    """Says .9 of every row."""

    def score(self, batch: pa.RecordBatch) -> np.ndarray:
        return np.full((batch.num_rows, 1), 0.9)


SNAPSHOT = Online("online/shop/01", "0" * 64, 10, 200)


def test_the_online_member_is_scored_beside_the_pool_and_mixed_by_the_calibrator() -> None:
    loop = Loop()
    two(loop)
    bent = Calibrator((1.0, 0.5, 0.0))
    loop.weigh(checkpoint(3, calibrator=bent, online=SNAPSHOT))
    loop.online = lambda _: Half()
    loop.events(0, 3)
    loop.start()
    loop.run()
    for row in loop.scored().to_pylist():
        assert row["_members"] == [1, 2, 0]
        assert row["_outputs"][2] == 0.9
        outputs = np.array(row["_outputs"][:2]).reshape(1, 2, 1)
        mixed = mix("binary", outputs, np.array([0.5, 0.5]), bent, np.array([[0.9]]))
        assert row["_prediction"] == pytest.approx(float(mixed[0]))


def test_a_snapshot_that_is_refused_leaves_the_checkpoint_before_in_rule() -> None:
    def refuse(said: Online) -> Half:
        raise ModelRefused(f"{said.uri} was written over")

    loop = Loop()
    loop.online = refuse
    two(loop)
    loop.weigh(checkpoint(3))
    loop.start()
    loop.run()
    loop.weigh(checkpoint(4, online=SNAPSHOT))
    loop.events(0, 2)
    loop.run()
    loop.weigh(checkpoint(5))
    loop.events(2, 2)
    loop.run()
    assert told(loop) == [(2, 3), (2, 5)]


def test_a_snapshot_that_is_another_file_than_was_announced_is_counted_once() -> None:
    loop = Loop()
    loop.online = partial(fetch_online, loop.store, types=loop.spec.feature_types, classes=2)
    loop.store.put(SNAPSHOT.uri, b"forged")
    two(loop)
    loop.weigh(checkpoint(3))
    loop.start()
    loop.run()
    loop.weigh(checkpoint(4, online=SNAPSHOT))
    for first in (0, 2):
        loop.events(first, 2)
        loop.run()
    assert told(loop) == [(2, 3), (2, 3)]
    assert loop.refused() == 1


def test_a_snapshot_that_was_written_over_in_its_turn_alerts_nobody_at_a_start() -> None:
    def newest(said: Online) -> Half:
        if said == SNAPSHOT:
            raise OtherFile(f"{said.uri} was written over")
        return Half()

    loop = Loop()
    loop.online = newest
    two(loop)
    loop.weigh(checkpoint(3, online=SNAPSHOT))
    loop.start()
    loop.run()
    loop.weigh(checkpoint(4, online=Online("online/shop/02", "0" * 64, 10, 400)))
    loop.events(0, 2)
    loop.run()
    assert told(loop) == [(2, 4)]
    assert loop.refused() == 0
