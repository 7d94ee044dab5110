"""A pool of several seats: who gets one, who leaves, whom labels trust, and that no label is folded twice or missed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from runtime.errors import Transient
from runtime.online import fetch_online
from runtime.ports import Place
from runtime.signing import Keys
from runtime.store import Store
from runtime.weighed import read
from schemas import batch as b
from schemas.messages import Cause, Decision, Pool
from schemas.pooling import Weights
from services.training.domain import growth
from services.training.domain.blend import ENTRY
from services.training.handler import Training
from services.training.weighing import CADENCE
from tests.unit.services.training.loop import FAR, STEP, Crash, Loop, crash_at, labelled, spec
from tests.unit.services.training.test_handler import FIRST, first_fit


@pytest.fixture(autouse=True)
def no_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred rows grow by a third in no time: tests of that are in test_growth.py."""
    monkeypatch.setattr(growth, "FACTOR", 1_000)


def answered(rows: pa.RecordBatch, outputs: dict[int, float]) -> pa.RecordBatch:
    """The rows as members answered them: each with so much certainty that the label is right; below .5 it is wrong."""
    truth = rows.column(b.LABEL).to_numpy(zero_copy_only=False)
    right = np.array(list(outputs.values()))
    given = np.where(truth[:, None] == 1, right, 1 - right)
    lists = pa.ListArray.from_arrays(
        pa.array(np.arange(rows.num_rows + 1, dtype=np.int32) * len(outputs)), pa.array(given.ravel())
    )
    members = pa.array([list(outputs)] * rows.num_rows, pa.list_(pa.int32()))
    return rows.append_column(b.MEMBERS, members).append_column(b.OUTPUTS, lists)


def checkpoints(loop: Loop) -> list[Weights]:
    return [read(each, Keys(unsigned=True)) for each in loop.log("weights")]


def shares(weights: Weights) -> dict[int, float]:
    return dict(zip(weights.members, weights.weights(weights.members).tolist(), strict=True))


def two(loop: Loop) -> None:
    """A first model and a fit on a wish: members 1 and 2."""
    loop.start()
    first_fit(loop)
    loop.wish("w1")
    loop.run()


def told(loop: Loop, subject: str) -> list[Decision]:
    return [each for each in loop.decisions() if each.subject == subject]


# --- seats ------------------------------------------------------------------------------------


def test_a_newcomer_enters_with_a_part_of_the_weight_and_the_first_stays_anchor() -> None:
    loop = Loop(spec(fits="100 per 1d", seats=3))
    two(loop)
    pool = loop.pools()[-1]
    assert (pool.version, pool.members, pool.anchor, pool.leader) == (2, (1, 2), 1, 1)
    assert pool.weights == pytest.approx({1: 1 - ENTRY, 2: ENTRY})
    assert pool.cause is not None
    assert pool.cause.id == "w1"
    assert checkpoints(loop)[-1].pool == 2


def test_in_a_full_pool_the_member_that_says_what_another_says_makes_room() -> None:
    loop = Loop(spec(fits="100 per 1d", seats=3))
    two(loop)
    loop.wish("w2")
    loop.run()
    same = {1: 0.9, 2: 0.6, 3: 0.6001}  # 2 and 3 say the same, and 2 is the lighter of both
    loop.examples(answered(labelled(300, 150), same))
    loop.passes(460 * STEP)
    loop.run()
    loop.wish("w3")
    loop.run()
    assert loop.pools()[-1].members == (1, 3, 4)
    assert told(loop, "w3")[-1].evidence["left"] == 2


def test_where_nobody_may_leave_yet_the_newcomer_waits_and_takes_a_seat_later() -> None:
    loop = Loop(spec(fits="100 per 1d", seats=2))
    two(loop)
    loop.wish("w2")
    loop.run()
    assert loop.pools()[-1].members == (1, 2)
    assert told(loop, "w2")[-1].outcome == "it waits for a seat"
    loop.examples(answered(labelled(300, 150), {1: 0.9, 2: 0.6}))
    loop.passes(460 * STEP)
    loop.run()
    assert loop.pools()[-1].members == (1, 3)


