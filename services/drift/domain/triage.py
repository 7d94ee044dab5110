"""What an alarm is called: bad data, or a change of the world. Rules of thumb, applied to histograms.

Bad data are what no world does: a feature's powers of two moved by a constant (another unit), two features that have
changed places, one value only, values that are missing, categories none of which was ever met, rows that are refused,
late or double. Whatever is not clearly that is a change of the world: a false `bad_data` would block fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import numpy.typing as npt

from schemas.bins import Family
from schemas.bins_codes import NEW
from services.drift.domain.evidence import Cause, Kinds
from services.drift.domain.likeness import weighed
from services.drift.domain.pane_counts import DUPLICATE, LATE
from services.drift.domain.shapes import FEWEST, Shape, placed, stuck, swapped, unit

Floats = npt.NDArray[np.float64]

CLEAR = 15.0
"""Evidence, in natural logarithm, from which a stream has changed besides chance."""
MOST_PAIRED = 10
MOST_MISSING, ALL = 0.5, 0.9
ROUND = 0.15
SOURCE_EVIDENCE, SOURCE_SHARE = 2.0, 0.25
"""A source has moved from that evidence on, and from that share of what a row of the leading source has: what is new is
told by few rows, and some of it is chance."""
KINDS: dict[Family, Kinds] = {
    "features": "covariate",
    "prediction": "prediction",
    "label": "label",
    "concept": "concept",
    "quality": "bad_data",
}
CAUSES: dict[str, Cause] = {
    LATE: "late",
    DUPLICATE: "duplicates",
    "missing_field": "schema",
    "unknown_field": "schema",
    "null_value": "schema",
    "wrong_type": "schema",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What it is called.

    Attributes:
        kind: Sort of change.
        cause: Of bad data.
        reason: A sentence.
        culprits: Streams that it was recognised by, by index.
    """

    kind: Kinds
    cause: Cause
    reason: str
    culprits: tuple[int, ...] = ()


def triage(
    family: Family,
    shapes: Sequence[Shape],
    samples: Sequence[Sequence[Shape]] = (),
    suspect: int | None = None,
    stays: Floats | None = None,
) -> Verdict:
    """The name of a change.

    Args:
        family: That alarmed.
        shapes: All streams of the family, in the order of its bins.
        samples: The same of fewer rows, which the change may have spared less: the newest, those of each source.
        suspect: Which stream the statistic owes most to.
        stays: How long each stream usually stays as it is, see `likeness.lasting`; None if nobody knows.
    """
    if family == "features":
        every = weighed([shapes, *samples], stays)
        found = _missing(shapes, every) or _stuck(every) or _units(every) or _swaps(every) or _unknown(every)
        return found or Verdict("covariate", "", _moved("the features", shapes, suspect))
    if family == "quality":
        return _quality(shapes)
    what = {"prediction": "the scores", "label": "the labels", "concept": "the losses of held-out rows"}[family]
    return Verdict(KINDS[family], "", _moved(what, shapes, suspect))


def _moved(what: str, shapes: Sequence[Shape], suspect: int | None) -> str:
    """Named is the suspect: rows that depend on each other look moved where nothing has. A component has no name."""
    known = shapes if suspect is None or shapes[suspect].stream.kind == "score" else [shapes[suspect]]
    named = [each for each in known if each.stream.judged and each.stream.kind != "score"]
    leading = max(named, key=lambda each: each.contrast, default=None)
    if leading is None:
        return f"{what} are no longer as in the reference"
    by = "total variation" if leading.stream.kind in ("category", "classes") else "standard deviations"
    where = leading.stream.name.removeprefix("_")
    return f"{what} are no longer as in the reference: {where} by {leading.effect:.2g} {by}"


def _missing(shapes: Sequence[Shape], every: Sequence[Sequence[Shape]]) -> Verdict | None:
    """Missing values carry most of the evidence, or all values are missing."""
    chosen = [i for i, each in enumerate(shapes) if each.stream.kind in ("numeric", "category")]
    chosen = [i for i in chosen if shapes[i].evidence >= CLEAR]
    by = {i: float(shapes[i].surprise[-1]) for i in chosen}
    if not by or sum(max(0.0, each) for each in by.values()) < MOST_MISSING * sum(shapes[i].evidence for i in chosen):
        return None
    first = max(by, key=lambda i: by[i])
    share = max(sample[first].after[-1] / max(sample[first].rows, FEWEST) for sample in every)
    reason = f"{shapes[first].stream.name} is missing in {share:.0%} of the rows, {shapes[first].usual[-1]:.0%} before"
    return Verdict("bad_data", "nulls" if share >= ALL else "missing", reason, (first,))


