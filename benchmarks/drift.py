"""The statistic of drift alone: false alarms, delays and speed, beside what is usually used.

    python -m benchmarks.drift [--json] [--rows 3000000] [--seeds 20] [--data ../shared/data]

Twenty features (normal, lognormal, uniform, heavy-tailed, whole numbers, one category), twenty of their principal
components, and prediction, label, error and quality beside them; panes of 25 rows; one false alarm allowed in 43,200
panes over all families. A reference has 5,000 rows, of autocorrelated streams 30,000. Delays are medians in rows over
the seeds, panes of 25 rows unless the key ends in _1000. Every figure is made in this run from fixed seeds; only the
speeds, rows per second of CPU time, depend on the machine. ADWIN watches each feature, KS shares its level among them.
Recorded streams, where they are: alarms in random order, and in true order with a new reference behind each alarm.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from benchmarks import drift_streams as streams
from benchmarks.baselines.detectors import adwin, compared
from benchmarks.drift_streams import AFTER, BEFORE, CHANGES, REFERENCE, changed
from schemas.bins import Column, Counts
from schemas.quantities import MILLISECONDS, Rate
from schemas.reference import Reference, strata_of
from services.drift.domain.families import Families

ALLOWED, PANE_TIME = Rate(count=1, per_ms=30 * MILLISECONDS["d"]), MILLISECONDS["m"]
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
        found = [dependent_delay(seed, phi / 100) for seed in range(seeds)]
        result[f"delay_one_sigma_ar{phi}"] = _median(found)
        result[f"missed_ar{phi}"] = found.count(None)
    for name in CHANGES:
        say(f"{seeds} changes: {name}")
        result |= delays(name, seeds)
    result["missed"] = sum(result.pop(f"missed_{name}") or 0 for name in CHANGES)
    say("a daily cycle")
    result["daily_cycle_alarms"] = daily()
    for name in RECORDED:
        result |= recorded(data / f"{name}.csv.gz", name, say)
    say("speed")
    result["rows_per_core_second"] = speed()
    return result | compared(rows, seeds, say)


def judged(reference: Reference, values: Iterator[tuple[int, Counts]]) -> Iterator[int]:
    """Indices of the panes at which some family alarms; that family begins anew."""
    families = Families(reference, ALLOWED, PANE_TIME)
    for index, counts in values:
        found = [family for family, each in families.judge(counts, index).items() if each.alarm]
        for family in found:
            families.monitors[family].restart()
        if found:
            yield index


def null(rows: int) -> Result:
    """Alarms where nothing ever changes."""
    pieces, alarms = max(1, rows // PIECE), 0
    size = rows // pieces
    for seed in range(pieces):
        random = np.random.default_rng(1_000 + seed)
        reference = streams.reference(_rows(random, REFERENCE), PANE)
        panes = streams.counted(reference.bins, _rows(random, size), PANE)
        alarms += sum(1 for _ in judged(reference, enumerate(panes)))
    return {"null_rows": pieces * size, "false_alarms_per_100k": alarms * 1e5 / (pieces * size)}


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
        alarms += sum(1 for _ in judged(reference, enumerate(panes)))
    return alarms * 1e5 / (pieces * size)


def dependent_delay(seed: int, phi: float) -> float | None:
    """Rows from a shift of one feature by a standard deviation to the first alarm behind it."""
    random = np.random.default_rng(4_000 + seed)
    latent = streams.autocorrelated(random, LONG_REFERENCE + BEFORE + AFTER, phi)
    latent[-AFTER:, 0] += 1
    values = streams.columns(latent, streams.TYPES)
    reference = streams.reference(_cut(values, 0, LONG_REFERENCE), PANE, streams.TYPES)
    panes = streams.counted(reference.bins, _cut(values, LONG_REFERENCE, len(latent)), PANE)
    return _first(judged(reference, enumerate(panes)), PANE)


def _first(alarms: Iterator[int], pane: int) -> float | None:
    """Rows from the change to the end of the first pane behind it that alarms."""
    ends = ((index + 1) * pane - BEFORE for index in alarms)
    return next((float(end) for end in ends if end > 0), None)


def _median(found: list[float | None]) -> float | None:
    seen = [each for each in found if each is not None]
    return float(np.median(seen)) if seen else None


def _cut(values: dict[str, Column], start: int, rows: int) -> dict[str, Column]:
    return {name: each[start : start + rows] for name, each in values.items()}


def delays(name: str, seeds: int) -> Result:
    """Median rows from a change to the first alarm behind it, and how often there was none."""
    found: Result = {}
    for pane, key in ((PANE, name), (LONG_PANE, f"{name}_{LONG_PANE}")):
        each = [delay(name, 2_000 + seed, pane) for seed in range(seeds)]
        found[f"delay_{key}"] = _median(each)
        if pane == PANE:
            found[f"missed_{name}"] = each.count(None)
    return found


def delay(name: str, seed: int, pane: int) -> float | None:
    """Rows from the change to the first alarm behind it."""
    random = np.random.default_rng(seed)
    reference = streams.reference(streams.columns(streams.shaped(streams.normal(random, REFERENCE), random)), pane)
    panes = streams.counted(reference.bins, streams.columns(changed(name, random)), pane)
    return _first(judged(reference, enumerate(panes)), pane)


def daily() -> float:
    """Alarms behind the reference in 60 days of a cycle of two standard deviations, the hours being strata."""
    random, minutes = np.random.default_rng(5), np.arange(DAYS * DAY)
    values = streams.normal(random, len(minutes))
    values[:, 0] += 2 * np.sin(2 * np.pi * minutes / DAY)
    strata = strata_of(minutes[::DAILY_PANE] * MILLISECONDS["m"], ["hour_of_day"])
    rows, known = streams.columns(values, streams.TYPES), DAYS_KNOWN * DAY
    first = streams.reference(_cut(rows, 0, known), DAILY_PANE, streams.TYPES)
    cut = known // DAILY_PANE
    families = Families(Reference.of(first.bins, first.panes, strata[:cut], ["hour_of_day"]), ALLOWED, PANE_TIME)
    panes = enumerate(streams.counted(first.bins, _cut(rows, known, len(minutes)), DAILY_PANE), cut)
    return sum(families.judge(each, index, int(strata[index]))["features"].alarm for index, each in panes)


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
        first = next(judged(reference, enumerate(panes)), None)
        if first is None:
            break
        alarms, start = alarms + 1, start + (first + 1) * PANE
    return alarms


def speed() -> float:
    """Rows per second of CPU time: counting and judging of 20 numbers and 20 scores, panes of 1,000 rows."""
    random = np.random.default_rng(1)
    given = streams.columns(streams.normal(random, REFERENCE), streams.TYPES)
    reference = streams.reference(given, LONG_PANE, streams.TYPES)
    rows = streams.columns(streams.normal(random, SPEED_ROWS), streams.TYPES)
    begun = time.process_time()
    panes = streams.counted(reference.bins, rows, LONG_PANE)
    for _ in judged(reference, enumerate(panes)):
        pass
    return SPEED_ROWS / (time.process_time() - begun)


if __name__ == "__main__":
    main()
