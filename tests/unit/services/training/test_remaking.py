"""Whoever has a manifest and the archive, or the log, has the rows; what was changed is found and named."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import pyarrow as pa
import pytest

from runtime.errors import Transient
from runtime.memory import MemoryLog
from runtime.metrics import Metrics
from runtime.ports import Place, Polled
from runtime.signing import keys_in_memory
from runtime.stage import Decoded
from runtime.store import Store
from schemas import batch as b
from schemas.artefact import Dataset, Sampling
from services.training import archive as archiving
from services.training.archive import BEHIND_MS, CUT_AGE_MS, Archive
from services.training.datasets import Datasets
from services.training.domain.window import Window
from services.training.handler import Training
from services.training.remaking import DatasetDiffers, RowsGone, remake
from services.training.segments import SegmentDamaged, Segments
from tests.unit.services.training.loop import STEP, Loop, labelled, spec
from tests.unit.services.training.test_handler import first_fit, manifest

PLACES = [Place("examples", 0), Place("examples", 1)]


def fitted(store: Store, size: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Loop, Dataset]:
    """A model on a sample of all rows, archived in segments of a size."""
    monkeypatch.setattr(archiving, "CUT_BYTES", size)
    loop = Loop(spec(window="{mixed: 200}"), store=store)
    loop.start()
    first_fit(loop)
    loop.examples(labelled(300, 300))
    loop.passes(606 * STEP)
    loop.run()
    loop.wish("w1")
    loop.run()
    return loop, manifest(loop, 2).dataset


def made_again(loop: Loop, dataset: Dataset, *, topic: bool = True) -> pa.RecordBatch:
    log = MemoryLog(loop.broker, "reader") if topic else None
    return remake(dataset, "shop", loop.spec.feature_types, loop.store, log)


@pytest.mark.parametrize("size", [1 << 30, 20_000, 1])
def test_a_dataset_is_made_again_from_archive_and_topic(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, dataset = fitted(Store("memory://"), size, monkeypatch)
    assert (dataset.selection, dataset.log) == ("mixed: 200", "examples")
    assert dataset.sampling is not None
    assert (dataset.sampling.newest, dataset.sampling.older, dataset.sampling.of) == (100, 100, 600)
    assert made_again(loop, dataset).num_rows == 200


def test_the_archive_alone_is_enough_when_the_topic_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, dataset = fitted(Store("memory://"), 1, monkeypatch)
    assert made_again(loop, dataset, topic=False).num_rows == 200


def test_offsets_that_are_nowhere_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, dataset = fitted(Store("memory://"), 1 << 30, monkeypatch)
    with pytest.raises(RowsGone, match=r"offsets \d+ to \d+ of partition 0.* neither in the archive nor on the topic"):
        made_again(loop, dataset, topic=False)


def test_a_topic_of_another_generation_is_not_taken_for_the_one_that_was_fitted_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, dataset = fitted(Store("memory://"), 1 << 30, monkeypatch)
    with pytest.raises(RowsGone, match="log an-older-one"):
        made_again(loop, dataset.model_copy(update={"log": "an-older-one"}))


@pytest.mark.parametrize(
    "changed",
    [{"label_cutoff": 500 * STEP}, {"positions": {0: (0, 5)}}, {"sampling": None}, {"since": 50 * STEP}],
    ids=str,
)
def test_a_changed_manifest_is_found(changed: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    loop, dataset = fitted(Store("memory://"), 20_000, monkeypatch)
    with pytest.raises(DatasetDiffers, match="200 rows of the dataset hash to"):
        made_again(loop, dataset.model_copy(update=changed))


def test_a_changed_byte_in_a_segment_of_a_dataset_is_found_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, dataset = fitted(Store(f"file://{tmp_path}", keys_in_memory()), 20_000, monkeypatch)
    for path in loop.store.names("archive"):
        file = tmp_path / path
        value = file.read_bytes()
        file.write_bytes(value[:100] + bytes([value[100] ^ 1]) + value[101:])
        with pytest.raises(SegmentDamaged, match=path):
            made_again(loop, dataset)
        file.write_bytes(value)
    assert made_again(loop, dataset).num_rows == 200


def test_a_damaged_segment_holds_a_fit_up_and_the_decision_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, _ = fitted(Store(f"file://{tmp_path}", keys_in_memory()), 20_000, monkeypatch)
    path = loop.store.names("archive")[0]
    (tmp_path / path).write_bytes(b"")
    loop.wish("w2")
    loop.run()
    said = loop.decisions()[-1]
    assert (said.subject, said.step, len(loop.members())) == ("w2", "suppressed", 2)
    assert said.reason.startswith(f"{path} is not what was written")


def test_rows_that_the_fit_did_not_have_either_are_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, dataset = fitted(Store("memory://"), 1, monkeypatch)
    wider = {each: (start, stop + 100) for each, (start, stop) in dataset.positions.items()}
    assert made_again(loop, dataset.model_copy(update={"positions": wider}), topic=False).num_rows == 200


def test_a_segment_that_is_gone_is_told_when_a_fit_goes_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop, _ = fitted(Store(f"file://{tmp_path}", keys_in_memory()), 1, monkeypatch)
    caplog.clear()
    (tmp_path / loop.store.names("archive")[1]).unlink()
    loop.wish("w2")
    loop.run()
    assert "archive_incomplete" in [record.message for record in caplog.records]


def test_a_decision_says_what_was_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, _ = fitted(Store("memory://"), 20_000, monkeypatch)
    fits = [each for each in loop.decisions() if each.step == "fitted"]
    assert ["sampled_from" in each.evidence for each in fits] == [False, True]
    assert fits[1].evidence["sampled_from"] == 600


def test_all_of_more_rows_than_memory_holds_is_a_sample() -> None:
    pipeline = spec(window="all")
    archive = Archive(Segments(Store("memory://"), "shop", "examples"), 0)
    archive.begin(0, 0, 0, None)
    archive.add(0, Decoded(0, labelled(0, 1_000), b.Headers()), 0)
    datasets = Datasets(pipeline, Window(list(pipeline.features), 1, 100, 0), archive, memory=250 * 8 * 13)
    taken = datasets.take(datasets.window, 2_000 * STEP)
    assert taken is not None
    assert taken.rows.num_rows == 250
    assert taken.rows.column(b.POSITION).to_pylist()[125:] == list(range(875, 1_000))
    assert taken.sampling == Sampling(newest=125, older=125, seed=crc32(b"shop"), of=1_000)
    assert taken.selection == "all, at most 250 rows in memory"


class Away(Store):
    """A store that takes nothing."""

    def put(self, path: str, value: bytes) -> bytes:
        raise Transient(f"no {path} of {len(value)} bytes")


def test_an_archive_that_falls_behind_is_seen_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop(store=Away("memory://"))
    metrics = Metrics()
    handler = Training(loop.spec, loop.store, metrics)
    loop.examples(labelled(0, 100))
    log = MemoryLog(loop.broker, "training")
    handler.restore(Place("operator", 0), log)
    handler.follow(log)
    for place in PLACES:
        list(handler.handle([Polled(*place, list(log.read(place, 0, log.end(place))))]))
    for now in (CUT_AGE_MS, BEHIND_MS + 1, BEHIND_MS + 2):
        handler.tick(now)
        assert metrics.registry.get_sample_value("headrace_unarchived_seconds") == now / 1000
    told = [record.message for record in caplog.records if record.message.startswith("archive_")]
    assert told.count("archive_postponed") == 3
    assert told.count("archive_behind") == 1


def test_what_was_deleted_before_it_was_archived_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    loop.start()
    loop.examples(labelled(0, 100))
    loop.passes(100 * STEP)
    loop.wish("w1")  # whatever is decided, a checkpoint follows
    loop.run()
    monkeypatch.setattr(MemoryLog, "begin", lambda _, place: 3 if place.topic == "examples" else 0)
    metrics = Metrics()
    handler = Training(loop.spec, loop.store, metrics)
    log = MemoryLog(loop.broker, "training")
    handler.restore(Place("operator", 0), log)
    assert handler.follow(log)[PLACES[0]] == 3
    assert metrics.registry.get_sample_value("headrace_lost_messages_total") == 6
