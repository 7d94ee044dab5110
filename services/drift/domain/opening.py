"""From an alarm to an episode: what moved, since when, by how much, where, and what it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.bins import Family, Stream
from schemas.bins_codes import ZERO
from schemas.reference import Reference
from services.drift.domain.concept import CLOCK, DELTA, Change
from services.drift.domain.evidence import FLOOR, MOST_STREAMS, Episode, Statistic, StreamChange, named
from services.drift.domain.likeness import lasting
from services.drift.domain.monitor import Judged, Suspect
from services.drift.domain.recent import Bucket, Recent
from services.drift.domain.shapes import Shape
from services.drift.domain.triage import better, lone_source, triage

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TEN = float(np.log(10.0))
NEWEST, LATEST = 25, 100
"""Rows of a pane, or of several, by which one value only is recognised; and another unit in one source."""
MOVED = 20.0
"""Contrast from which a stream's source counts: the others of an episode are told, but chance has placed them. What a
principal component is made of has moved by itself."""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A rise that the second witness found.

    Attributes:
        change: Its evidence.
        at: Time of the row that told, milliseconds.
    """

    change: Change
    at: int


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What stands when an alarm comes.

    Attributes:
        family: That alarmed.
        anchor: The member that is watched.
        pane: Index of the pane that raised it.
        length: Of a pane, milliseconds.
        recent: The newest panes.
        history: Newest statistics.
        own: The anchor's own reference, with its panes.
    """

    family: Family
    anchor: int
    pane: int
    length: int
    recent: Recent
    history: tuple[Statistic, ...]
    own: Reference | None = None

    @property
    def end(self) -> int:
        """End of the pane, milliseconds."""
        return (self.pane + 1) * self.length

    def since(self, pane: int) -> Bucket:
        """What came from that pane on; what shares a bucket with earlier panes is left out."""
        behind = self.recent.behind()
        return next((each for each in reversed(behind) if each.first >= pane), behind[0])

    def likeliest(self, reference: Reference) -> Bucket:
        """What came since the change began, if one stream's most unlikely stretch tells when that was."""
        judged = [each for each in usual(reference) if each.stream.judged]

        def contrast(rows: Bucket) -> float:
            return max(each.shape(rows).contrast for each in judged)

        return max(self.recent.behind(), key=contrast)

    def samples(self, reference: Reference, since: Bucket) -> list[list[Shape]]:
        """The same streams of fewer rows: the newest, and those of each source since then and among the latest.

        Older panes lie together, so the likeliest start may be before the change: what came last is bad throughout.
        """
        newest, latest = (self._last(rows, since) for rows in (NEWEST, LATEST))
        apart = [part for each in (since, *latest) for part in self._apart(each)]
        known = usual(reference)
        return [[each.shape(rows) for each in known] for rows in newest + apart]

    def _last(self, rows: int, since: Bucket) -> list[Bucket]:
        """The shortest stretch of so many rows, where that is shorter than what came since then."""
        enough = [each for each in self.recent.behind() if each.strata.sum() >= rows]
        return enough[:1] if enough and enough[0].first > since.first else []

    def _apart(self, since: Bucket) -> list[Bucket]:
        """The rows of each source since then; none where there is but one."""
        _, counts = self.recent.by_source(since.first)
        return [replace(since, counts=each) for each in counts] if len(counts) > 1 else []


@dataclass(frozen=True, slots=True, eq=False)
class Usual:
    """What a reference knows of a stream.

    Attributes:
        stream: Which.
        cells: Of the reference's bins.
        chances: Of each cell in each stratum, shape (strata, cells).
        sizes: Rows of each stratum, shape (strata,).
    """

    stream: Stream
    cells: slice
    chances: Floats
    sizes: Floats

    def shape(self, rows: Bucket) -> Shape:
        """The stream as one may expect it in the strata of these rows, and as it is."""
        share = rows.strata / max(rows.strata.sum(), 1)
        before = share @ self.chances * _worth(share, self.sizes)
        return Shape(self.stream, before, rows.counts[self.cells].astype(np.float64))


def usual(reference: Reference) -> list[Usual]:
    """Each stream as the reference knows it."""
    found = []
    for index, stream in enumerate(reference.bins.streams):
        cells = reference.bins.at(index)
        own = reference.counts[:, cells].astype(np.float64)
        sizes = own.sum(1, keepdims=True)
        chances = np.where(sizes > 0, own / np.maximum(sizes, 1), own.sum(0) / max(own.sum(), 1))
        found.append(Usual(stream, cells, chances, sizes[:, 0]))
    return found


def shapes(reference: Reference, rows: Bucket) -> list[Shape]:
    """Each stream as the reference lets one expect it in the strata of these rows, and as it is."""
    return [each.shape(rows) for each in usual(reference)]


