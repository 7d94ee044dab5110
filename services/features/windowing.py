"""Restart of window features: the rows that may still count are read from `records` and computed again, unsaid.

The own output says from where: up to one of its messages all rows were too old to count in any window to come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile

import numpy as np
import pyarrow as pa

from runtime.fold import Fold
from runtime.ports import LogReader, Message, Place
from runtime.tail import WINDOW, story, windows
from schemas import batch as b
from schemas.columns import together
from services.features.rewind import inputs_again

INPUT, OUTPUT = "records", "features"


def rows_again(log: LogReader, partition: int, restored: Message | None, reach: int) -> Iterator[pa.RecordBatch]:
    """All rows that the own output holds and that windows may reach, in the order of the log, each once.

    Args:
        log: The log.
        partition: Whose.
        restored: The message of the own output that the stage goes on behind.
        reach: How much older than the newest row a row may be and still count, milliseconds.
    """
    headers = None if restored is None else story(restored)
    if headers is None or headers.through is None:  # retention deleted every output: what was committed was covered
        last = (log.committed(Place(INPUT, partition)) or 0) - 1
        yield from _gathered(_taken(log, Fold((INPUT,)), partition, last))
        return
    newest, tops = headers.through.highest.get(b.EVENTS), headers.through.tops.get(b.EVENTS, {})
    fold = Fold((INPUT,)) if newest is None else begin(log, Place(OUTPUT, partition), INPUT, newest - reach)
    taken = _taken(log, fold, partition, headers.coverage[INPUT][1])
    yield from _gathered(_held(rows, tops) for rows in taken)


def begin(log: LogReader, output: Place, topic: str, before: int) -> Fold:
    """The fold of an input at a moment when all of it was older than `before`; empty where the output tells of none.

    The first ones of a window of the log must all say so: a single one may be a zombie's, who had seen less than its
    successor. A message that is not the final piece has passed rows whose time it does not tell.
    """
    for window in windows(log, output):
        told = [headers for message in window if (headers := story(message)) is not None and headers.final]
        if told and all(_is_old(headers, topic, before) for headers in told[:WINDOW]):
            *_, found = takewhile(lambda headers: _is_old(headers, topic, before), told)
            fold = Fold((topic,), found.through)
            fold.marks[topic] = found.coverage[topic][1]
            return fold
    return Fold((topic,))


def _is_old(headers: b.Headers, topic: str, before: int) -> bool:
    highest = {} if headers.through is None else headers.through.highest
    return topic in headers.coverage and highest.get(b.STREAM[topic], before - 1) < before


def _taken(log: LogReader, fold: Fold, partition: int, last: int) -> Iterator[pa.RecordBatch]:
    for topic, message in inputs_again(log, fold, {INPUT: last}, partition):
        yield fold.take(topic, message.offset, message.batch, message.headers)[0]


def _held(rows: pa.RecordBatch, tops: Mapping[int, int]) -> pa.RecordBatch:
    """The rows up to the given ones: the output may have ended between two pieces of a message."""
    sources, orders = b.sources(rows), b.orders(rows)
    keep = np.zeros(rows.num_rows, bool)
    for source, top in tops.items():
        keep |= (sources == source) & (orders <= top)
    return rows if keep.all() else rows.filter(pa.array(keep))


def _gathered(parts: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in fewer batches: what is costly per call is then paid once for many messages."""
    held: list[pa.RecordBatch] = []
    for part in parts:
        if held and sum(each.num_rows for each in held) + part.num_rows > b.MAX_ROWS:
            yield together(held)
            held = []
        held += [part] if part.num_rows else []
    if held:
        yield together(held)
