"""Partitions of ingestion change hands again and again for a minute, once by kill -9: nothing lost, nothing twice.

What is proved: of 66,000 events and as many labels every one is behind features once, as a row of features and as an
example, counted raw; and of the bad events among them every one is in dead letters, its copies under one identity, and
in the quality counts that travel behind features once.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from headrace.dead_letters.identity import Identity
from headrace.following import whole
from headrace.rows import Input, Options, messages
from schemas import batch as b
from schemas.messages import DeadLetter
from tests.e2e.plain import orders, pipeline
from tests.e2e.running import Running, running, until

ROWS, RATE = 66_000, 1_000.0
BAD_EVERY = 100
KILL_TURN = 4
GUEST, KILLED, OTHERS = "ingestion-3", "ingestion-1", ("ingestion-1", "ingestion-2")
BATCHES = ("records", "features", "examples")


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rebalances_and_a_kill_lose_nothing_and_repeat_nothing_behind_features(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(pipeline("rebalances"))
    chosen = ("ingestion", "features", "serving")
    with running(tmp_path, path, {"ingestion": 3}, services=chosen) as system:
        feeder = threading.Thread(target=system.send, args=(_inputs(system), RATE))
        feeder.start()
        _trouble(system, feeder)
        feeder.join()
        until(f"{ROWS} examples", lambda: len(system.ids("examples")) >= ROWS, 60, system.problems)
        system.stop()
        assert system.crashes == [f"{KILLED} -9"], system.problems()
        _assert_once(system)
        _assert_refused(system)


def _inputs(system: Running) -> Iterator[Input]:
    """Good events and their labels, a bad event after every hundredth."""
    events = 0
    for each in messages(orders(ROWS), system.spec, Options.of(delay="300rows")):
        yield each
        events += each.kind == "events"
        if each.kind == "events" and events % BAD_EVERY == 0:
            yield Input("events", each.key, _bad(events // BAD_EVERY), None)


def _bad(number: int) -> bytes:
    return b'{"order":"bad-%d","amount":"much"}' % number


def _trouble(system: Running, feeder: threading.Thread) -> None:
    """A third member leaves and comes by turns; one of the other two is killed right after a hand-over began."""
    turn = 0
    while feeder.is_alive():
        before, gaining = _moves(system), (GUEST,) if turn % 2 else OTHERS
        if turn % 2:
            system.services.start(GUEST)
        else:
            system.services.stop(GUEST)
            system.services.prepare()  # it imports meanwhile, so that it comes when it is called
        if turn == KILL_TURN:
            system.services.kill(KILLED)
        _until_gained(system, gaining, before)
        turn += 1
    print(f"{turn} turns; got partitions so many times: {dict(_moves(system))}")
    assert turn > 2 * KILL_TURN, f"only {turn} turns: send more rows, or more slowly"


def _until_gained(system: Running, who: Sequence[str], before: Counter[str]) -> None:
    until(
        f"{who} get partitions", lambda: any(_moves(system)[each] > before[each] for each in who), 30, system.problems
    )


def _moves(system: Running) -> Counter[str]:
    """How often each instance got partitions."""
    lines = [line for line in system.said if '"rebalanced"' in line and re.search(r'"gained": \[\[', line)]
    return Counter(line.partition(":")[0] for line in lines)


def _assert_once(system: Running) -> None:
    found = {topic: system.ids(topic) for topic in BATCHES}
    print({topic: f"{each.total() - len(each)} copies" for topic, each in found.items()})
    for topic, ids in found.items():
        assert len(ids) == ROWS, f"{ROWS - len(ids)} lost in {topic}"
    for topic in ("features", "examples"):
        assert found[topic].total() == ROWS, f"{found[topic].total() - ROWS} twice in {topic}"
        rows = _identities(system, topic)
        assert len(rows) == rows.total() == ROWS
    assert found["records"].total() > ROWS, "no crash and no rebalance repeated a row: this test has tested nothing"


def _identities(system: Running, topic: str) -> Counter[tuple[int, int, int]]:
    found: Counter[tuple[int, int, int]] = Counter()
    for _, message in whole(system.log, topic):
        rows = b.decode(message.value)
        found.update(zip(*(rows.column(name).to_pylist() for name in (b.SOURCE, b.POSITION, b.ROW)), strict=True))
    return found


def _assert_refused(system: Running) -> None:
    bad = {_bad(number + 1) for number in range(ROWS // BAD_EVERY)}
    letters = [
        (Identity.of(DeadLetter.from_headers([(name, value or b"") for name, value in each.headers])), each.value)
        for _, each in whole(system.log, "dead-letters")
    ]
    print(f"dead-letters: {len(letters) - len(bad)} copies")
    assert {value for _, value in letters} == bad
    assert len({identity for identity, _ in letters}) == len(bad), (
        "copies of a dead letter have identities of their own"
    )
    told = Counter(
        (source, reject)
        for _, message in whole(system.log, "features")
        for source, rejects in b.decode_headers(message.headers).rejects.items()
        for reject in rejects
    )
    places = {(partition, offset, row) for _, partition, offset, row in (identity for identity, _ in letters)}
    assert {(source, position, row) for source, (position, row, _) in told} == places
    assert told.total() == len(bad), "the quality counts behind features say a bad event twice"