def _worth(share: Floats, sizes: Floats) -> float:
    """As how many rows of one stratum the reference speaks about rows of which each stratum has a share."""
    sizes = np.where(sizes > 0, sizes, sizes.sum())
    return float(1 / max((share**2 / np.maximum(sizes, 1)).sum(), 1 / max(sizes.sum(), 1)))


def by_counts(
    scene: Scene, reference: Reference, judged: Judged, suspects: Sequence[Suspect]
) -> tuple[Episode | None, Ints]:
    """The episode of a statistic at its threshold, None where all is better; and the counts since its start."""
    since = scene.likeliest(reference)
    found = shapes(reference, since)
    if better(scene.family, found):
        return None, since.counts
    suspect = suspects[0].stream if suspects else None
    verdict = triage(scene.family, found, scene.samples(reference, since), suspect, lasting(scene.own))
    changes = _changes(scene, reference, since, verdict.culprits, judged, suspects)
    moved = {each.stream.name for each in found if each.contrast >= MOVED and each.stream.kind != "score"}
    sources = {each.source for each in changes if each is changes[0] or each.name in moved}
    where = "" if changes[0].source is None else f", from source events/{changes[0].source} alone"
    episode = Episode(
        id=named(scene.anchor, scene.family, scene.pane),
        family=scene.family,
        kind=verdict.kind,
        cause=verdict.cause,
        anchor=scene.anchor,
        pane=scene.pane,
        at=scene.end,
        start=since.first * scene.length,
        detector="counts",
        statistic=_tens(judged.statistic),
        threshold=_tens(judged.threshold),
        rows=int(since.strata.sum()),
        reason=verdict.reason + where,
        streams=changes,
        history=scene.history,
        source=sources.pop() if len(sources) == 1 else None,
    )
    return episode, since.counts


def by_witness(scene: Scene, reference: Reference | None, seen: Witnessed, suspects: Sequence[Suspect]) -> Episode:
    """The episode of a rise of the error that adwin found."""
    change = seen.change
    streams: tuple[StreamChange, ...] = ()
    if reference is not None and scene.recent.buckets:
        since = scene.since(change.start // scene.length)
        streams = _changes(scene, reference, since, (0,), Judged(scene.pane, -np.inf, np.inf), suspects)
    figures = {
        "rows_before": change.rows_before,
        "rows_after": change.rows_after,
        "error_before": change.error_before,
        "error_after": change.error_after,
        "window": change.window,
        "clock": CLOCK,
    }
    return Episode(
        id=named(scene.anchor, scene.family, scene.pane),
        family=scene.family,
        kind="concept",
        cause="",
        anchor=scene.anchor,
        pane=scene.pane,
        at=seen.at,
        start=change.start,
        detector="adwin",
        statistic=change.rise,
        threshold=DELTA,
        rows=change.rows_after,
        reason=f"the error of member {scene.anchor} rose from {change.error_before:.1%} to {change.error_after:.1%} "
        "of the answers",
        streams=streams,
        history=scene.history,
        figures=tuple((name, float(value)) for name, value in figures.items()),
    )


def statistic(judged: Judged, length: int) -> Statistic:
    """A point of the history."""
    return Statistic((judged.pane + 1) * length, _tens(judged.statistic))


def _tens(logarithm: float) -> float:
    return round(max(FLOOR, logarithm / TEN), 4)


def _changes(
    scene: Scene,
    reference: Reference,
    since: Bucket,
    culprits: Sequence[int],
    judged: Judged,
    suspects: Sequence[Suspect],
) -> tuple[StreamChange, ...]:
    """What the change was recognised by, then the streams with most evidence."""
    by = {each.stream: each.evidence for each in suspects}
    found = shapes(reference, since)
    sources, counts = scene.recent.by_source(since.first)
    told = []
    for index in list(dict.fromkeys([*culprits, *by]))[:MOST_STREAMS]:
        share = 0.0
        if index in by and np.isfinite(judged.statistic):
            share = float(np.exp(min(0.0, by[index] - judged.statistic)))
        source = lone_source(found[index], sources, counts[:, reference.bins.at(index)])
        told.append(_change(found[index], share, since.first * scene.length, source))
    return tuple(told)


def _change(shape: Shape, share: float, start: int, source: int | None) -> StreamChange:
    used = _used(shape)
    labels = shape.stream.labels
    return StreamChange(
        name=shape.stream.name,
        kind=shape.stream.kind,
        share=round(share, 4),
        effect=round(shape.effect, 4),
        start=start,
        bins=tuple(labels[each] for each in used),
        before=tuple(np.rint(shape.before[used]).astype(int).tolist()),
        after=tuple(shape.after[used].astype(int).tolist()),
        source=source,
    )


def _used(shape: Shape) -> list[int]:
    """The bins that can hold rows; of magnitudes those from the least to the greatest that do."""
    if shape.stream.kind != "magnitude":
        return [index for index, label in enumerate(shape.stream.labels) if label]
    held = np.append(np.flatnonzero(shape.before + shape.after >= 1), ZERO)
    return list(range(int(held.min()), int(held.max()) + 1))
