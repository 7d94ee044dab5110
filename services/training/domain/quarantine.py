"""Which rows are bad data: by event time, and by source where only one was wrong."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import batch as b
from schemas.artefact import Quarantine
from schemas.messages import DriftEpisode, Scalar

EVENTS = f"{b.EVENTS}/"
"""Before the partition in the name of a source."""


def held(rows: pa.RecordBatch, quarantined: Iterable[Quarantine]) -> npt.NDArray[np.bool_]:
    """Whether each row is in quarantine."""
    found = np.zeros(rows.num_rows, bool)
    for each in quarantined:
        found |= _within(rows, each)
    return found


def _within(rows: pa.RecordBatch, quarantine: Quarantine) -> npt.NDArray[np.bool_]:
    times = rows.column(b.TIME).cast(pa.int64()).to_numpy(zero_copy_only=False)
    within: npt.NDArray[np.bool_] = times >= quarantine.start
    if quarantine.stop is not None:
        within &= times < quarantine.stop
    if quarantine.source is not None:
        within &= b.sources(rows) == quarantine.source
    return within


def clean(rows: pa.RecordBatch, quarantined: Iterable[Quarantine]) -> pa.RecordBatch:
    """The rows that are not in quarantine."""
    wrong = held(rows, quarantined)
    return rows.filter(pa.array(~wrong)) if wrong.any() else rows


def shortened(quarantine: Quarantine, stop: int) -> Quarantine:
    """The same with an end, where that is earlier than its own: in whichever order ends are heard, one comes out."""
    if quarantine.stop is not None and quarantine.stop <= stop:
        return quarantine
    return quarantine._replace(stop=stop)


def quarantine_of(episode: DriftEpisode) -> Quarantine:
    """What an episode of bad data holds back from its probable start on, as long as it is open."""
    return Quarantine(epoch_ms(episode.estimated_start), source=_source(episode))


def epoch_ms(time: datetime) -> int:
    """Milliseconds of the epoch."""
    return round(time.timestamp() * 1000)


def _source(episode: DriftEpisode) -> int | None:
    """The only source that was wrong: as the judge says, else that of all streams; None where there is no such one."""
    told = episode.evidence.get("source")
    named: set[Scalar] = {each.source for each in episode.streams} if told is None else {told}
    name = named.pop() if len(named) == 1 else None
    if not isinstance(name, str) or not name.startswith(EVENTS):
        return None
    number = name.removeprefix(EVENTS)
    return int(number) if number.isdecimal() else None
