"""What the judge calls a change: bad data of nine sorts and genuine changes of five, each generated and named.

    python -m benchmarks.triage [--json] [--each 20] [--rows 25]

Twenty features (normal, lognormal, uniform, heavy-tailed, whole numbers, a category, a share missing), four sources, a
model, its labels; 2,500 rows before the change and 2,000 behind it, in panes of 25 rows. Named right: the first episode
of the family that is concerned has the right name, and no genuine change is called bad data by any family.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping

from rich.console import Console

from benchmarks.triage_worlds import CHANGES, PANE, Change, World, called, episodes

WORLDS = 4
"""References; the streams of a change take turns."""

Matrix = Mapping[str, Mapping[str, int]]


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--each", type=int, default=20, help="streams of each change")
    parser.add_argument("--rows", type=int, default=PANE, help="rows of a pane")
    given = parser.parse_args()
    console = Console(stderr=True)
    found = matrix(given.each, given.rows, lambda text: console.print(text, style="dim"))
    result = {**summary(found), "matrix": found}
    print(json.dumps(result) if given.json else table(found, summary(found)))


def matrix(each: int, length: int, say: Callable[[str], None]) -> dict[str, dict[str, int]]:
    """For each change how often it was called what."""
    worlds = [World(seed) for seed in range(WORLDS)]
    found = {}
    for number, change in enumerate(CHANGES):
        names = [called(change, episodes(worlds[i % WORLDS], change, 1_000 * number + i, length)) for i in range(each)]
        found[change.name] = dict(Counter(names).most_common())
        say(f"{change.name}: {found[change.name]}")
    return found


def summary(found: Matrix) -> dict[str, float]:
    """Share named right, and genuine changes that were called bad data."""
    total = sum(sum(row.values()) for row in found.values())
    right = sum(found[change.name].get(change.called, 0) for change in CHANGES)
    blamed = sum(
        count for change in CHANGES if change.genuine for name, count in found[change.name].items() if _bad(name)
    )
    return {"named_right": right / total, "genuine_called_bad_data": blamed, "streams": total}


def _bad(name: str) -> bool:
    return name in {each.called for each in CHANGES if not each.genuine} | {
        "missing",
        "unknown",
        "rejected",
        "duplicates",
    }


def table(found: Matrix, figures: Mapping[str, float]) -> str:
    """The confusion matrix in Markdown: what it was, and what it was called."""
    names = list(dict.fromkeys([each.called for each in CHANGES] + [name for row in found.values() for name in row]))
    lines = ["| change | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    lines += [_line(change, found[change.name], names) for change in CHANGES]
    share, blamed = figures["named_right"], figures["genuine_called_bad_data"]
    return "\n".join([*lines, "", f"named right: {share:.1%}; genuine changes called bad data: {blamed:.0f}"])


def _line(change: Change, row: Mapping[str, int], names: list[str]) -> str:
    cells = [_cell(row.get(name, 0), right=name == change.called) for name in names]
    return f"| {change.name} | " + " | ".join(cells) + " |"


def _cell(count: int, *, right: bool) -> str:
    if right:
        return f"**{count}**"
    return str(count) if count else ""


if __name__ == "__main__":
    main()