@pytest.mark.parametrize("meanwhile", [None, 700], ids=["one change", "another one meanwhile"])
def test_a_fit_behind_a_change_becomes_the_anchor_and_no_other_does(meanwhile: int | None) -> None:
    loop = Loop(spec(fits="100 per 1d", seats=4))
    loop.start()
    first_fit(loop)
    loop.episode("e1", start=350, detected=380, kind="covariate")
    loop.examples(labelled(300, 200))
    loop.passes(506 * STEP)
    loop.run()
    assert [(each.members, each.anchor) for each in loop.pools()] == [((1,), 1), ((1, 2), 1)]
    pane = loop.pools()[-1].reference_pane
    if meanwhile is not None:
        loop.episode("e2", start=meanwhile, detected=meanwhile + 30, kind="covariate")
    loop.examples(labelled(500, 300))
    loop.passes(806 * STEP)
    loop.run()
    follow_up = next(each for each in loop.members() if each.cause.id == "e1/follow-up")
    named = {each.anchor: each.reference_pane for each in loop.pools()}
    assert list(named) == [1, follow_up.version]
    assert named[follow_up.version] > pane


def keys() -> Keys:
    private = ec.generate_private_key(ec.SECP256R1())
    return Keys.of([private.public_key()], private)


def test_where_the_key_of_the_pool_is_trusted_no_more_a_first_model_is_made_anew(tmp_path: Path) -> None:
    stolen, other = keys(), keys()
    loop = Loop(spec(fits="1 per 1d", seats=3), store=Store(tmp_path.as_uri(), stolen))
    loop.start()
    first_fit(loop)
    loop.examples(labelled(300, 500))
    loop.passes(806 * STEP)
    loop.judged(800)
    loop.run()
    loop.store = Store(tmp_path.as_uri(), other)
    for _ in range(2):
        loop.start()
        loop.run()
    assert [each.version for each in loop.members()] == [1, 2]
    assert [(each.version, each.members, each.signed_by) for each in loop.pools()] == [
        (1, (1,), *stolen.trusted),
        (2, (2,), *other.trusted),
    ]
    assert loop.members()[1].cause == Cause(kind="first", id="shop/first/1"), "the ledger tells it from the first"
    assert loop.members()[1].rows == loop.spec.training.window, "not on the oldest rows, as the first"
    assert checkpoints(loop)[-1].members == (2,)


def trusting(signer: Keys, *others: Keys) -> Keys:
    return Keys.of([key for each in (signer, *others) for key in each.trusted.values()], signer.private)


def by_two_keys(loop: Loop, first: Keys, second: Keys, folder: Path) -> None:
    """Pool 1 is signed by the first, pool 2 by the second."""
    loop.store = Store(folder.as_uri(), first)
    loop.start()
    first_fit(loop)
    loop.store = Store(folder.as_uri(), trusting(second, first))
    loop.start()
    loop.wish("w1")
    loop.passes(FAR)
    loop.run()
    assert loop.pools()[-1].members == (1, 2)


def test_a_pool_of_which_one_member_is_trusted_no_more_is_made_anew_too(tmp_path: Path) -> None:
    stolen, other = keys(), keys()
    loop = Loop(spec(fits="100 per 1d", seats=3))
    by_two_keys(loop, stolen, other, tmp_path)
    loop.store = Store(tmp_path.as_uri(), other)
    loop.start()
    loop.run()
    assert [each.version for each in loop.members()] == [1, 2, 3]
    assert (loop.pools()[-1].version, loop.pools()[-1].members) == (3, (3,))


