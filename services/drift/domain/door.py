"""What became of rows at the door: good, refused and why, too late, or with an id that came before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from schemas.events import YEARS_1_TO_9999
from schemas.reasons import Reason

DOOR = 0
"""Stands for a member in drift-counts where rows are counted by their fate; members begin with 1."""

FATES: tuple[str, ...] = ("ok", *(str(reason) for reason in Reason), "late", "duplicate")
"""What may become of a row, in the order of the counts.

A refused row has no event time: it counts in the pane that its source had reached. A late one counts in the pane that
was the oldest open one when it came. Of rows of one pane that have the same id one is good.
"""

OK, LATE, DUPLICATE = (FATES.index(each) for each in ("ok", "late", "duplicate"))
CODES = {code: index for index, code in enumerate(FATES)}
NO_TIME = YEARS_1_TO_9999[0]
"""What ingestion says of a source that others had read before it."""

Ints = npt.NDArray[np.int64]


def reached(source: int, marks: dict[int, b.Watermark]) -> int | None:
    """Event time in milliseconds that a source had come to; that of the furthest one where it has none itself.

    None where no source has any.
    """
    known = {each: time for each, (time, _) in marks.items() if time > NO_TIME}
    return known.get(source, max(known.values(), default=None))


class Ids:
    """The ids of rows of open panes."""

    def __init__(self) -> None:
        self._kept: dict[int, list[tuple[int, pa.Array]]] = {}

    def add(self, pane: int, source: int, ids: pa.Array) -> None:
        """Keep the ids of some rows of a pane and source."""
        self._kept.setdefault(pane, []).append((source, ids))

    def repeated(self, newest: int) -> list[tuple[int, int, int]]:
        """Pane, source and how many rows have an id that another row of the pane has, in panes up to the newest.

        Of rows with one id, one of the lowest source is left out. The panes are forgotten.
        """
        panes = [pane for pane in self._kept if pane <= newest]
        kept = [(pane, *each) for pane in panes for each in self._kept.pop(pane)]
        if not kept:
            return []
        coded = pa.concat_arrays([ids for *_, ids in kept]).dictionary_encode()
        if len(coded.dictionary) == len(coded):  # nearly always
            return []
        sizes = [len(ids) for *_, ids in kept]
        pane, source = (np.repeat([each[part] for each in kept], sizes) for part in (0, 1))
        ids = coded.indices.to_numpy(zero_copy_only=False)
        order = np.lexsort((source, ids, pane))
        pane, source, ids = pane[order], source[order], ids[order]
        again = np.flatnonzero((pane[1:] == pane[:-1]) & (ids[1:] == ids[:-1])) + 1
        found, counts = np.unique(np.stack((pane[again], source[again])), axis=1, return_counts=True)
        return [(int(p), int(s), int(count)) for (p, s), count in zip(found.T, counts, strict=True)]
