"""Features and examples of whole runs in memory, without crashes."""

import pytest

from runtime.fold import Fold
from runtime.memory import MemoryBroker
from runtime.ports import Place
from schemas import batch as b
from schemas.pipeline import Pipeline, parse
from tests.unit.services.features.world import (
    ABSENT,
    HORIZON,
    LATENESS,
    REVISED,
    SPEC,
    TEXT,
    P,
    Process,
    broker,
    drain,
    event,
    everybody,
    label,
    letters,
    messages,
    rest,
    rows,
)


def test_features_are_computed_row_by_row_and_keep_their_identity() -> None:
    on = broker()
    for n in range(10):
        on.append(Place("events", n % 2), event(n, 1000 * n, amount=n))
    drain(*everybody(on))
    found = {row["_event_id"]: row for row in rows(on, "features")}
    assert len(found) == 10
    row = found["o7"]
    assert (row["double"], row["land"], row["_source"], row["_position"]) == (14.0, "de", 1, 3)
    assert [field.name for field in b.decode(next(messages(on, "features"))[1].value).schema] == [
        *(name for name, _ in b.IDENTITY),
        "double",
        "land",
    ]


def test_without_an_entity_a_partition_owns_its_windows() -> None:
    text = TEXT.replace("  double:", "  before: {count: '*', over: 24h}\n  double:")
    assert "entity:" not in text
    counts = []
    for spec in (parse(text), parse(f"{text}windows: {{per: partition}}\n")):
        on = broker()
        for n in range(10):
            on.append(Place("events", 0), event(n, 1000 * n, amount=n))
        drain(*everybody(on, spec=spec))
        counts.append({row["_event_id"]: row["before"] for row in rows(on, "features")})
    assert counts[0] == counts[1]
    assert 1 in counts[0].values()


def test_an_event_and_its_label_become_one_example() -> None:
    on = broker()
    on.append(Place("events", 1), event(1, 1000, amount=3))
    on.append(Place("labels", 0), label(1, 5000, back=True))
    drain(*everybody(on))
    (row,) = rows(on, "examples")
    assert (row["_event_id"], row["double"], row["_prediction"], row["_label"]) == ("o1", 6.0, 0.5, 1)
    assert (row["_source"], row["_position"], row["_label_source"], row["_label_position"]) == (1, 0, 0, 0)
    assert row["_label_time"].timestamp() == 5.0  # type: ignore[attr-defined]


def test_a_label_that_is_there_before_its_row_waits_for_it() -> None:
    on = broker()
    group = everybody(on)
    on.append(Place("labels", 0), label(1, 5000))
    drain(*group)
    assert rows(on, "examples") == []
    on.append(Place("events", 1), event(1, 1000))
    drain(*group)
    assert [row["_event_id"] for row in rows(on, "examples")] == ["o1"]


@pytest.mark.parametrize("together", [True, False])
def test_the_first_label_of_an_event_counts_and_further_ones_are_counted(together: bool) -> None:
    on = broker()
    group = everybody(on)
    on.append(Place("events", 0), event(1, 1000))
    for back in (True, False, False):
        on.append(Place("labels", 0), label(1, 5000, back=back))
        if not together:
            drain(*group)
    drain(*group)
    assert [row["_label"] for row in rows(on, "examples")] == [1]
    assert group[1].metrics.duplicates.labels("labels")._value.get() == 2


def test_a_second_event_with_an_id_is_scored_but_is_no_second_example() -> None:
    on = broker()
    group = everybody(on)
    for amount in (1.0, 2.0):
        on.append(Place("events", 0), event(1, 1000, amount=amount))
    on.append(Place("labels", 0), label(1, 5000))
    on.append(Place("events", 1), event(1, 1000, amount=3.0))
    drain(*group)
    assert len(rows(on, "scored")) == 3
    assert len(rows(on, "examples")) == 1
    assert group[1].metrics.duplicates.labels("events")._value.get() == 2


@pytest.mark.parametrize("label_first", [True, False])
def test_a_label_beyond_the_horizon_of_its_row_is_a_dead_letter_whatever_came_first(label_first: bool) -> None:
    on = broker()
    group = everybody(on)
    on.append(Place("labels", 0), label(1, 1000 + HORIZON), b"k1")
    on.append(Place("labels", 0), label(2, 1001 + HORIZON), b"k2")
    if label_first:
        drain(*group)
    for n in (1, 2):
        on.append(Place("events", 0), event(n, 1000))
    drain(*group)
    assert [row["_event_id"] for row in rows(on, "examples")] == ["o1"]
    (letter,) = letters(on)
    assert (letter["reason"], letter["key"], letter["value"]) == ("late_label", "k2", label(2, 1001 + HORIZON).decode())
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("labels", "0", "1")
    assert group[1].metrics.unlabelled._value.get() == 1


