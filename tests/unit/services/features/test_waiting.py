"""Rows that wait behave like a dict, however they are stored."""

import gc
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.batch import EVENT_ID, TIME
from services.features.domain.waiting import MOST_SMALL, Spill, Waiting
from services.features.shelf import Shelf


def batch(rows: dict[str, int]) -> pa.RecordBatch:
    times = pa.array(list(rows.values()), pa.int64()).cast(pa.timestamp("ms", "UTC"))
    return pa.RecordBatch.from_arrays([pa.array(list(rows), pa.string()), times], names=[EVENT_ID, TIME])


def as_dict(rows: pa.Table | pa.RecordBatch) -> dict[str, int]:
    times = rows.column(TIME).cast(pa.int64()).to_pylist()
    return dict(zip(rows.column(EVENT_ID).to_pylist(), times, strict=True))


def copied(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows.take(pa.array(range(rows.num_rows)))


def loaded(waiting: Waiting) -> int:
    """Rows in memory, those that are gone included."""
    return sum(each.rows.num_rows for each in waiting._segments.values() if not each.spilled)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.dictionaries(st.integers(0, 10_000), st.integers(-50, 1_000), max_size=5)),
        st.tuples(st.just("take"), st.lists(st.integers(0, 200), unique=True, max_size=30)),
        st.tuples(st.just("expire"), st.integers(-50, 1_000)),
    ),
    max_size=120,
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, most=st.sampled_from([None, 0, 1, 7, 40]))
def test_what_was_added_is_found_once_and_expires_by_its_time(
    steps: list[tuple[str, object]], most: int | None
) -> None:
    waiting, model = Waiting(None if most is None else Spill(most, copied)), dict[str, int]()
    for what, argument in steps:
        if what == "add":
            assert isinstance(argument, dict)
            fresh = {f"o{n}": time for n, time in argument.items() if f"o{n}" not in model}
            waiting.add(batch(fresh), list(fresh))
            model |= fresh
        elif what == "take":
            assert isinstance(argument, list)
            known = list(model)
            ids = list(dict.fromkeys([f"o{n}" for n in argument] + [known[n] for n in argument if n < len(known)]))
            numbers = waiting.find(ids)
            assert [each for each, number in zip(ids, numbers, strict=True) if number >= 0] == [
                each for each in ids if each in model
            ]
            if (numbers >= 0).any():
                found = np.flatnonzero(numbers >= 0)
                rows, order = waiting.take(numbers[found])
                assert list(as_dict(rows).items()) == [(ids[i], model.pop(ids[i])) for i in found[order].tolist()]
        else:
            assert isinstance(argument, int)
            gone = {each: time for part in waiting.expire(argument) for each, time in as_dict(part).items()}
            assert gone == {each: time for each, time in model.items() if time < argument}
            model = {each: time for each, time in model.items() if time >= argument}
        assert most is None or loaded(waiting) <= max(most, 0) or what != "add"
        assert loaded(waiting) == waiting._loaded
        assert len(waiting) == len(model)
        assert all(each in waiting for each in model)


def test_a_slow_stream_does_not_leave_a_segment_per_row() -> None:
    waiting = Waiting()
    for n in range(5_000):
        waiting.add(batch({f"o{n}": n}), [f"o{n}"])
    assert len(waiting._segments) <= MOST_SMALL + 5
    rows, _ = waiting.take(waiting.find([f"o{n}" for n in range(5_000)]))
    assert as_dict(rows) == {f"o{n}": n for n in range(5_000)}
    assert not waiting._segments


def test_the_oldest_rows_are_on_disk_and_come_back_as_they_were(tmp_path: Path) -> None:
    rows, size = {f"o{n}": n for n in range(60_000)}, 1_000
    waiting = Waiting(Spill(10_000, Shelf(tmp_path / "waiting")))
    for first in range(0, len(rows), size):
        part = {f"o{n}": n for n in range(first, first + size)}
        waiting.add(batch(part), list(part))
        assert loaded(waiting) <= 10_000
    spilled = [each for each in waiting._segments.values() if each.spilled]
    assert max(int(each.times.max()) for each in spilled) < 60_000 - 4_000
    del spilled
    assert sum(as_dict(part) == {f"o{n}": n for n in range(5)} for part in waiting.expire(5)) == 1
    found, _ = waiting.take(waiting.find(list(rows)[5:]))
    assert as_dict(found) == {each: time for each, time in rows.items() if time >= 5}
    assert not waiting._segments


def test_rows_on_disk_take_no_arrow_memory_and_leave_no_file(tmp_path: Path) -> None:
    directory = tmp_path / "waiting"
    directory.mkdir()
    (directory / "rows.arrow").write_bytes(b"left by a crash")
    before = pa.total_allocated_bytes()
    mapped = Shelf(directory)(batch({f"o{n}": n for n in range(100_000)}))
    gc.collect()
    assert pa.total_allocated_bytes() - before < 100_000
    assert list(directory.iterdir()) == []
    assert as_dict(mapped) == {f"o{n}": n for n in range(100_000)}
