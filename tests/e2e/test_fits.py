"""Fits on a running system: how long the way around a fit takes, and a controller that is killed while one is made.

How long, in figures: python -m pytest tests/e2e/test_fits.py -s
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TypeVar

import polars as pl
import pytest

from headrace.following import whole
from headrace.rows import Options, messages
from headrace.sending import carrier
from runtime.fold import passed
from runtime.ports import Message, Outgoing
from schemas import batch as b
from schemas.cloudevents import decode, encode
from schemas.messages import Decision, Member, Pool, Wish
from services.training.domain.quarantine import epoch_ms
from tests.e2e.plain import orders, pipeline
from tests.e2e.running import Running, running, until

T = TypeVar("T", Member, Pool)

STOPS, RATE = (0, 500, 650, 850, 1_100, 1_450), 500.0
"""Rows sent by the time of each fit: labelled rows have grown by 30 % then, as the last of a piece is on its way."""
LATENESS_MS, MOST_AROUND_SECONDS, MOST_SWAP_SECONDS = 5_000, 2.0, 1.0
WAIT_S = 90.0
KILLS = ("wished", "fitting", "fitted", "announced")
"""What was said last when training is killed."""
MODEL = """\
drift: {lateness: 5s, pane: 60s}
model: {estimator: hist_gradient_boosting}
training: {min_rows: 400, cooldown: 1s, fits: 1000 per 1d}
"""


def confused(orders: pl.DataFrame) -> pl.DataFrame:
    """One in ten is labelled the other way."""
    return orders.with_columns(pl.col("returned") ^ (pl.int_range(pl.len()) * 31 % 10 == 0))


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_way_around_a_fit_is_short_and_a_kill_while_it_is_made_makes_none_twice(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(pipeline("growing", MODEL))
    with running(tmp_path, path, {"serving": 2}) as system:
        stream, fits = confused(orders(STOPS[-1])), len(STOPS) - 1
        for number, (start, stop) in enumerate(pairwise(STOPS), 1):
            system.send(messages(stream[start:stop], system.spec, Options.of(delay="20rows")), RATE)
            _until(system, f"fit {number}", lambda: len(list(members(system))) >= number)  # noqa: B023
        _until(system, "swaps", lambda: len(list(swaps(system))) >= 2 * fits)
        around, swapped = list(ways(system)), list(swaps(system))
        told("last label to announcement, without the fit", around[1:])
        print(f"  the first one, whose process was just starting: {around[0]:.3f} s")
        told("announcement to each replica's answer", swapped)
        for moment in KILLS:
            _wish(system, f"w-{moment}")
            if moment != "wished":
                _until(system, moment, lambda: moment in steps(system, f"w-{moment}"))  # noqa: B023
            system.services.kill("training")
        wishes = {f"w-{moment}" for moment in KILLS}
        _until(system, "all wishes", lambda: wishes <= {each.cause.id for _, each in members(system)})
        _until(system, "told", lambda: all("announced" in steps(system, each) for each in wishes))
        causes = Counter(each.cause.id for _, each in members(system))
        versions = [each.version for _, each in members(system)]
        seated = {each for _, pool in said(system, Pool) for each in pool.members}
    assert max(causes.values()) == 1, causes
    assert versions == list(range(1, len(versions) + 1))
    assert wishes <= causes.keys()
    assert set(versions) >= seated
    assert median(around) <= MOST_AROUND_SECONDS
    assert median(swapped) <= MOST_SWAP_SECONDS


def told(what: str, seconds: list[float]) -> None:
    """For who runs it with -s."""
    print(f"{what}: p50 {median(seconds):.3f} s, max {max(seconds):.3f} s of {len(seconds)}")


def _until(system: Running, what: str, condition: Callable[[], bool]) -> None:
    until(what, condition, WAIT_S, system.problems)


def said(system: Running, kind: type[T]) -> Iterator[tuple[Message, T]]:
    for _, message in whole(system.log, "models"):
        found = decode(message.value or b"", message.headers).message()
        if isinstance(found, kind):
            yield message, found


def members(system: Running) -> Iterator[tuple[Message, Member]]:
    seen = set()
    for message, each in said(system, Member):
        if each.version not in seen:
            seen.add(each.version)
            yield message, each


def decisions(system: Running) -> Iterator[tuple[Message, Decision]]:
    for _, message in whole(system.log, "decisions"):
        yield message, decode(message.value or b"", message.headers).read(Decision)


def steps(system: Running, subject: str) -> set[str]:
    return {each.step for _, each in decisions(system) if each.subject == subject}


def ways(system: Running) -> Iterator[float]:
    """Seconds from the last label that each fit needed to its member, the fit left out."""
    announced = {each.cause.id: message.timestamp for message, each in members(system)}
    for _, each in decisions(system):
        if each.step == "fitted" and each.time is not None:
            spent = float(each.evidence["fit_seconds"])  # type: ignore[arg-type]
            begun = next(m.timestamp for m, d in decisions(system) if (d.subject, d.step) == (each.subject, "fitting"))
            last = complete(system, epoch_ms(each.time))
            took = (announced[each.subject] - last) / 1000
            waited = f"begun {(begun - last) / 1000:.3f} s behind the last label"
            print(f"  {each.subject}: {waited}, announced {took:.3f} s behind it, {spent} s of them the fit")
            yield took - spent


def complete(system: Running, at: int) -> int:
    """When every partition of examples had passed an event time, broker's milliseconds."""
    passing: dict[int, int] = {}
    for place, message in whole(system.log, "examples"):
        watermark = passed(b.decode_headers(message.headers).through)
        if watermark is not None and watermark - LATENESS_MS - 1 >= at:
            passing.setdefault(place.partition, message.timestamp)
    return max(passing.values())


def swaps(system: Running) -> Iterator[float]:
    """Seconds from each pool's announcement to each replica that answers from it."""
    announced: dict[int, int] = {}
    for message, pool in said(system, Pool):
        announced.setdefault(pool.version, message.timestamp)
    for message, each in decisions(system):
        if each.step == "swapped" and (found := re.search(r"pool (\d+) answers", each.outcome)):
            yield (message.timestamp - announced[int(found[1])]) / 1000


def _wish(system: Running, name: str) -> None:
    wish = Wish.written(id=name, kind="retrain", subject="growing", who="ann", reason="to see")
    value, headers = encode(wish, id=name, source="/headrace/growing/operator")
    with closing(carrier(system.kafka.address, system.spec.pipeline)) as way:
        way.publish([Outgoing("operator", 0, value, b"growing", headers)])
        way.confirm()