def pass_time(on: MemoryBroker, group: list[Process], at: int) -> None:
    for source in range(2):
        on.append(Place("events", source), event(f"t{at}-{source}", at))
    on.append(Place("labels", 0), label(f"t{at}-0", at))
    drain(*group)


def test_a_label_for_an_unknown_event_is_a_dead_letter_at_the_horizon_and_not_before() -> None:
    on = broker()
    group = everybody(on)
    on.append(Place("labels", 0), label("nobody", 10_000), b"key")
    pass_time(on, group, 10_000 + HORIZON + LATENESS - 10_000)
    assert letters(on) == []
    pass_time(on, group, 10_000 + HORIZON + LATENESS + 10_000)
    (letter,) = letters(on)
    assert (letter["reason"], letter["key"], letter["offset"]) == ("unknown_event", "key", "0")
    assert letter["value"] == label("nobody", 10_000).decode()


def test_rows_without_label_are_counted_at_the_horizon_by_the_clock_of_the_slower_input() -> None:
    on = broker()
    group = everybody(on)
    for n in range(5):
        on.append(Place("events", 0), event(n, 1000))
    for at in (50_000, 300_000):
        on.append(Place("events", 0), event(f"e{at}", at))
        on.append(Place("events", 1), event(f"f{at}", at))
        drain(*group)
    unlabelled = group[1].metrics.unlabelled._value
    assert unlabelled.get() == 0
    on.append(Place("labels", 0), label("e300000", 300_000))
    drain(*group)
    assert unlabelled.get() == 7
    on.append(Place("labels", 0), label(3, 1000))
    drain(*group)
    assert {row["_event_id"] for row in rows(on, "examples")} == {"o" + "e300000"}


def test_rows_without_label_are_examples_with_the_value_that_absence_means_by_the_clock_of_the_slower_input() -> None:
    on = broker()
    group = everybody(on, spec=ABSENT)
    for n in range(3):
        on.append(Place("events", 0), event(n, 10_000, amount=n))
    on.append(Place("labels", 0), label(0, 11_000))
    end = 10_000 + HORIZON + LATENESS
    for at in (50_000, end + 1_000):
        on.append(Place("events", 0), event(f"e{at}", at))
        on.append(Place("events", 1), event(f"f{at}", at))
    drain(*group)
    pass_time(on, group, end - 1_000)
    assert {"o0", "o1", "o2"} & {row["_event_id"] for row in rows(on, "examples")} == {"o0"}
    pass_time(on, group, end + 3_000)
    found = {row["_event_id"]: row for row in rows(on, "examples")}
    absent = [found["o1"], found["o2"]]
    assert [(row["double"], row["_prediction"], row["_label"]) for row in absent] == [(2.0, 0.5, 0), (4.0, 0.5, 0)]
    assert {row["_label_time"].timestamp() for row in absent} == {(10_000 + HORIZON) / 1000}  # type: ignore[attr-defined]
    assert {(row["_label_source"], row["_label_position"]) for row in absent} == {(None, None)}


def test_a_label_that_comes_when_its_absence_has_spoken_is_a_dead_letter_and_no_second_example() -> None:
    on = broker()
    group = everybody(on, spec=ABSENT)
    on.append(Place("events", 0), event(1, 10_000))
    pass_time(on, group, 10_000 + HORIZON + LATENESS + 1_000)
    for known in (20_000, 11_000 + HORIZON):
        on.append(Place("labels", 0), label(1, known), b"after")
        drain(*group)
    on.append(Place("events", 0), event(1, 10_000, amount=2.0))
    pass_time(on, group, 10_000 + 3 * (HORIZON + LATENESS))
    on.append(Place("events", 0), event(1, 10_000, amount=3.0))
    pass_time(on, group, 10_000 + 6 * (HORIZON + LATENESS))
    assert [row["_label"] for row in rows(on, "examples") if row["_event_id"] == "o1"] == [0]
    assert [(letter["reason"], letter["key"]) for letter in letters(on)] == [("late_label", "after")] * 2


@pytest.mark.parametrize("label_first", [True, False])
def test_a_late_label_is_none_where_absence_has_a_meaning(label_first: bool) -> None:
    on = broker()
    group = everybody(on, spec=ABSENT)
    on.append(Place("labels", 0), label(1, 1001 + HORIZON), b"late")
    if label_first:
        drain(*group)
    on.append(Place("events", 0), event(1, 1000))
    drain(*group)
    assert [(row["_event_id"], row["_label"]) for row in rows(on, "examples")] == [("o1", 0)]
    assert [(letter["reason"], letter["key"]) for letter in letters(on)] == [("late_label", "late")]


