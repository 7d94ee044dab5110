"""Datasets made again from what their manifests say: what `headrace verify` rests on.

Rows come from the archive, and where no segment covers an offset from the topic, as long as it is kept there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from runtime.errors import HeadraceError
from runtime.ports import LogReader, Place
from runtime.store import Store
from schemas import batch as b
from schemas.artefact import Dataset
from schemas.spec import FeatureType
from services.training.domain import taking
from services.training.domain.rows import content_digest, remembered
from services.training.segments import Segments, Span, usable

EXAMPLES = "examples"


class RowsGone(HeadraceError):
    """Offsets of a dataset are neither in the archive nor on the topic."""


class DatasetDiffers(HeadraceError):
    """The rows of a dataset are not the ones that its model was fitted on."""


def remake(
    dataset: Dataset, pipeline: str, features: Mapping[str, FeatureType], store: Store, log: LogReader | None = None
) -> pa.RecordBatch:
    """The rows of a dataset, sorted, verified by their digest.

    Args:
        dataset: What the manifest says.
        pipeline: Name of the pipeline.
        features: Type of each feature, in the order of the manifest.
        store: Where the archive is.
        log: The topic, for offsets that are not archived; None for the archive alone.

    Raises:
        RowsGone: Rows are missing, for offsets are neither here nor there; the text names them.
        DatasetDiffers: The rows do not hash to the digest.
        SegmentDamaged: A segment is not what was written.
        Transient: Store or broker is away.
    """
    source = _Source(dataset, pipeline, store, log)
    rows = taking.remake(dataset, source.pieces, tuple(features))
    found = "none" if rows is None else content_digest(rows, features)
    if rows is None or found != dataset.digest:
        source.refuse_gone()
        count = 0 if rows is None else rows.num_rows
        raise DatasetDiffers(
            f"the {dataset.rows} rows of the dataset hash to {dataset.digest}, the {count} that were found to {found}: "
            "examples or manifest were changed, or the log is another one"
        )
    return rows


class _Source:
    """Reads the places of a dataset."""

    def __init__(self, dataset: Dataset, pipeline: str, store: Store, log: LogReader | None) -> None:
        known = "" if log is None else log.topic_id(EXAMPLES)
        self._name = dataset.log or known
        self._log = log if known == self._name else None
        self._positions = dataset.positions
        self._segments = Segments(store, pipeline, self._name)
        self._gone: list[str] = []

    def pieces(self, features: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for partition, (start, stop) in self._positions.items():
            for span in self._segments.spans(partition, start, stop):
                read = self._from_topic if span.segment is None else self._from_archive
                yield from read(partition, span, features)

    def _from_archive(self, partition: int, span: Span, features: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return self._segments.read(partition, span, features, lateness=0)

    def _from_topic(self, partition: int, span: Span, features: Sequence[str]) -> Iterator[pa.RecordBatch]:
        place = Place(EXAMPLES, partition)
        if self._log is None or self._log.begin(place) > span.start or self._log.end(place) < span.stop:
            gone = f"offsets {span.start} to {span.stop - 1} of partition {partition}"
            self._gone += [gone] if gone not in self._gone else []
            return
        for message in self._log.read(place, span.start, span.stop):
            batch = b.decode(message.value)
            if batch.num_rows and usable(batch.schema.names, features):
                yield remembered(batch, features, partition, message.offset, 0)

    def refuse_gone(self) -> None:
        """Return where everything was there. What the fit did not have either does no harm: the digest tells.

        Raises:
            RowsGone: Something was not.
        """
        if self._gone:
            raise RowsGone(
                f"{', '.join(self._gone)} of examples are neither in the archive nor on the topic, log {self._name}: "
                "restore the archive from a backup"
            )
