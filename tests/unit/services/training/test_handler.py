from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from runtime.errors import Transient, WrongSetup
from runtime.ports import Place
from runtime.signing import keys_in_memory, signed
from runtime.store import Store
from schemas import batch as b
from schemas import cloudevents
from schemas.artefact import MANIFEST, Dataset, Manifest
from services.training.domain.rows import content_digest, remembered
from services.training.domain.taking import remake
from services.training.handler import Training
from tests.unit.services.training.loop import FAR, STEP, Loop, labelled, spec

FIRST = "shop/first"


def first_fit(loop: Loop) -> None:
    """Rows 0 to 299 are there and passed; the first model is out."""
    loop.examples(labelled(0, 300))
    loop.passes(306 * STEP)
    loop.run()


def manifest(loop: Loop, version: int = 1) -> Manifest:
    member = next(each for each in loop.members() if each.version == version)
    return Manifest.model_validate_json(loop.store.get(f"{member.uri}/{MANIFEST}"))


def reread(loop: Loop) -> pa.RecordBatch:
    """All examples with their places, as somebody reads them who only knows the log."""
    parts = []
    for partition in range(loop.partitions):
        for message in loop.broker.log(Place("examples", partition)):
            assert message is not None
            parts.append(remembered(b.decode(message.value), list(loop.spec.features), partition, message.offset, 0))
    return pa.concat_batches(parts)


def made_again(loop: Loop, dataset: Dataset) -> pa.RecordBatch:
    rows = remake(dataset, lambda _: [reread(loop)], list(loop.spec.features))
    assert rows is not None
    return rows


def test_nothing_is_fitted_before_the_least_number_of_rows_is_there() -> None:
    loop = Loop()
    loop.start()
    loop.examples(labelled(0, 199))
    loop.passes(FAR)
    loop.run()
    assert loop.members() == []


def test_the_first_fit_sees_exactly_the_least_number_of_rows_whatever_came_with_them() -> None:
    loop = Loop()
    loop.start()
    first_fit(loop)
    member, pool = loop.members()[0], loop.pools()[0]
    assert (member.version, member.rows, member.cause.kind) == (1, 200, "first")
    assert (pool.members, pool.leader, pool.anchor, pool.weights) == ((1,), 1, 1, {1: 1.0})
    assert pool.reference_pane == 200 * STEP
    assert loop.steps() == [(FIRST, "fitted"), (FIRST, "announced")]


def test_the_decision_to_announce_shows_the_figures_of_the_check() -> None:
    loop = Loop()
    loop.start()
    first_fit(loop)
    evidence = loop.decisions()[0].evidence
    assert evidence["log_loss"] < evidence["log_loss_prior"]  # type: ignore[operator]


@pytest.mark.parametrize("estimator", ["logistic_regression", "hist_gradient_boosting"])
def test_the_rows_of_a_dataset_are_found_again_by_their_positions(estimator: str) -> None:
    loop = Loop(spec(estimator))
    loop.start()
    first_fit(loop)
    dataset = manifest(loop).dataset
    rows = made_again(loop, dataset)
    assert rows.num_rows == dataset.rows == 200
    assert content_digest(rows, loop.spec.feature_types) == dataset.digest


@pytest.mark.parametrize("estimator", ["logistic_regression", "hist_gradient_boosting"])
def test_a_model_does_not_depend_on_how_the_log_was_read(estimator: str) -> None:
    digests = set()
    for messages, late in ((500, False), (1, False), (3, True)):
        loop = Loop(spec(estimator))
        loop.start(max_messages=messages)
        loop.examples(labelled(0, 240))
        if late:
            loop.run()
        loop.examples(labelled(240, 60))
        loop.passes(306 * STEP)
        loop.run()
        digests.add((loop.members()[0].digest, manifest(loop).dataset.digest, manifest(loop).dataset.label_cutoff))
    assert len(digests) == 1


def test_a_row_that_comes_after_its_time_is_found_again_too() -> None:
    loop = Loop()
    loop.start()
    rows = labelled(0, 300)
    late = rows.slice(10, 30)
    loop.examples(pa.concat_batches([rows.slice(0, 10), rows.slice(40, 110)]))
    loop.examples(late, watermark=149 * STEP)
    loop.examples(rows.slice(150))
    loop.passes(FAR)
    loop.run()
    dataset = manifest(loop).dataset
    assert dataset.rows == 200
    assert content_digest(made_again(loop, dataset), loop.spec.feature_types) == dataset.digest


def test_copies_of_a_row_count_once() -> None:
    loop = Loop()
    loop.start()
    loop.examples(labelled(0, 150))
    loop.examples(labelled(0, 150), watermark=150 * STEP)
    loop.passes(FAR)
    loop.run()
    assert loop.members() == []


