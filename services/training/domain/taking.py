"""A dataset is made from pieces of the log, and made again from what its manifest says: one way for both.

Which pieces the rows come in, and from where, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import batch as b
from schemas.artefact import Dataset, Quarantine, Sampling
from schemas.spec import FeatureType
from services.training.domain.quarantine import clean
from services.training.domain.rows import (
    BEGINNING,
    OFFSET,
    ORDER,
    PARTITION,
    content_digest,
    numbers,
    spans,
    times,
)
from services.training.domain.sampling import Sample, Superseded
from services.training.domain.selection import Selection

Pieces = Callable[[Sequence[str]], Iterable[pa.RecordBatch]]
"""Reads the remembered rows with these features, as often as it is asked; no feature for places and times alone."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The rows of a dataset, and how they were chosen.

    Attributes:
        rows: Sorted by label time, source, position and row.
        quarantined: Bad data that was left out.
        log: Id of the topic, or name of the history.
        selection: What was asked for.
        since: Least label time that counts, None for all.
        sampling: How rows were chosen where there were too many.
    """

    rows: pa.RecordBatch
    quarantined: tuple[Quarantine, ...] = ()
    log: str = ""
    selection: str = ""
    since: int | None = None
    sampling: Sampling | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Which rows of a log come into question.

    Attributes:
        cutoff: Highest order.
        since: Least label time.
        quarantined: Bad data.
        revised: Whether labels are corrected at all; else the log is read once, not twice.
    """

    cutoff: int
    since: int
    quarantined: tuple[Quarantine, ...]
    revised: bool = True

    def __call__(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Those of a piece."""
        within = (numbers(rows, ORDER) <= self.cutoff) & (times(rows) >= self.since)
        return clean(rows if within.all() else rows.filter(pa.array(within)), self.quarantined)


def chosen(pieces: Pieces, features: Sequence[str], cut: Cut, selection: Selection, seed: int) -> Taken | None:
    """The dataset at a cut-off; None for no rows.

    Args:
        pieces: Reads the log.
        features: Names of the features.
        cut: Which rows come into question.
        selection: Which of them are taken; limited in rows.
        seed: Of the sample.
    """
    if selection.newest is None:
        raise ValueError(f"a selection of {selection} rows has no bound in memory")
    superseded = Superseded(_corrections(map(cut, pieces(()))) if cut.revised else ())
    sample = _fill(Sample(selection.newest, selection.older, seed), superseded, map(cut, pieces(features)))
    if (rows := sample.rows()) is None:
        return None
    sampling = None
    if selection.older and sample.seen > rows.num_rows:
        sampling = Sampling(newest=selection.newest, older=selection.older, seed=seed, of=sample.seen)
    bad = tuple(sorted(cut.quarantined, key=lambda each: each.start))
    return Taken(rows, bad, since=None if cut.since == BEGINNING else cut.since, sampling=sampling)


def _fill(sample: Sample, superseded: Superseded, pieces: Iterable[pa.RecordBatch]) -> Sample:
    for rows in pieces:
        sample.add(superseded.without(rows))
    return sample


def _corrections(pieces: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for rows in pieces:
        if pc.any(rows.column(b.CORRECTION), min_count=0).as_py():
            yield rows.filter(rows.column(b.CORRECTION))


def remake(dataset: Dataset, pieces: Pieces, features: Sequence[str]) -> pa.RecordBatch | None:
    """The rows of a dataset, from its log; None for none.

    Whether they are the ones, the digest tells: `content_digest`.

    Args:
        dataset: What the manifest says.
        pieces: Reads the log; rows of other places do no harm.
        features: Names of the features.
    """
    sampling = dataset.sampling
    sample = Sample(dataset.rows, 0, 0) if sampling is None else Sample(sampling.newest, sampling.older, sampling.seed)
    superseded = Superseded(_corrections(_of(dataset, rows) for rows in pieces(())))
    return _fill(sample, superseded, (_of(dataset, rows) for rows in pieces(features))).rows()


def _of(dataset: Dataset, rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows that came into question when the dataset was made."""
    partition, offset, labelled = numbers(rows, PARTITION), numbers(rows, OFFSET), times(rows)
    within = np.zeros(rows.num_rows, bool)
    for each, (start, stop) in dataset.positions.items():
        within |= (partition == each) & (offset >= start) & (offset < stop)
    within &= (labelled <= dataset.label_cutoff) & (labelled >= (BEGINNING if dataset.since is None else dataset.since))
    return clean(rows.filter(pa.array(within)), dataset.quarantined)


def dataset_of(taken: Taken, held_out: int, features: Mapping[str, FeatureType], *, learnt: bool) -> Dataset:
    """What the manifest says of a dataset, and of the rows that were held out of it: whether they were learnt from."""
    return Dataset(
        positions=spans(taken.rows),
        rows=taken.rows.num_rows,
        held_out=held_out,
        held_out_learnt=learnt,
        label_cutoff=int(times(taken.rows).max()),
        digest=content_digest(taken.rows, features),
        quarantined=taken.quarantined,
        log=taken.log,
        selection=taken.selection,
        since=taken.since,
        sampling=taken.sampling,
    )
