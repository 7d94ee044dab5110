"""A stage writes every row once into its output, whatever crashes between two messages of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidMessage
from runtime.memory import Group, MemoryBroker, MemoryLog
from runtime.ports import Outgoing, Place, Polled, Stored
from runtime.stage import Stage, decode, split
from schemas import batch as b
from tests.contract.rows import Row, record, rows_in, rows_of, rows_seen

RECORDS, FEATURES = Place("records", 0), Place("features", 0)
GROUP = "features"
SMALL = 4


class World:
    """A writer of records and a stage, on a broker in memory, that crash whenever the test says so."""

    def __init__(self) -> None:
        self.broker = MemoryBroker({"records": 1, "features": 1})
        self.log = MemoryLog(self.broker, GROUP)
        self.written: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        self.zombies: list[list[Outgoing]] = []
        self.stage = Stage("records", "features", "test")
        self.position = 0
        self.restart()

    def ingest(self, source: int, count: int, back: int) -> None:
        """The next rows of a source; `back` > 0: a writer that restarted repeats so many rows first."""
        top = self.written.get(source, -1)
        first = max(0, top + 1 - back)
        after = None if back else self.sent.get(source)
        self.broker.append(RECORDS, *_swapped(record(source, range(first, top + 1 + count), after=after)))
        self.written[source] = self.sent[source] = top + count

    def work(self, messages: int, publish: int) -> None:
        """Handle some messages, then crash behind so many outputs (never, where that many are not made)."""
        stop = min(self.log.end(RECORDS), self.position + messages)
        if stop == self.position:
            return
        polled = Polled("records", 0, list(self.log.read(RECORDS, self.position, stop)))
        made: list[Outgoing] = []
        for taken in self.stage.take(0, decode(polled)):
            made += self.stage.emit(0, taken, taken.batch)
        for each in made[:publish]:
            self.publish(each)
        self.position = stop
        if publish < len(made):
            self.zombies.append(made[publish:])
            self.restart()

    def publish(self, each: Outgoing) -> None:
        self.broker.append(FEATURES, each.value, each.key, each.headers)

    def commit(self) -> None:
        self.broker.groups.setdefault(GROUP, Group()).committed[RECORDS] = self.position

    def restart(self) -> None:
        self.stage.forget(0)
        self.stage.restore(0, self.log)
        self.position = self.log.committed(RECORDS) or 0

    def zombie(self, index: int) -> None:
        """A late write of one that crashed for the others, in its own order."""
        alive = [each for each in self.zombies if each]
        if alive:
            self.publish(alive[index % len(alive)].pop(0))

    def repeat(self, index: int) -> None:
        """Something that was written before is written again."""
        if end := self.log.end(FEATURES):
            (message,) = self.log.read(FEATURES, index % end, index % end + 1)
            self.publish(Outgoing("features", 0, message.value, message.key, message.headers))


def _swapped(message: tuple[bytes, list[tuple[str, bytes]]]) -> tuple[bytes, None, list[tuple[str, bytes]]]:
    value, headers = message
    return value, None, headers


steps = st.lists(
    st.one_of(
        st.tuples(st.just("ingest"), st.integers(0, 2), st.integers(1, 14), st.sampled_from([0, 0, 1, 5])),
        st.tuples(st.just("work"), st.integers(1, 4), st.integers(0, 6)),
        st.tuples(st.just("commit")),
        st.tuples(st.just("restart")),
        st.tuples(st.just("zombie"), st.integers(0, 3)),
        st.tuples(st.just("repeat"), st.integers(0, 30)),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_no_row_is_lost_or_doubled_by_crashes_repeats_and_zombies(story: list[tuple[object, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(b, "MAX_ROWS", SMALL)
        world = World()
        for name, *arguments in story:
            getattr(world, str(name))(*arguments)
        world.restart()
        world.work(1000, 1000)
        outputs = list(world.log.read(FEATURES, 0, world.log.end(FEATURES)))
    found = rows_seen("features", outputs)
    for source, top in world.written.items():
        assert [position for each, position in found if each == source] == list(range(top + 1))
    if not any(name in ("zombie", "repeat") for name, *_ in story):
        assert len(rows_in(outputs)) == len(found), "without zombies no row is even written twice"
    assert all(b.decode(each.value).num_rows <= SMALL for each in outputs)


sorted_rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), unique=True, max_size=25).map(sorted)
refusals = st.dictionaries(
    st.integers(0, 3), st.lists(st.integers(0, 30), unique=True, min_size=1).map(sorted), max_size=3
)


@settings(deadline=None)
@given(sorted_rows, refusals)
def test_what_the_pieces_so_far_say_is_what_they_hold(rows: list[Row], refused: dict[int, list[int]]) -> None:
    rejects = {source: [(position, 0, "bad") for position in found] for source, found in refused.items()}
    tops = {source: max(p for each, p in rows if each == source) << b.ROW_BITS for source, _ in rows}
    final = b.Through(tops={b.EVENTS: tops})
    pieces = [rows_of(rows[start : start + SMALL]) for start in range(0, max(1, len(rows)), SMALL)]
    headers = b.Headers(coverage={"records": (3, 7)}, pieces=len(pieces), through=final, rejects=rejects)
    stories = list(split(headers, b.Through(tops={b.EVENTS: {9: 5}}), pieces))

    assert [story.final for story in stories] == [False] * (len(pieces) - 1) + [True]
    assert stories[-1].through == final
    seen: dict[int, int] = {}
    told: list[tuple[int, int]] = []
    for story, piece in zip(stories, pieces, strict=True):
        for source, order in zip(b.sources(piece).tolist(), b.orders(piece).tolist(), strict=True):
            seen[source] = max(order, seen.get(source, -1))
        told += [(source, each[0]) for source, found in story.rejects.items() for each in found]
        if not story.final and story.through is not None:
            assert story.through.tops[b.EVENTS] == {9: 5, **seen}
            assert all(position << b.ROW_BITS <= seen.get(source, -1) for source, position in told)
    assert sorted(told) == sorted((source, position) for source, found in refused.items() for position in found)


def test_messages_are_gathered_up_to_the_limit_and_cover_all_that_they_hold() -> None:
    world = World()
    for _ in range(3):
        world.ingest(0, 1500, 0)
    world.work(3, 100)
    outputs = list(world.log.read(FEATURES, 0, world.log.end(FEATURES)))
    headers = [b.decode_headers(each.headers) for each in outputs]
    assert [b.decode(each.value).num_rows for each in outputs] == [3000, 1500]
    assert [each.coverage for each in headers] == [{"records": (0, 1)}, {"records": (2, 2)}]


def test_a_message_without_news_is_still_covered() -> None:
    world = World()
    world.ingest(0, 3, 0)
    world.work(1, 10)
    world.broker.append(RECORDS, *_swapped(record(0, range(3))))
    world.work(1, 10)
    outputs = list(world.log.read(FEATURES, 0, world.log.end(FEATURES)))
    assert [b.decode(each.value).num_rows for each in outputs] == [3, 0]
    assert b.decode_headers(outputs[1].headers).coverage == {"records": (1, 1)}


@pytest.mark.parametrize(
    "message",
    [
        Stored(7, 0, None, b"no batch"),
        Stored(7, 0, None, None),
        Stored(7, 0, None, b.encode(rows_of([(0, 1)])), [("coverage", b"{")]),
        Stored(7, 0, None, b.encode(rows_of([(0, 1)]))[:100]),
    ],
    ids=["text", "null", "header", "cut off"],
)
def test_what_is_no_batch_is_invalid_and_named(message: Stored) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode(Polled("records", 3, [message]))
    error = caught.value
    assert (error.topic, error.partition, error.offset, error.reason) == ("records", 3, 7, "undecodable_batch")