def test_no_label_is_invented_for_a_row_that_comes_when_its_label_may_have_been_given_up() -> None:
    on = broker()
    group = everybody(on, spec=ABSENT)
    on.append(Place("labels", 0), label("here", 20_000))
    for source in (0, 1):
        for n in range(4):
            on.append(Place("events", source), event(f"t{source}-{n}", 200_000))
    drain(*group)
    for each in ("here", "silent"):
        on.append(Place("events", 0), event(each, 10_000))
    drain(*group)
    group[1].kill()
    group[1] = Process(on, "features", spec=ABSENT)
    for n in range(8):
        on.append(Place("labels", 0), label(f"t{n % 2}-{n // 2}", 220_000))
    drain(*group)
    examples = {row["_event_id"]: row["_label"] for row in rows(on, "examples")}
    assert examples == {"ohere": 1} | {f"ot{n % 2}-{n // 2}": 1 for n in range(8)}
    assert group[1].metrics.unlabelled._value.get() == 1


@pytest.mark.parametrize("spec", [SPEC, ABSENT])
def test_the_share_of_rows_whose_label_did_not_come_is_measured(spec: Pipeline) -> None:
    on = broker()
    group = everybody(on, spec=spec)
    for n in range(8):
        on.append(Place("events", 0), event(n, 10_000))
        if n % 4 == 0:
            on.append(Place("labels", 0), label(n, 11_000))
    drain(*group)
    pass_time(on, group, 11_000)
    share, count = "headrace_unlabelled_share", "headrace_unlabelled_rows_total"
    assert group[1].metrics.registry.get_sample_value(share) == 0
    pass_time(on, group, 11_500 + HORIZON + LATENESS)
    labelled = 2 + 2  # of those that pass the time one in two has a label
    assert group[1].metrics.registry.get_sample_value(count) == 6 + 1
    assert group[1].metrics.registry.get_sample_value(share) == 7 / (7 + labelled)


def test_a_label_of_a_higher_revision_makes_a_corrected_example_and_another_one_is_counted() -> None:
    on = broker()
    group = everybody(on, spec=REVISED)
    on.append(Place("events", 0), event(1, 10_000, amount=3.0))
    for known, back, revision in ((11_000, True, 2), (12_000, False, 2), (13_000, False, 1), (14_000, False, 5)):
        on.append(Place("labels", 0), label(1, known, back, revision))
    drain(*group)
    found = [(row["_label"], row["_revision"], row["_correction"], row["double"]) for row in rows(on, "examples")]
    assert found == [(1, 2, False, 6.0), (0, 5, True, 6.0)]
    assert group[1].metrics.duplicates.labels("labels")._value.get() == 2
    assert letters(on) == []


def test_corrections_that_come_before_their_row_wait_for_it_and_beyond_the_horizon_they_are_dead_letters() -> None:
    on = broker()
    group = everybody(on, spec=REVISED)
    for known, revision in ((11_000, 0), (12_000, 1), (10_001 + HORIZON, 2)):
        on.append(Place("labels", 0), label(1, known, revision=revision), b"1")
        on.append(Place("labels", 0), label("nobody", known, revision=revision), b"nobody")
    drain(*group)
    on.append(Place("events", 0), event(1, 10_000))
    drain(*group)
    assert [(row["_revision"], row["_correction"]) for row in rows(on, "examples")] == [(0, False), (1, True)]
    assert [(letter["reason"], letter["key"]) for letter in letters(on)] == [("late_label", "1")]
    end = 20_000 + 2 * (HORIZON + LATENESS)
    for source in (0, 1):
        on.append(Place("events", source), event(f"t{source}", end))
    on.append(Place("labels", 0), label("t0", end, revision=0))
    on.append(Place("labels", 0), label("t1", end, revision=0))
    drain(*group)
    unknown = [letter["key"] for letter in letters(on) if letter["reason"] == "unknown_event"]
    assert unknown == ["nobody"] * 3


def test_a_correction_whose_first_label_was_given_up_is_the_first_label_of_its_row() -> None:
    on = broker()
    group = everybody(on, spec=REVISED)
    for known, revision in ((11_000, 0), (60_000, 1)):
        on.append(Place("labels", 0), label(1, known, revision=revision), b"1")
    for source in (0, 1):
        for n in range(4):
            on.append(Place("events", source), event(f"t{source}-{n}", 12_000 + HORIZON + LATENESS))
    for n in range(8):
        on.append(Place("labels", 0), label(f"t{n % 2}-{n // 2}", 12_000 + HORIZON + LATENESS, revision=0))
    drain(*group)
    assert [letter["offset"] for letter in letters(on)] == ["0"]
    on.append(Place("events", 0), event(1, 50_000))
    drain(*group)
    found = [(row["_revision"], row["_correction"]) for row in rows(on, "examples") if row["_event_id"] == "o1"]
    assert found == [(1, False)]


