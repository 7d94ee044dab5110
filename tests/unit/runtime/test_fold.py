"""The fold lets each row through once, in order, whoever wrote the log and however often; it finds every hole."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import HoleFound, WrongSetup
from runtime.fold import Fold, watermark
from schemas import batch as b
from tests.contract.rows import Row, rows_of

Message = tuple[list[Row], dict[int, list[b.Reject]]]

positions = st.integers(0, 12)
row = st.tuples(st.integers(0, 2), positions)
rejects = st.dictionaries(st.integers(0, 2), st.lists(st.tuples(positions, st.just(0), st.just("bad")), min_size=1))
messages = st.lists(st.tuples(st.lists(row, max_size=15), rejects), max_size=8)


class Oracle:
    """The same, row by row."""

    def __init__(self) -> None:
        self.top: dict[int, int] = {}

    def take(self, message: Message) -> tuple[list[Row], set[tuple[int, int]]]:
        rows, refused = message
        before = dict(self.top)
        kept = []
        for source, position in rows:
            if position > self.top.get(source, -1):
                kept.append((source, position))
                self.top[source] = position
        novel = set()
        for source, each in refused.items():
            for position, _, _ in each:
                if position > before.get(source, -1):
                    novel.add((source, position))
                self.top[source] = max(position, self.top.get(source, -1))
        return kept, novel


def take(fold: Fold, offset: int, message: Message) -> tuple[list[Row], set[tuple[int, int]]]:
    batch, refused = fold.take("records", offset, rows_of(message[0]), b.Headers(rejects=message[1]))
    kept = list(zip(batch.column(b.SOURCE).to_pylist(), batch.column(b.POSITION).to_pylist(), strict=True))
    return kept, {(source, each[0]) for source, found in refused.items() for each in found}


@settings(deadline=None)
@given(messages)
def test_rows_and_rejects_pass_as_row_by_row(log: list[Message]) -> None:
    fold, oracle = Fold(("records",)), Oracle()
    for offset, message in enumerate(log):
        assert take(fold, offset, message) == oracle.take(message)
    tops = fold.tops.get(b.EVENTS, {})
    assert {source: top >> b.ROW_BITS for source, top in tops.items()} == oracle.top


@settings(deadline=None)
@given(messages, st.integers(0, 8))
def test_a_fold_restored_from_its_headers_goes_on_as_the_first_one(log: list[Message], crash: int) -> None:
    fold = Fold(("records",))
    for offset, message in enumerate(log):
        if offset == crash:
            (_, wire), *_ = b.encode_headers(b.Headers(through=fold.through()))
            through = b.decode_headers([("through", wire)]).through
            restored = Fold(("records",), through)
            restored.marks.update(fold.marks)
            assert restored.through() == fold.through()
            fold, reference = restored, fold
            assert take(reference, offset, message) == take(fold, offset, message)
        else:
            take(fold, offset, message)


@settings(deadline=None)
@given(st.integers(2, 8), st.data())
def test_a_message_that_is_missing_between_two_of_its_source_is_a_hole(count: int, data: st.DataObject) -> None:
    gone = data.draw(st.integers(0, count - 2))
    fold = Fold(("records",))

    def feed(offset: int, position: int) -> None:
        after = {0: (position - 1) << b.ROW_BITS} if position else {}
        fold.take("records", offset, rows_of([(0, position)]), b.Headers(after=after))

    for offset in range(gone):
        feed(offset, offset)
    with pytest.raises(HoleFound, match=f"records offset {gone} follows position {gone} of source 0"):
        feed(gone, gone + 1)
    if gone:
        feed(gone, gone - 1)  # what repeats is no hole


def test_a_source_that_retention_cut_off_is_no_hole() -> None:
    fold = Fold(("records",))
    fold.take("records", 700, rows_of([(0, 50)]), b.Headers(after={0: 49 << b.ROW_BITS}))
    fold.take("records", 701, rows_of([(1, 9)]), b.Headers(after={1: 8 << b.ROW_BITS}))
    with pytest.raises(HoleFound):
        fold.take("records", 702, rows_of([(1, 20)]), b.Headers(after={1: 15 << b.ROW_BITS}))


def test_coverage_that_skips_offsets_of_the_topic_above_is_a_hole() -> None:
    fold = Fold(("features",))
    fold.take("features", 0, rows_of([(0, 1)]), b.Headers(coverage={"records": (0, 4)}))
    fold.take("features", 1, rows_of([(0, 2)]), b.Headers(coverage={"records": (3, 6)}))  # an overlap is normal
    with pytest.raises(HoleFound, match="features offset 2 covers records from 8 on, seen up to 6"):
        fold.take("features", 2, rows_of([(0, 3)]), b.Headers(coverage={"records": (8, 9)}))


def test_coverage_counts_at_the_final_piece_only() -> None:
    fold = Fold(("features",))
    for piece in range(2):
        fold.take(
            "features", piece, rows_of([(0, piece)]), b.Headers(coverage={"records": (0, 9)}, piece=piece, pieces=3)
        )
    assert fold.through().marks == {}
    fold.take("features", 2, rows_of([(0, 2)]), b.Headers(coverage={"records": (0, 9)}, piece=2, pieces=3))
    assert fold.through().marks == {"records": 9}


def test_rows_within_a_message_of_a_user_are_told_apart() -> None:
    batch = rows_of([(0, 5), (0, 5), (0, 5)])
    batch = batch.set_column(2, b.ROW, pa.array([0, 1, 1], pa.int32()))
    kept, _ = Fold(("records",)).take("records", 0, batch, b.Headers())
    assert kept.column(b.ROW).to_pylist() == [0, 1]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 99), st.booleans()), min_size=1))
def test_a_watermark_never_steps_back_and_the_slowest_active_source_counts(said: list[tuple[int, int, bool]]) -> None:
    fold = Fold(("records",))
    for offset, (source, time, idle) in enumerate(said):
        fold.take("records", offset, rows_of([]), b.Headers(watermarks={source: (time, idle)}))
    reached = {source: max(time for each, time, _ in said if each == source) for source, _, _ in said}
    resting = {source: idle for source, _, idle in said}
    active = [time for source, time in reached.items() if not resting[source]]
    assert fold.watermark(b.EVENTS) == min(active or reached.values())


def test_there_is_no_watermark_before_the_first_source() -> None:
    assert watermark({}) is None
    assert Fold(("records",)).watermark(b.EVENTS) is None


def test_rows_of_a_topic_that_was_made_again_stop_the_reader_with_the_way_out() -> None:
    fold = Fold(("records",))
    fold.take("records", 0, rows_of([(0, 5)]), b.Headers(topic_id="old"))
    fold.take("records", 1, rows_of([(0, 6)]), b.Headers())  # who says nothing is believed
    restored = Fold(("records",), fold.through())
    restored.take("records", 2, rows_of([(0, 7)]), b.Headers(topic_id="old"))
    with pytest.raises(WrongSetup, match=r"'events' with id new, .* id old: .*made again.*new name"):
        restored.take("records", 2, rows_of([(0, 0)]), b.Headers(topic_id="new"))


def test_events_and_labels_have_an_id_each_and_the_examples_of_both_carry_them() -> None:
    fold = Fold(("scored", "outcomes"))
    fold.take("scored", 0, rows_of([(0, 5)]), b.Headers(topic_id="e"))
    fold.take("outcomes", 0, rows_of([(0, 5)]), b.Headers(topic_id="l"))
    assert fold.through().topic_ids == {b.EVENTS: "e", b.LABELS: "l"}
    behind = Fold(("examples",))
    behind.take("examples", 0, rows_of([]), b.Headers(topic_id="e", through=fold.through()))
    other = b.Through(topic_ids={b.EVENTS: "e", b.LABELS: "another"})
    with pytest.raises(WrongSetup, match="'labels' with id another"):
        behind.take("examples", 1, rows_of([]), b.Headers(topic_id="e", through=other))