def _pairs(every: Sequence[Sequence[Shape]]) -> Iterator[tuple[tuple[int, int], Sequence[Shape]]]:
    """Numeric features that have changed with their magnitudes, most evidence first; each in every sample."""
    shapes = every[0]
    sizes = {each.stream.name: i for i, each in enumerate(shapes) if each.stream.kind == "magnitude"}
    ranks = [i for i, each in enumerate(shapes) if each.stream.kind == "numeric" and each.stream.name in sizes]
    evidence = {
        (i, j): max(shapes[i].evidence, shapes[j].evidence) for i in ranks for j in [sizes[shapes[i].stream.name]]
    }
    for pair in sorted(evidence, key=lambda each: -evidence[each]):
        if evidence[pair] >= CLEAR:
            yield from ((pair, sample) for sample in every)


def _units(every: Sequence[Sequence[Shape]]) -> Verdict | None:
    for pair, sample in _pairs(every):
        by = unit(sample[pair[1]])
        if by is not None:
            return Verdict("bad_data", "unit", f"{sample[pair[0]].stream.name} arrives {_times(by)}", pair)
    return None


def _times(by: float) -> str:
    tens = abs(by) * np.log10(2)
    factor = 10.0 ** round(tens) if abs(tens - round(tens)) < ROUND else float(2 ** abs(by))
    return f"{factor:,.3g} times too {'large' if by > 0 else 'small'}"


def _swaps(every: Sequence[Sequence[Shape]]) -> Verdict | None:
    changed = list(dict.fromkeys(pair for pair, _ in _pairs(every)))[:MOST_PAIRED]
    for (first, second), sample in product(combinations(changed, 2), every):
        ranked = sample[first[0]], sample[second[0]]
        if swapped(sample[first[1]], sample[second[1]]) and placed(*ranked) and placed(*reversed(ranked)):
            names = f"{sample[first[0]].stream.name} and {sample[second[0]].stream.name}"
            return Verdict("bad_data", "swap", f"{names} have changed places", (first[0], second[0]))
    return None


def _stuck(every: Sequence[Sequence[Shape]]) -> Verdict | None:
    for pair, sample in _pairs(every):
        if stuck(sample[pair[0]], sample[pair[1]]):
            return Verdict("bad_data", "stuck", f"{sample[pair[0]].stream.name} no longer changes", pair)
    return None


def _unknown(every: Sequence[Sequence[Shape]]) -> Verdict | None:
    """Nearly all values of a category are new: another encoding, not another category."""
    for i, sample in product(range(len(every[0])), every):
        each = sample[i]
        if each.stream.kind != "category" or each.usual[NEW] >= MOST_MISSING or each.rows < FEWEST:
            continue
        if (share := each.after[NEW] / each.rows) >= ALL:
            reason = f"{each.stream.name} has values in {share:.0%} of the rows that nobody knows"
            return Verdict("bad_data", "unknown", reason, (i,))
    return None


def _quality(shapes: Sequence[Shape]) -> Verdict:
    index = max(range(len(shapes)), key=lambda i: shapes[i].surprise[1])
    shape, code = shapes[index], shapes[index].stream.name
    what = {LATE: "come too late", DUPLICATE: "come twice"}.get(code, f"are refused as {code}")
    reason = f"{shape.after[1] / max(shape.rows, 1):.0%} of the rows {what}, {shape.usual[1]:.1%} before"
    return Verdict("bad_data", CAUSES.get(code, "rejected"), reason, (index,))


def better(family: Family, shapes: Sequence[Shape]) -> bool:
    """Whether losses fell, or fewer rows are refused, late or double: nothing to open an episode for."""
    leading = max(shapes, key=lambda each: each.evidence)
    if family == "concept":
        return leading.effect <= 0
    return family == "quality" and bool(leading.after[1] / max(leading.rows, 1) <= leading.usual[1])


def lone_source(shape: Shape, sources: tuple[int, ...], counts: npt.NDArray[np.int64]) -> int | None:
    """The source that alone has moved; None where it is all of them, several, or not to be told.

    Args:
        shape: The stream.
        sources: Ascending.
        counts: Of that stream's cells in the newest panes, shape (sources, cells).
    """
    fresh = shape.fresh
    if fresh.sum() <= 0:
        return None
    odds = np.log((shape.usual + fresh / fresh.sum()) / 2 / shape.usual)
    rows = np.maximum(counts.sum(1), 1)
    each = counts @ odds / rows
    like = each > SOURCE_SHARE * each.max()
    moved = np.flatnonzero(like & (each * rows > SOURCE_EVIDENCE))
    return sources[moved[0]] if len(moved) == 1 and not like.all() else None