def test_an_episode_causes_one_fit_when_enough_rows_lie_behind_its_start() -> None:
    loop = Loop()
    loop.start()
    first_fit(loop)
    loop.episode("d1", start=300, detected=340)
    loop.examples(labelled(300, 99, turned=True))
    loop.passes(403 * STEP)
    loop.run()
    assert len(loop.members()) == 1
    loop.examples(labelled(399, 50, turned=True))
    loop.passes(FAR)
    loop.run()
    second = loop.members()[1]
    assert (second.version, second.rows, second.cause.id) == (2, 100, "d1")
    assert (loop.pools()[-1].version, loop.pools()[-1].members) == (2, (2,))
    assert second.metrics["log_loss"] < second.metrics["log_loss_ruling"]


def test_an_episode_that_is_read_again_after_a_restart_causes_no_second_fit() -> None:
    loop = Loop()
    loop.start()
    first_fit(loop)
    loop.episode("d1", start=300, detected=340)
    loop.examples(labelled(300, 150, turned=True))
    loop.passes(FAR)
    loop.run()
    loop.start()
    loop.episode("d1", start=300, detected=340)
    loop.examples(labelled(450, 150, turned=True))
    loop.run()
    assert [each.version for each in loop.members()] == [1, 2]


def test_other_kinds_of_drift_and_void_judges_cause_no_fit() -> None:
    loop = Loop()
    loop.start()
    first_fit(loop)
    loop.episode("f1", start=300, detected=340, kind="feature", epoch=3)
    loop.episode("old", start=300, detected=340, epoch=2)
    loop.examples(labelled(300, 150, turned=True))
    loop.passes(FAR)
    loop.run()
    assert len(loop.members()) == 1


def test_a_kill_at_any_point_leads_to_the_same_models() -> None:
    wanted: list[str] = []
    for count in range(-1, 14):
        loop = Loop()
        loop.examples(labelled(0, 300))
        loop.episode("d1", start=300, detected=340)
        loop.examples(labelled(300, 150, turned=True))
        loop.passes(FAR)
        loop.run_killed_before(count)
        found = [(each.version, each.digest, each.sha256, each.cause.id) for each in loop.members()]
        unique = sorted(set(found))
        if count == -1:
            wanted = [digest for _, digest, _, _ in unique]
        assert [digest for _, digest, _, _ in unique] == wanted
        assert len(unique) == 2
        assert loop.pools()[-1].members == (2,)
        assert [each.cause.id for each in loop.members()] == [FIRST, "d1"]


def test_a_new_leader_writes_a_higher_epoch_at_once() -> None:
    loop = Loop()
    for _ in range(3):
        loop.start()
        loop.run()
    assert [json.loads(each.value or b"")["epoch"] for each in loop.log("state")] == [1, 2, 3]


def test_one_class_alone_is_told_and_tried_again_with_more_rows() -> None:
    loop = Loop()
    loop.start()
    loop.examples(labelled(0, 200, label=0))
    loop.passes(210 * STEP)
    loop.run()
    assert loop.members() == []
    assert loop.decisions()[0].reason == "one class only"
    assert loop.decisions()[0].outcome == "again after 40 more labelled rows"
    loop.examples(labelled(200, 100))
    loop.passes(FAR)
    loop.run()
    assert loop.decisions()[1].reason == "one class only"  # among those that are not held out
    assert [each.rows for each in loop.members()] == [280]


def test_a_fit_that_is_worse_than_the_model_in_service_is_rejected_and_the_pool_stays() -> None:
    loop = Loop()
    loop.start()
    first_fit(loop)
    loop.episode("false-alarm", start=300, detected=310)
    mixed = pa.concat_batches([labelled(300, 80, turned=True), labelled(380, 60)])
    loop.examples(mixed)
    loop.passes(FAR)
    loop.run()
    assert len(loop.members()) == len(loop.pools()) == 1
    decision = loop.decisions()[-1]
    assert (decision.subject, decision.step) == ("false-alarm", "rejected")
    loop.start()
    loop.run()
    assert loop.decisions()[-1] == decision


def test_a_fit_rests_after_the_one_before_and_says_so() -> None:
    loop = Loop()
    loop.start()
    first_fit(loop)
    for name, start in (("d1", 300), ("d2", 302)):
        loop.episode(name, start=start, detected=340)
    loop.examples(labelled(300, 130, turned=True))
    loop.passes(430 * STEP)
    loop.run()
    assert [each.cause.id for each in loop.members()] == [FIRST, "d1"]
    assert loop.steps()[-1] == ("d2", "suppressed")
    assert "cool-down" in loop.decisions()[-1].reason
    loop.passes(FAR)
    loop.run()
    assert loop.steps()[-1][0] == "d2"
    assert loop.steps()[-1][1] in {"announced", "rejected"}