def test_a_label_without_its_revision_is_refused_at_the_door() -> None:
    on = broker()
    on.append(Place("labels", 0), label(1, 11_000))
    drain(*everybody(on, spec=REVISED))
    assert [letter["reason"] for letter in letters(on)] == ["missing_field"]


def test_coverage_of_examples_is_contiguous_for_both_inputs_and_carries_both_watermarks() -> None:
    on = broker()
    group = everybody(on, max_messages=3)
    for n in range(60):
        on.append(Place("events", n % 2), event(n, 1000 * n))
        if n % 3 == 0:
            on.append(Place("labels", 0), label(n, 1000 * n + 500))
        if n % 7 == 0:
            drain(*group)
    rest(*group)
    for partition in range(P):
        marks = {"scored": -1, "outcomes": -1}
        fold = Fold(("examples",))
        for p, message, headers in messages(on, "examples"):
            if p == partition:
                for topic, (first, last) in headers.coverage.items():
                    assert first == marks[topic] + 1
                    marks[topic] = last
                fold.take("examples", message.offset, b.decode(message.value).slice(0, 0), headers)
        assert marks == {topic: len(on.log(Place(topic, partition))) - 1 for topic in marks}
        assert {stream for stream, known in fold.watermarks.items() if known} == {"events", "labels"}


def test_a_result_that_is_too_large_for_one_message_is_cut_and_covered_by_its_last_piece() -> None:
    on = broker()
    ingestion, features, serving = everybody(on, max_messages=50_000)
    for n in range(20_000):
        on.append(Place("events", n % 2), event(n, n))
    drain(ingestion, features, serving)
    for n in range(20_000):
        on.append(Place("labels", 0), label(n, 40_000 - n))
    drain(ingestion, features, serving)
    assert len(rows(on, "examples")) == 20_000
    cut = [(h.piece, h.pieces, h.coverage) for p, _, h in messages(on, "examples") if p == 0 and h.pieces > 1]
    assert [piece for piece, _, _ in cut] == list(range(cut[0][1]))
    assert len({str(coverage) for _, _, coverage in cut}) == 1
    order = [
        (row["_label_time"], row["_source"], row["_position"], row["_row"])
        for p, m, h in messages(on, "examples")
        if p == 0 and h.pieces > 1
        for row in b.decode(m.value).to_pylist()
    ]
    assert order == sorted(order)


def test_an_internal_message_that_is_no_batch_goes_to_dead_letters_and_the_rest_goes_on() -> None:
    on = broker()
    group = everybody(on)
    on.append(Place("records", 0), b"garbage")
    for n in range(6):
        on.append(Place("events", 0), event(n, 1000))
        on.append(Place("labels", 0), label(n, 1500))
    drain(*group)
    assert [letter["reason"] for letter in letters(on)] == ["undecodable_batch"]
    assert len(rows(on, "examples")) == 6


def test_a_worker_that_owns_nothing_yet_says_nothing() -> None:
    on = broker()
    drain(Process(on, "features"))
    assert not list(messages(on, "examples"))


def test_foreign_messages_on_the_examples_are_passed_over_at_the_restart() -> None:
    on = broker()
    group = everybody(on)
    for n in range(8):
        on.append(Place("events", 0), event(n, 1000))
        on.append(Place("labels", 0), label(n, 2000))
    drain(*group)
    found = len(rows(on, "examples"))
    for partition in range(P):
        on.append(Place("examples", partition), b"who wrote this?", None, [("coverage", b"{")])
        on.append(Place("features", partition), b"and this?")
    group[1].kill()
    drain(Process(on, "features"))
    for partition in range(P):
        on.log(Place("examples", partition)).pop()
    assert len(rows(on, "examples")) == found == 8


def measured(process: Process, name: str, stream: str) -> float | None:
    return process.metrics.registry.get_sample_value(name, {"stream": stream})


def test_how_far_time_has_come_and_what_waits_and_what_is_late_is_measured() -> None:
    on = broker()
    group = everybody(on)
    for source in (0, 1):
        for n in range(20):
            on.append(Place("events", source), event(f"{source}-{n}", 100_000))
    for n in range(3):
        on.append(Place("labels", 0), label(f"0-{n}", 110_000))
    on.append(Place("labels", 0), label("never", 110_000))
    drain(*group)
    late = (event("ok", 100_000 - LATENESS), event("late", 100_000 - LATENESS - 1))
    for each in late:
        on.append(Place("events", 0), each)
    drain(*group)
    features = group[1]
    assert measured(features, "headrace_late_rows_total", "events") == 1
    assert measured(features, "headrace_watermark_seconds", "events") == 100
    assert measured(features, "headrace_watermark_seconds", "labels") == 110
    assert measured(features, "headrace_waiting_rows", "events") == 40 + len(late) - 3
    assert measured(features, "headrace_waiting_rows", "labels") == 1
