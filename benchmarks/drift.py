"""Drift as the service judges it: false alarms, delays and speed, beside what is usually used.

    python -m benchmarks.drift [--json] [--rows 3000000] [--seeds 20] [--data ../shared/data]

The service's own judge of all families is fed with panes of 25 rows: twenty features (normal, lognormal, uniform,
heavy-tailed, whole numbers, one category), twenty of their principal components, and prediction, label, error and
what became of rows at the door beside them; one false alarm allowed in 43,200 panes over all families. A reference
has 5,000 rows, of autocorrelated streams 30,000. Delays are medians in rows over the seeds, panes of 25 rows unless
the key ends in _1000; second episodes are those in 20,000 rows behind a change that was found, those of a concept
that goes on changing for 5,000 rows (hyperplane) counted apart as gradual. Concept: river's SEA, Agrawal, RBF,
hyperplane and Friedman, the losses of a model fitted in front of the change, beside river's ADWIN on the same losses.
Every figure is made in this run from fixed seeds; only the speeds, rows per second of CPU time, depend on the
machine. ADWIN watches each feature, KS shares its level among them. Recorded streams, where they are: alarms in
random order, and in true order with a new reference behind each alarm. alibi-detect's online MMD has an environment
of its own (`make mmd`); without it its figures are null. All takes some ten minutes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
from rich.console import Console

from benchmarks import drift_streams as streams
from benchmarks.baselines.alibi import alibi
from benchmarks.baselines.detectors import adwin, compared
from benchmarks.drift_concept import concept, median
from benchmarks.drift_judged import episodes, found, rules
from benchmarks.drift_streams import AFTER, BEFORE, CHANGES, REFERENCE, changed
from schemas.bins import LOSS, Column, Family
from schemas.quantities import MILLISECONDS
from schemas.reference import Reference, strata_of

PANE, LONG_PANE = 25, 1_000
LONG_REFERENCE = 30_000
PIECE = 150_000
"""Null rows that are judged by one reference."""
SPEED_ROWS = 500_000
DATA = Path(__file__).parents[2] / "shared" / "data"
RECORDED = ("elec2", "gas_sensor", "powersupply", "bike_hour")
DAY, DAYS, DAYS_KNOWN, DAILY_PANE = 1_440, 60, 14, 15
"""Rows of a day, one a minute."""

Floats = npt.NDArray[np.float64]
Result = dict[str, float | None]


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--rows", type=int, default=3_000_000, help="null rows; of each autocorrelated stream a third")
    parser.add_argument("--seeds", type=int, default=20, help="streams per change")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the recorded streams")
    given = parser.parse_args()
    console = Console(stderr=True)
    result = measure(given.rows, given.seeds, given.data, lambda text: console.print(text, style="dim"))
    print(json.dumps(result) if given.json else "\n".join(f"{key}: {value}" for key, value in result.items()))


def measure(rows: int, seeds: int, data: Path, say: Callable[[str], None]) -> Result:
    """All figures, see the module."""
    say(f"{rows} exchangeable rows")
    result: Result = null(rows)
    for phi in (50, 90):
        say(f"{rows // 3} autocorrelated rows, phi .{phi}")
        result[f"false_alarms_ar{phi}_per_100k"] = dependent(rows // 3, phi / 100)
        each = [dependent_delay(seed, phi / 100) for seed in range(seeds)]
        result[f"delay_one_sigma_ar{phi}"] = median(each)
        result[f"missed_ar{phi}"] = each.count(None)
    for name in CHANGES:
        say(f"{seeds} changes: {name}")
        result |= delays(name, seeds)
    result |= concept(seeds, say)
    for key, names in (("missed", CHANGES), ("second_episodes", (*CHANGES, "concept"))):
        result[key] = sum(result.pop(f"{key}_{name}") or 0 for name in names)
    say("a daily cycle")
    result["daily_cycle_alarms"] = daily()
    for name in RECORDED:
        result |= recorded(data / f"{name}.csv.gz", name, say)
    say("speed")
    result["rows_per_core_second"] = speed()
    return result | compared(rows, seeds, say) | alibi(say)


def null(rows: int) -> Result:
    """Alarms of all families where nothing ever changes."""
    pieces, alarms = max(1, rows // PIECE), Counter[str]()
    size = rows // pieces // PANE * PANE
    for seed in range(pieces):
        random = np.random.default_rng(1_000 + seed)
        reference = streams.reference(_rows(random, REFERENCE), PANE)
        given = _rows(random, size)
        panes, quality = streams.counted(reference.bins, given, PANE), streams.fates(random, size, PANE)
        wrong = np.asarray(given[LOSS]).reshape(-1, PANE)
        alarms.update(each.family for each in episodes(reference, panes, wrong, quality))
    told = {f"null_alarms_{family}": float(alarms[family]) for family in get_args(Family)}
    return {"null_rows": pieces * size, "false_alarms_per_100k": alarms.total() * 1e5 / (pieces * size), **told}


def _rows(random: np.random.Generator, rows: int) -> dict[str, Column]:
    return streams.with_roles(streams.columns(streams.shaped(streams.normal(random, rows), random)), random)


def dependent(rows: int, phi: float) -> float:
    """Alarms per 100,000 rows that depend on those before them, and nothing else."""
    pieces, alarms = max(1, rows // PIECE), 0
    size = rows // pieces
    for seed in range(pieces):
        random = np.random.default_rng(3_000 + seed)
        values = streams.columns(streams.autocorrelated(random, LONG_REFERENCE + size, phi), streams.TYPES)
        reference = streams.reference(_cut(values, 0, LONG_REFERENCE), PANE, streams.TYPES)
        panes = streams.counted(reference.bins, _cut(values, LONG_REFERENCE, size), PANE)
        alarms += sum(1 for _ in episodes(reference, panes))
    return alarms * 1e5 / (pieces * size)


def dependent_delay(seed: int, phi: float) -> float | None:
    """Rows from a shift of one feature by a standard deviation to the first alarm behind it."""
    random = np.random.default_rng(4_000 + seed)
    latent = streams.autocorrelated(random, LONG_REFERENCE + BEFORE + AFTER, phi)
    latent[-AFTER:, 0] += 1
    values = streams.columns(latent, streams.TYPES)
    reference = streams.reference(_cut(values, 0, LONG_REFERENCE), PANE, streams.TYPES)
    panes = streams.counted(reference.bins, _cut(values, LONG_REFERENCE, len(latent)), PANE)
    return found(list(episodes(reference, panes)), PANE, BEFORE)[0]


def _cut(values: dict[str, Column], start: int, rows: int) -> dict[str, Column]:
    return {name: each[start : start + rows] for name, each in values.items()}


def delays(name: str, seeds: int) -> Result:
    """Median rows from a change to the first alarm behind it, how often there was none, and how often a second."""
    each, long = ([delay(name, 2_000 + seed, pane) for seed in range(seeds)] for pane in (PANE, LONG_PANE))
    first = [rows for rows, _ in each]
    return {
        f"delay_{name}": median(first),
        f"delay_{name}_{LONG_PANE}": median([rows for rows, _ in long]),
        f"missed_{name}": first.count(None),
        f"second_episodes_{name}": sum(more for _, more in [*each, *long]),
    }


def delay(name: str, seed: int, pane: int) -> tuple[float | None, int]:
    """Rows from the change to the first alarm behind it, and episodes that follow too soon."""
    random = np.random.default_rng(seed)
    reference = streams.reference(streams.columns(streams.shaped(streams.normal(random, REFERENCE), random)), pane)
    panes = streams.counted(reference.bins, streams.columns(changed(name, random)), pane)
    return found(list(episodes(reference, panes)), pane, BEFORE)


def daily() -> float:
    """Alarms behind the reference in 60 days of a cycle of two standard deviations, the hours being strata."""
    random, minutes = np.random.default_rng(5), np.arange(DAYS * DAY)
    values = streams.normal(random, len(minutes))
    values[:, 0] += 2 * np.sin(2 * np.pi * minutes / DAY)
    strata = strata_of(minutes[::DAILY_PANE] * MILLISECONDS["m"], ["hour_of_day"])
    rows, known = streams.columns(values, streams.TYPES), DAYS_KNOWN * DAY
    first = streams.reference(_cut(rows, 0, known), DAILY_PANE, streams.TYPES)
    cut = known // DAILY_PANE
    reference = Reference.of(first.bins, first.panes, strata[:cut], ["hour_of_day"])
    panes = streams.counted(first.bins, _cut(rows, known, len(minutes)), DAILY_PANE)
    by = rules(DAILY_PANE * MILLISECONDS["m"])
    return sum(1 for _ in episodes(reference, panes, by=by, first=cut))


def recorded(path: Path, name: str, say: Callable[[str], None]) -> Result:
    """Alarms in a recorded stream: shuffled, in true order, and ADWIN's per feature in true order."""
    keys = f"shuffled_alarms_{name}", f"true_order_alarms_{name}", f"adwin_true_order_alarms_{name}"
    if not path.exists():
        say(f"{path} is not there")
        return dict.fromkeys(keys)
    say(f"recorded: {name}")
    given = streams.real(path)
    rows = len(next(iter(given.values())))
    order = np.random.default_rng(1).permutation(rows)
    shuffled = {column: each.take(order) for column, each in given.items()}
    numbers = [column for column, kind in streams.kinds(given).items() if kind == "number"]
    matrix = np.array([np.asarray(given[each]) for each in numbers]).T
    return dict(zip(keys, (_renewed(shuffled), _renewed(given), len(adwin(matrix[:0], matrix))), strict=True))


def _renewed(given: dict[str, Column]) -> int:
    """Alarms where each is followed by a new reference, of the rows behind it."""
    rows, start, alarms = len(next(iter(given.values()))), 0, 0
    while start + REFERENCE + PANE <= rows:
        reference = streams.reference(_cut(given, start, REFERENCE), PANE, streams.kinds(given))
        start += REFERENCE
        panes = streams.counted(reference.bins, _cut(given, start, rows), PANE)
        first = next(episodes(reference, panes), None)
        if first is None:
            break
        alarms, start = alarms + 1, start + (first.pane + 1) * PANE
    return alarms


def speed() -> float:
    """Rows per second of CPU time: counting and judging of 20 numbers and 20 scores, panes of 1,000 rows."""
    random = np.random.default_rng(1)
    given = streams.columns(streams.normal(random, REFERENCE), streams.TYPES)
    reference = streams.reference(given, LONG_PANE, streams.TYPES)
    rows = streams.columns(streams.normal(random, SPEED_ROWS), streams.TYPES)
    begun = time.process_time()
    panes = streams.counted(reference.bins, rows, LONG_PANE)
    for _ in episodes(reference, panes):
        pass
    return SPEED_ROWS / (time.process_time() - begun)


if __name__ == "__main__":
    main()