def test_no_fit_is_made_beyond_the_budget() -> None:
    loop = Loop(spec(fits="1 per 1d"))
    loop.start()
    first_fit(loop)
    loop.episode("d1", start=300, detected=340)
    loop.examples(labelled(300, 150, turned=True))
    loop.passes(FAR)
    loop.run()
    assert len(loop.members()) == 1
    assert loop.steps()[-1] == ("d1", "suppressed")
    assert "1 fits within" in loop.decisions()[-1].reason


def test_a_wish_to_retrain_makes_a_fit_now_and_only_once() -> None:
    loop = Loop()
    loop.start()
    first_fit(loop)
    loop.wish("w1")
    loop.run()
    loop.wish("w1")
    loop.run()
    causes = [(each.cause.kind, each.cause.id) for each in loop.members()] + loop.steps()
    assert causes.count(("operator", "w1")) + loop.steps().count(("w1", "rejected")) == 1


def test_what_is_no_wish_goes_to_the_dead_letters() -> None:
    loop = Loop()
    loop.start()
    loop.broker.append(Place("operator", 0), b"retrain please")
    loop.run()
    assert len(loop.broker.log(Place("dead-letters", 0))) == 1


def test_a_store_that_is_away_is_waited_for_and_the_fit_is_not_lost(tmp_path: Path) -> None:
    loop = Loop(store=Store(f"file://{tmp_path}", keys_in_memory()))
    (tmp_path / "models").write_text("in the way")
    worker = loop.start()
    clock = worker._clock

    def mended(seconds: float) -> None:
        (tmp_path / "models").unlink(missing_ok=True)
        clock.advance(seconds)  # type: ignore[attr-defined]

    clock.sleep = mended  # type: ignore[method-assign]
    first_fit(loop)
    assert [each.version for each in loop.members()] == [1]
    assert loop.steps() == [(FIRST, "fitted"), (FIRST, "announced")]


def test_an_unknown_parameter_shows_at_the_start() -> None:
    with pytest.raises(WrongSetup, match=r"model.params.*learning"):
        Training(spec("hist_gradient_boosting", "{learning: 0.1}"), Store("memory://"))


def test_old_rows_are_forgotten_and_a_restart_reads_only_what_is_remembered() -> None:
    loop = Loop()
    loop.start()
    loop.examples(labelled(0, 1500))
    loop.passes(FAR)
    loop.run()
    begins = json.loads(loop.log("state")[-1].value or b"")["begins"]
    assert all(int(offset) > 20 for offset in begins.values())
    worker = loop.start()
    loop.run()
    handler = worker._handler
    assert isinstance(handler, Training)
    rows = handler._known.window.rows
    assert rows is not None
    assert 400 <= rows.num_rows <= 840


class Away(Store):
    """A store that is away while a test says so."""

    away = False

    def replace(self, path: str, value: bytes) -> None:
        if self.away:
            raise Transient("the store is away")
        super().replace(path, value)


def test_a_wish_that_was_taken_and_committed_survives_a_kill_before_its_fit() -> None:
    store = Away("memory://")
    loop = Loop(store=store)
    worker = loop.start()
    first_fit(loop)
    store.away = True
    loop.wish("w0", "pin")  # is answered, so that the store cannot hold back the poll
    loop.wish("w1")
    loop.run()
    worker._settle()
    assert ("w0", "refused") in loop.steps()
    assert json.loads(loop.log("state")[-1].value or b"")["wishes"].keys() == {"w1"}

    store.away = False
    loop.start()
    loop.examples(labelled(300, 20))
    loop.run()
    assert ("w1", "fitted") in loop.steps() or ("w1", "rejected") in loop.steps()
    assert not json.loads(loop.log("state")[-1].value or b"").get("wishes")


def test_a_new_leader_outranks_all_who_announced_even_where_the_checkpoint_is_gone() -> None:
    loop = Loop()
    loop.start()
    first_fit(loop)
    member = loop.members()[-1].model_copy(update={"epoch": 7})
    value, headers = cloudevents.encode(
        signed(loop.store.keys, member), id=member.key, source="/headrace/shop/training"
    )
    loop.broker.append(Place("models", 0), value, member.key.encode(), headers)
    loop.start()
    loop.run()
    assert json.loads(loop.log("state")[-1].value or b"")["epoch"] == 8