def test_where_the_newest_pool_is_lost_an_older_one_that_is_trusted_does_not_come_back(tmp_path: Path) -> None:
    first, stolen, third = keys(), keys(), keys()
    loop = Loop(spec(fits="100 per 1d", seats=3))
    by_two_keys(loop, first, stolen, tmp_path)
    loop.store = Store(tmp_path.as_uri(), trusting(third, first))
    for _ in range(2):
        loop.start()
        loop.run()
    assert [(each.version, each.members) for each in loop.pools()][-1] == (3, (3,))
    assert len({each.version for each in loop.pools()}) == len(loop.pools()), "no version twice"


def test_a_freeze_ends_with_the_pool_that_was_frozen(tmp_path: Path) -> None:
    stolen, other = keys(), keys()
    loop = Loop(spec(fits="100 per 1d", seats=3), store=Store(tmp_path.as_uri(), stolen))
    loop.start()
    first_fit(loop)
    loop.wish("w1", "freeze")
    loop.run()
    loop.store = Store(tmp_path.as_uri(), other)
    loop.start()
    loop.run()
    assert [each.members for each in loop.pools()] == [(1,), (2,)]


@pytest.mark.parametrize("death", range(8))
def test_a_pool_is_made_anew_once_wherever_training_dies_meanwhile(tmp_path: Path, death: int) -> None:
    stolen, other = keys(), keys()
    loop = Loop(spec(fits="100 per 1d", seats=3), store=Store(tmp_path.as_uri(), stolen))
    loop.start()
    first_fit(loop)
    loop.store = Store(tmp_path.as_uri(), other)
    loop.run_killed_before(death)
    assert [(each.version, each.cause.id) for each in loop.members()] == [(1, "shop/first"), (2, "shop/first/1")]
    assert [each.members for each in loop.pools()] == [(1,), (2,)]
    told = {each.id for each in loop.decisions() if (each.subject, each.step) == ("shop/first/1", "announced")}
    assert len(told) == 1


def test_a_lost_pool_is_made_anew_before_the_rows_that_grew_are_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "FACTOR", 1.3)
    stolen, other = keys(), keys()
    loop = Loop(spec(fits="100 per 1d", seats=3), store=Store(tmp_path.as_uri(), stolen))
    loop.start()
    first_fit(loop)
    lost = loop.pools()[-1].version
    loop.store = Store(tmp_path.as_uri(), other)
    loop.examples(labelled(300, 500))
    loop.passes(806 * STEP)
    loop.judged(800)
    loop.start()
    loop.run()
    loop.examples(labelled(800, 500))
    loop.passes(1306 * STEP)
    loop.judged(1300)
    loop.run()
    signed = [each.cause.id for each in loop.members() if each.signed_by in other.trusted]
    assert signed[0] == f"shop/first/{lost}"
    assert len(signed) > 1, "and grows from there"


# --- weights ----------------------------------------------------------------------------------


def test_labels_move_the_weights_and_a_checkpoint_comes_with_every_fiftieth() -> None:
    loop = Loop(spec(fits="100 per 1d", seats=3))
    two(loop)
    before = len(checkpoints(loop))
    for start in range(300, 800, CADENCE):
        loop.examples(answered(labelled(start, CADENCE), {1: 0.2, 2: 0.9}))
        loop.run()
    new = checkpoints(loop)[before:]
    assert len(new) == 500 // CADENCE
    assert [each.number for each in checkpoints(loop)] == list(range(1, len(checkpoints(loop)) + 1))
    assert shares(new[1])[2] > 0.9
    assert new[-1].covers == {each: len(loop.broker.log(Place("examples", each))) - 1 for each in range(2)}


