"""Datasets: the rows of a fit at a cut-off, from memory where they are, else from the archive and what follows it."""

from __future__ import annotations

import zlib
from dataclasses import replace

from schemas.pipeline import Pipeline
from services.training.archive import Archive
from services.training.domain.rows import BEGINNING
from services.training.domain.selection import Selection, most_rows, selected
from services.training.domain.taking import Cut, Taken, chosen
from services.training.domain.window import Window

MEMORY = 1 << 29
"""Bytes of the largest dataset, eight for each value of a feature; a fit takes a few times that."""


class Datasets:
    """Makes the datasets of one term of a leader.

    Args:
        spec: The pipeline.
        window: The newest rows.
        archive: All rows.
        memory: Bytes of the largest dataset.

    Attributes:
        window: What `training.window` selects.
    """

    def __init__(self, spec: Pipeline, window: Window, archive: Archive, memory: int = MEMORY) -> None:
        self._features, self._seed = tuple(spec.features), zlib.crc32(spec.pipeline.encode())
        self._recent, self._archive = window, archive
        self._most, self._revised = most_rows(memory, len(spec.features)), spec.labels.revision is not None
        self.window = selected(spec.training.window)

    def take(self, selection: Selection, cutoff: int, since: int = BEGINNING) -> Taken | None:
        """The rows of a selection at a cut-off that are not in quarantine; None for none.

        What was archived when changes nothing. More rows than memory may hold are sampled, and the result says so.

        Args:
            selection: Which rows: `window`, or ALL.
            cutoff: Highest order that counts.
            since: Least label time that counts.

        Raises:
            SegmentDamaged: A segment is not what was written.
            Transient: The store is away.
        """
        bounded = selection.capped(self._most)
        cut = Cut(cutoff, bounded.since(cutoff, since), self._recent.quarantined, self._revised)
        recent = bounded.plain and bounded.newest is not None and bounded.newest <= self._recent.size
        pieces = self._recent.pieces if recent else self._archive.pieces
        taken = chosen(pieces, self._features, cut, bounded, self._seed)
        told = str(selection) if bounded == selection else f"{selection}, at most {bounded.rows} rows in memory"
        return None if taken is None else replace(taken, log=self._archive.segments.log, selection=told)
