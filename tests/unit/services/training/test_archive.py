"""What is archived when, by whom, and cut where changes no dataset."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import Transient
from runtime.fold import passed
from runtime.signing import keys_in_memory
from runtime.stage import Decoded
from runtime.store import Store
from schemas import batch as b
from schemas.artefact import Quarantine
from services.training import archive as archiving
from services.training.archive import CUT_AGE_MS, Archive
from services.training.domain.rows import BEGINNING, content_digest
from services.training.domain.sampling import hashes
from services.training.domain.selection import ALL, Selection, selected
from services.training.domain.taking import Cut, Taken, chosen, dataset_of, remake
from services.training.domain.window import Window
from services.training.handler import Training
from services.training.segments import Segment, SegmentDamaged, Segments
from tests.unit.services.training.loop import FAR, STEP, Crash, Loop, crash_at, labelled, passing, spec
from tests.unit.services.training.test_handler import first_fit, manifest

TYPES = spec().feature_types
NAMES = list(TYPES)
LATENESS = 5 * STEP


def message(offset: int, rows: pa.RecordBatch, watermark: int) -> Decoded:
    return Decoded(offset, rows, b.decode_headers(passing(watermark)))


def archive(store: Store | None = None, partitions: int = 1) -> Archive:
    made = Archive(Segments(store or Store("memory://"), "shop", "examples"), LATENESS)
    for partition in range(partitions):
        made.begin(partition, 0, 0, None)
    return made


def take(made: Archive, selection: Selection, cutoff: int = FAR, bad: tuple[Quarantine, ...] = ()) -> Taken:
    taken = chosen(made.pieces, NAMES, Cut(cutoff, selection.since(cutoff), bad), selection, 7)
    assert taken is not None
    return taken


def positions(taken: Taken) -> list[int]:
    found: list[int] = taken.rows.column(b.POSITION).to_pylist()
    return found


def test_a_message_is_archived_once_it_is_a_day_old_and_its_name_says_what_it_covers() -> None:
    store = Store("memory://")
    made = archive(store)
    for offset in range(3):
        made.add(0, message(offset, labelled(offset * 10, 10), 0), timestamp=offset)
    made.write(CUT_AGE_MS - 1)
    assert (made.next, made.age(CUT_AGE_MS)) == ({0: 0}, CUT_AGE_MS)
    made.write(CUT_AGE_MS)
    assert (made.next, made.age(CUT_AGE_MS)) == ({0: 3}, 0)
    (path,) = store.names("archive")
    folder, _, name = path.rpartition("/")
    assert folder == "archive/shop/examples/log-examples/0"
    assert name.startswith(f"{0:020d}-{2:020d}-")
    assert Segment.named(path) == Segment(0, 2, name[42:106])


def test_a_large_message_is_archived_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "CUT_BYTES", 1_000)
    made = archive()
    made.add(0, message(0, labelled(0, 100), 0), timestamp=0)
    made.write(0)
    assert made.next == {0: 1}


def test_small_messages_are_put_together_in_memory() -> None:
    made = archive()
    for offset in range(1_000):
        made.add(0, message(offset, labelled(offset, 1), 0), timestamp=0)
    assert len(list(made.pieces(NAMES))) <= archiving.MANY
    assert positions(take(made, Selection(2_000))) == list(range(1_000))


def test_messages_with_other_columns_are_other_segments_and_those_without_a_feature_are_no_rows() -> None:
    store = Store("memory://")
    made = archive(store)
    made.add(0, message(0, labelled(0, 10).drop_columns(["colour"]), 0), timestamp=0)
    made.add(0, message(1, labelled(0, 0).select(["x"]), 0), timestamp=0)
    made.add(0, message(2, labelled(10, 10), 0), timestamp=0)
    before = positions(take(made, Selection(2_000)))
    made.write()
    assert len(store.names("archive")) == 2
    assert positions(take(made, Selection(2_000))) == before == list(range(10, 20))


def test_the_same_messages_make_the_same_object() -> None:
    store = Store("memory://")
    for _ in range(2):
        made = archive(store)
        made.add(0, message(0, labelled(0, 100), 0), timestamp=0)
        made.write()
    assert len(store.names("archive")) == 1


def test_overlapping_segments_of_two_leaders_are_read_once() -> None:
    store = Store("memory://")
    made = archive(store)
    for cuts in ((2, 7), (1, 4, 9), (9,)):
        made = archive(store)
        for offset in range(10):
            made.add(0, message(offset, labelled(offset * 10, 10), 0), timestamp=0)
            if offset in cuts:
                made.write()
    assert len(store.names("archive")) == 6
    assert positions(take(made, Selection(2_000))) == list(range(100))


@pytest.mark.parametrize("byte", [3, 1_000, -2])
def test_a_changed_byte_is_found_and_the_segment_named(byte: int, tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}", keys_in_memory())
    made = archive(store)
    made.add(0, message(0, labelled(0, 100), 0), timestamp=0)
    made.write()
    (path,) = store.names("archive")
    file = tmp_path / path
    value = bytearray(file.read_bytes())
    value[byte] ^= 1
    file.write_bytes(value)
    with pytest.raises(SegmentDamaged, match=r"log-examples/0/0{20}-0{20}-.*SHA-256 differs"):
        list(made.pieces(NAMES))


def test_offsets_that_no_segment_covers_are_named() -> None:
    store = Store("memory://")
    segments = Segments(store, "shop", "x")
    for first, last in ((5, 9), (8, 12), (20, 29)):
        segments.write(0, first, last, pa.table({"a": [first]}))
    spans = [(start, stop, segment is not None) for start, stop, segment in segments.spans(0, 0, 25)]
    assert spans == [(0, 5, False), (5, 10, True), (10, 13, True), (13, 20, False), (20, 25, True)]


SELECTIONS = [
    Selection(25),
    Selection(span=40 * STEP).capped(1_000),
    ALL.capped(1_000),
    ALL.capped(30),
    Selection(15, 15),
]
MESSAGES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 9), st.sampled_from(["new", "new", "new", "copy", "correction"])),
    min_size=4,
    max_size=14,
)


def log_of(parts: Sequence[tuple[int, int, str]]) -> list[tuple[int, Decoded]]:
    """Messages per partition: rows, copies of rows before, corrections of rows before."""
    log: list[tuple[int, Decoded]] = []
    offsets, first, rows_of = {0: 0, 1: 0}, 0, dict[int, list[pa.RecordBatch]]({0: [], 1: []})
    for partition, count, kind in parts:
        known = rows_of[partition]
        if kind == "copy" and known:
            rows = known[len(known) // 2]
        elif kind == "correction" and known:
            rows = _corrected(known[-1], revision=len(log) + 1, at=first * STEP)
        else:
            rows = _revised(labelled(first, count))
            rows = rows.set_column(0, b.SOURCE, pa.array(np.full(count, partition, np.int16)))
            first += count
            known.append(rows)
        log.append((partition, message(offsets[partition], rows, first * STEP)))
        offsets[partition] += 1
    return log


def _revised(rows: pa.RecordBatch, revision: int = 0, *, correction: bool = False) -> pa.RecordBatch:
    rows = rows.append_column(b.REVISION, pa.array(np.full(rows.num_rows, revision)))
    return rows.append_column(b.CORRECTION, pa.array(np.full(rows.num_rows, correction)))


def _corrected(rows: pa.RecordBatch, revision: int, at: int) -> pa.RecordBatch:
    rows = _revised(rows.drop_columns([b.REVISION, b.CORRECTION]), revision, correction=True)
    times = pa.array(np.full(rows.num_rows, at), pa.timestamp("ms", "UTC"))
    return rows.set_column(rows.schema.names.index(b.LABEL_TIME), b.LABEL_TIME, times)


@settings(max_examples=60, deadline=None)
@given(
    parts=MESSAGES,
    cuts=st.lists(st.sets(st.integers(0, 14)), min_size=3, max_size=3),
    cutoff=st.integers(0, 120),
    number=st.integers(0, len(SELECTIONS) - 1),
    bad=st.none() | st.integers(0, 60),
)
def test_a_dataset_is_the_same_however_the_log_was_archived_and_is_made_again_from_its_manifest(
    parts: list[tuple[int, int, str]], cuts: list[set[int]], cutoff: int, number: int, bad: int | None
) -> None:
    log, selection = log_of(parts), SELECTIONS[number]
    quarantined = () if bad is None else (Quarantine(bad * STEP, (bad + 5) * STEP),)
    cut = Cut(cutoff * STEP, selection.since(cutoff * STEP), quarantined)
    said = []
    for places in cuts:
        made = archive(partitions=2)
        for place, (partition, each) in enumerate(log):
            made.add(partition, each, timestamp=0)
            if place in places:
                made.write()
        taken = chosen(made.pieces, NAMES, cut, selection, 7)
        said.append(None if taken is None else dataset_of(taken, 0, TYPES, learnt=False))
        if said[-1] is not None:
            again = remake(said[-1], made.pieces, NAMES)
            assert again is not None
            assert content_digest(again, TYPES) == said[-1].digest
    assert said[0] == said[1] == said[2]


@settings(max_examples=60, deadline=None)
@given(parts=MESSAGES, places=st.sets(st.integers(0, 14)))
def test_the_newest_rows_are_the_same_from_memory_and_from_the_archive(
    parts: list[tuple[int, int, str]], places: set[int]
) -> None:
    made, window = archive(partitions=2), Window(NAMES, 2, 20, LATENESS)
    for place, (partition, each) in enumerate(log_of(parts)):
        made.add(partition, each, timestamp=0)
        window.add(partition, each.offset, each.batch, passed(each.headers.through))
        if place in places:
            made.write()
        cut, newest = Cut(window.frontier, BEGINNING, ()), Selection(20)
        found = [chosen(pieces, NAMES, cut, newest, 7) for pieces in (made.pieces, window.pieces)]
        assert [each and dataset_of(each, 0, TYPES, learnt=False) for each in found] == [
            found[1] and dataset_of(found[1], 0, TYPES, learnt=False)
        ] * 2
        window.trim()


def test_mixed_takes_the_newest_half_and_older_rows_from_everywhere() -> None:
    made = archive()
    made.add(0, message(0, labelled(0, 2_000), 0), timestamp=0)
    taken = take(made, Selection(200, 200))
    found = positions(taken)
    assert found[200:] == list(range(1_800, 2_000))
    assert len(found) == 400
    assert taken.sampling is not None
    assert taken.sampling.of == 2_000
    quarters = np.histogram(found[:200], bins=4, range=(0, 1_800))[0]
    assert quarters.min() > 30


def test_what_fits_is_taken_whole_and_called_no_sample() -> None:
    made = archive()
    made.add(0, message(0, labelled(0, 100), 0), timestamp=0)
    taken = take(made, ALL.capped(100))
    assert (taken.rows.num_rows, taken.sampling) == (100, None)


def test_a_sample_of_rows_is_part_of_every_larger_one() -> None:
    made = archive()
    made.add(0, message(0, labelled(0, 1_000), 0), timestamp=0)
    small, large = (set(positions(take(made, Selection(0, size)))) for size in (50, 200))
    assert small < large


def test_a_hash_depends_on_source_position_and_seed() -> None:
    rows = labelled(0, 1_000)
    other = rows.set_column(0, b.SOURCE, pa.array(np.ones(1_000, np.int16)))
    found = [hashes(each, seed) for each in (rows, other) for seed in (1, 2)]
    assert len(set(np.concatenate(found).tolist())) == 4_000


def test_a_duration_counts_back_from_the_cut_off() -> None:
    made = archive()
    made.add(0, message(0, labelled(0, 100), 0), timestamp=0)
    assert positions(take(made, selected("30s").capped(1_000), cutoff=59 * STEP)) == list(range(30, 60))


# --- the controller ---------------------------------------------------------------------------


def digests(loop: Loop) -> list[tuple[str, str]]:
    return [(each.digest, manifest(loop, each.version).dataset.digest) for each in loop.members()]


def story(loop: Loop) -> None:
    """Two fits, the second on rows of all times."""
    loop.start()
    first_fit(loop)
    loop.examples(labelled(300, 300))
    loop.passes(606 * STEP)
    loop.run()
    loop.wish("w1")
    loop.run()


@pytest.mark.parametrize("window", ["400", "all", "1h", "{mixed: 300}"])
def test_a_model_does_not_depend_on_what_was_archived_when(window: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for size in (1 << 30, 20_000, 1):
        monkeypatch.setattr(archiving, "CUT_BYTES", size)
        loop = Loop(spec(window=window))
        story(loop)
        found.append(digests(loop))
        assert bool(loop.store.names("archive")) == (size < 1 << 30)
    assert len(found[0]) == 2
    assert found[0] == found[1] == found[2]


class Failing(Store):
    """A store that is away at one write, counted from 0; what was written before it stays."""

    def __init__(self, at: int, after: bool) -> None:
        super().__init__("memory://")
        self.writes, self._at, self._after = 0, at, after

    def put(self, path: str, value: bytes) -> bytes:
        self.writes += 1
        if self.writes - 1 == self._at and not self._after:
            raise Transient("away")
        stored = super().put(path, value)
        if self.writes - 1 == self._at:
            raise Transient("answer lost")
        return stored


@pytest.mark.parametrize("after", [False, True])
def test_a_write_that_fails_anywhere_changes_no_model_and_loses_no_row(
    after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "CUT_BYTES", 20_000)
    loop = Loop(spec(window="all"), store=(counted := Failing(-1, after)))
    story(loop)
    for at in range(counted.writes):
        other = Loop(spec(window="all"), store=Failing(at, after))
        story(other)
        assert digests(other) == digests(loop), f"write {at}"


@pytest.mark.parametrize("at", range(0, 20, 3))
def test_a_kill_at_any_message_leaves_every_row_once(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "CUT_BYTES", 5_000)
    loop = Loop(spec(window="all"))
    loop.examples(labelled(0, 600))
    loop.passes(606 * STEP)
    loop.start(on_publish=crash_at(at), max_messages=10)
    with suppress(Crash):
        loop.run()
    loop.start(max_messages=10)
    loop.run()
    loop.run()
    handler = loop.workers[0]._handler
    assert isinstance(handler, Training)
    pieces = [rows[b.POSITION].to_pylist() for rows in handler._known.archive.pieces(NAMES)]
    assert sorted(each for piece in pieces for each in piece) == list(range(600))
    assert len(loop.store.names("archive")) > 2