def test_corrections_and_copies_move_nothing() -> None:
    plain, noisy = Loop(spec(fits="100 per 1d", seats=3)), Loop(spec(fits="100 per 1d", seats=3))
    for loop in (plain, noisy):
        two(loop)
        rows = answered(labelled(300, 120), {1: 0.2, 2: 0.9})
        loop.examples(rows)
        if loop is noisy:
            loop.examples(rows)
            revised = rows.append_column(b.REVISION, pa.array(np.ones(120, np.int64)))
            loop.examples(revised.append_column(b.CORRECTION, pa.array(np.ones(120, bool))))
        loop.examples(answered(labelled(420, 100), {1: 0.3, 2: 0.8}))
        loop.run()
    assert shares(checkpoints(plain)[-1]) == shares(checkpoints(noisy)[-1])
    assert checkpoints(plain)[-1].labels == checkpoints(noisy)[-1].labels


def scene_first(loop: Loop) -> None:
    loop.examples(labelled(0, 300))
    loop.passes(306 * STEP)


def scene_change(loop: Loop) -> None:
    loop.examples(answered(labelled(306, 94), {1: 0.7}))
    loop.episode("d1", start=400, detected=440)
    loop.examples(answered(labelled(400, 150, turned=True), {1: 0.3}))
    loop.passes(560 * STEP)


def scene_settled(loop: Loop) -> None:
    loop.examples(answered(labelled(560, 300, turned=True), {1: 0.3, 2: 0.8}))
    loop.passes(1_000 * STEP)


def scene_on(loop: Loop) -> None:
    loop.examples(answered(labelled(1_000, 130, turned=True), {1: 0.3, 2: 0.8, 3: 0.85}))
    loop.passes(FAR)


SCENES = (scene_first, scene_change, scene_settled, scene_on)
"""A first model; a change with its fit and its follow-up; labels for each of them."""


def played(killed: object) -> Loop:
    """The scenes one after the other; the controller is killed at most once, and another one goes on."""
    loop = Loop(spec(fits="100 per 1d", seats=3))
    crashed = False
    for scene in SCENES:
        scene(loop)
        try:
            if not loop.workers:
                loop.start(killed)
            loop.run()
        except Crash:
            assert not crashed
            crashed = True
            loop.start()
            loop.run()
    return loop


def final(loop: Loop) -> tuple[Pool, Weights]:
    handler = loop.workers[0]._handler
    assert isinstance(handler, Training)
    known = handler._known
    assert known.announced.pool is not None
    return known.announced.pool, known.weighing.checkpoint(known.announced.pool, 0)


def test_a_kill_at_any_point_folds_nothing_twice_and_misses_nothing() -> None:
    written: list[object] = []
    calm = played(written.append)
    pool, weights = final(calm)
    causes = [each.cause.id for each in calm.members()]
    assert causes == [FIRST, "d1", "d1/follow-up"]
    assert pool.members == (1, 2, 3)
    assert weights.labels == (674, 430, 130)
    for count in range(len(written)):
        loop = played(crash_at(count))
        assert [each.cause.id for each in loop.members()] == causes
        again, weighed = final(loop)
        assert (again.members, again.anchor, again.version) == (pool.members, pool.anchor, pool.version)
        assert (weighed.covers, weighed.labels) == (weights.covers, weights.labels)
        assert shares(weighed) == pytest.approx(shares(weights), rel=1e-9)
        assert weighed.calibrator.parameters == pytest.approx(weights.calibrator.parameters, rel=1e-9)


# --- triggers ---------------------------------------------------------------------------------


def test_an_episode_has_one_training_and_one_follow_up() -> None:
    loop = Loop(spec(fits="100 per 1d", seats=4))
    loop.start()
    first_fit(loop)
    loop.episode("d1", start=300, detected=340)
    loop.examples(labelled(300, 900, turned=True))
    loop.passes(FAR)
    loop.run()
    loop.start()
    loop.episode("d1", start=300, detected=340)
    loop.run()
    of_episode = [(each.cause.id, each.rows) for each in loop.members() if each.cause.kind == "drift"]
    assert of_episode == [("d1", 100), ("d1/follow-up", 400)]


