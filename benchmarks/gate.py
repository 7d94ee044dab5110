"""The gate: how often it promotes a challenger that is no better, and how soon one that is.

    python -m benchmarks.gate [--json] [--streams 2000] [--rows 5000]

Null: a champion meets four challengers one after the other, each for --rows rows at most, and none is better. Half of
the streams are i.i.d.: at 10 % of the rows one of the two is right alone, either with equal chance. The other half
come in blocks of 100 rows that are quiet (2 %), loud (40 %) or lopsided (often a little worse, seldom much better), and
which one comes next depends on how the last one ended; given the past the mean is zero. wrong_promotions is the share
of streams in which any challenger was promoted, and must not be above alpha.

Power: at 10 % disagreement a challenger that is 2, 5 or 10 points better. power_two_points_5000 is the share found
within 5,000 rows, median_rows_five_points the median number of rows until the verdict.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from schemas.pooling import Floats
from services.training.domain.gate import BETS, Gate, capital, evidence

CHALLENGERS = 4
DISAGREEMENT = 0.1
BLOCK = 100
"""Rows of a block, and of a step of the simulation."""
QUIET, LOUD, LOPSIDED = range(3)
NEVER = -1

Rows = npt.NDArray[np.int64]
Source = Callable[[int], Floats]
"""Gives the next rows of that many streams, shape (BLOCK, streams)."""


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--streams", type=int, default=2_000, help="streams of the null, and of each power")
    parser.add_argument("--rows", type=int, default=5_000, help="most rows of a trial")
    given = parser.parse_args()
    result = figures(given.streams, given.rows)
    print(json.dumps(result) if given.json else "\n".join(f"{name}: {value:.6g}" for name, value in result.items()))


def figures(streams: int, rows: int, seed: int = 0) -> dict[str, float]:
    """Every figure, by name."""
    gate, rng = Gate(max_rows=rows), np.random.default_rng(seed)
    alike = wrong(gate, Alike(rng, streams // 2, 0.0))
    blocks = wrong(gate, Blocks(rng, streams - streams // 2))
    found = {points: promoted_after(gate, 1, Alike(rng, streams, points / 100)) for points in (2, 5, 10)}
    return {
        "wrong_promotions": float(np.concatenate([alike, blocks]).mean()),
        "wrong_promotions_iid": float(alike.mean()),
        "wrong_promotions_blocks": float(blocks.mean()),
        "alpha": gate.alpha,
        f"power_two_points_{rows}": float((found[2] != NEVER).mean()),
        "median_rows_five_points": median(found[5]),
        "median_rows_ten_points": median(found[10]),
        "streams": streams,
    }


class Alike:
    """Rows that are independent and alike.

    Args:
        rng: Chance.
        streams: How many streams.
        advantage: By how much the challenger is right more often.
    """

    def __init__(self, rng: np.random.Generator, streams: int, advantage: float) -> None:
        self._rng, self.streams = rng, streams
        self._chances = np.cumsum([(DISAGREEMENT + advantage) / 2, (DISAGREEMENT - advantage) / 2])

    def rows(self) -> Floats:
        """The next block of each stream, shape (BLOCK, streams)."""
        return _signed(self._rng.random((BLOCK, self.streams)), *self._chances)


class Blocks:
    """Rows whose spread and skew depend on the past, their mean given it does not: it is zero.

    Args:
        rng: Chance.
        streams: How many streams.
    """

    def __init__(self, rng: np.random.Generator, streams: int) -> None:
        self._rng, self.streams = rng, streams
        self._kind = rng.integers(0, 3, streams)

    def rows(self) -> Floats:
        """The next block of each stream, shape (BLOCK, streams)."""
        chance = self._rng.random((BLOCK, self.streams))
        rate = np.where(self._kind == LOUD, 0.4, 0.02)
        lopsided = np.where(chance < 0.05, 0.95, -0.05)
        found = np.where(self._kind == LOPSIDED, lopsided, _signed(chance, rate / 2, rate))
        self._kind = self._next(found.sum(axis=0))
        return found

    def _next(self, gained: Floats) -> Rows:
        """Behind a gain mostly loud, behind a loss mostly lopsided, else anything."""
        led = np.where(gained > 0, LOUD, LOPSIDED)
        return np.where(self._rng.random(self.streams) < 0.7, led, self._rng.integers(0, 3, self.streams))


def _signed(chance: Floats, better: Floats | float, both: Floats | float) -> Floats:
    return np.where(chance < better, 1.0, np.where(chance < both, -1.0, 0.0))


def wrong(gate: Gate, source: Alike | Blocks) -> npt.NDArray[np.bool_]:
    """Whether any of the challengers of each stream was promoted."""
    found = np.zeros(source.streams, bool)
    for number in range(1, CHALLENGERS + 1):
        found |= promoted_after(gate, number, source) != NEVER
    return found


def promoted_after(gate: Gate, number: int, source: Alike | Blocks) -> Rows:
    """Rows after which each stream's challenger was promoted, NEVER where it was rejected; as `Gate.judge` finds it."""
    better, worse = np.zeros((2, source.streams, len(BETS)))
    after, undecided = np.full(source.streams, NEVER), np.ones(source.streams, bool)
    for start in range(0, gate.max_rows, BLOCK):
        rows = source.rows()[: gate.max_rows - start]
        up, down = capital(better, rows)[1:], capital(worse, -rows)[1:]
        won, lost = (first(evidence(each) >= gate.enough(number)) for each in (up, down))
        promoted = undecided & (won < lost)
        after[promoted] = start + won[promoted] + 1
        undecided &= (won == len(rows)) & (lost == len(rows))
        better, worse = up[-1], down[-1]
        if not undecided.any():
            break
    return after


def first(proved: npt.NDArray[np.bool_]) -> Rows:
    """The first row of each stream in which something was proved, the number of rows where none was."""
    return np.where(proved.any(axis=0), proved.argmax(axis=0), len(proved))


def median(after: Rows) -> float:
    """Median of the rows until a promotion, infinite where less than half came to one."""
    return float(np.median(np.where(after == NEVER, np.inf, after)))


if __name__ == "__main__":
    main()