def test_a_world_that_comes_back_brings_its_member_back_without_a_fit() -> None:
    loop = Loop(spec(fits="100 per 1d", seats=3))
    two(loop)
    loop.wish("out", "evict", "2")
    loop.run()
    members = len(loop.members())
    loop.wish("again", "rollback", "2")
    loop.run()
    assert loop.pools()[-1].members == (1, 2)
    loop.episode("r1", start=280, detected=290, kind="recurring", recurs=2)
    loop.passes(320 * STEP)
    loop.run()
    assert len(loop.members()) == members
    (recalled,) = told(loop, "r1")
    assert (recalled.step, recalled.outcome) == (
        "recalled",
        f"no fit: it answers in pool {loop.pools()[-1].version} already",
    )


def test_the_checkpoint_of_a_controller_before_pools_is_understood() -> None:
    loop = Loop(spec(fits="100 per 1d", seats=3))
    two(loop)
    state = json.loads(loop.log("state")[-1].value or b"")
    for name in ("growth", "left", "pools", "frozen"):
        state.pop(name, None)
    loop.broker.append(Place("state", 0), json.dumps(state).encode(), b"training/controller")
    loop.start()
    loop.run()
    assert loop.pools()[-1].members == (1, 2)


# --- the online member ------------------------------------------------------------------------


def learning(store: Store | None = None) -> Loop:
    """A pool beside which an online member has learnt the labels of some hundred rows."""
    loop = Loop(spec(fits="100 per 1d", seats=3, online="logistic_regression"), store=store)
    loop.start()
    first_fit(loop)
    for start in range(300, 700, 100):
        loop.examples(answered(labelled(start, 100), {1: 0.8}))
        loop.run()
    return loop


def test_checkpoints_name_the_online_members_newest_snapshot_and_it_answers_what_it_learnt() -> None:
    loop = learning()
    said = checkpoints(loop)[-1].online
    assert said is not None
    assert said.labels >= 200
    model = fetch_online(loop.store, said, loop.spec.feature_types, 2)
    rows = labelled(5_000, 200)
    truth = rows.column(b.LABEL).to_numpy(zero_copy_only=False) == 1
    assert ((model.score(rows)[:, 0] >= 0.5) == truth).mean() > 0.8
    changed = [each.online.sha256 for each in checkpoints(loop) if each.online is not None]
    assert 2 <= len(set(changed)) < len(checkpoints(loop))


def test_a_new_leader_goes_on_with_the_snapshot_and_with_nothing_where_it_is_gone() -> None:
    loop = learning()
    before = checkpoints(loop)[-1].online
    assert before is not None
    loop.start()
    loop.examples(answered(labelled(700, 250), {1: 0.8}))
    loop.run()
    after = checkpoints(loop)[-1].online
    assert after is not None
    assert after.labels == before.labels + 250

    loop.store.replace(after.uri, b"somebody else's")
    loop.start()
    loop.examples(answered(labelled(950, 250), {1: 0.8}))
    loop.run()
    anew = checkpoints(loop)[-1].online
    assert anew is not None
    assert anew.labels == 250


def test_what_the_online_member_said_is_learnt_by_the_calibrator_and_by_no_weight() -> None:
    loop = learning()
    share = shares(checkpoints(loop)[-1])
    loop.examples(answered(labelled(700, 300), {1: 0.55, 0: 0.95}))
    loop.run()
    last = checkpoints(loop)[-1]
    assert (last.members, shares(last)) == ((1,), share)
    assert last.calibrator.parameters[1] > 0.1


class Full(Store):
    """A store that takes no snapshot."""

    def replace(self, path: str, value: bytes) -> None:
        if path.startswith("online/"):
            raise Transient(f"no room for {path}")
        super().replace(path, value)


def test_a_store_that_takes_no_snapshot_holds_up_nothing() -> None:
    loop = learning(Full("memory://"))
    assert {each.online for each in checkpoints(loop)} == {None}
    assert checkpoints(loop)[-1].labels == (400,)
