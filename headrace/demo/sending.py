"""Sends the demo's stream from a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence

from headrace.rows import Input
from headrace.sending import Sender, carrier, partitions
from runtime.clock import SystemClock
from runtime.errors import HeadraceError

CLOSE_S = 5.0
SAMPLE = 50
"""Events between two samples of how far the stream is."""


class Stream:
    """Sends from entry on until everything is sent or the context ends.

    Args:
        brokers: Kafka bootstrap servers.
        pipeline: Name of the pipeline.
        inputs: What to send.
        rate: Events per second.
        holds: Events after which it waits for `go_on`, ascending.
    """

    def __init__(self, brokers: str, pipeline: str, inputs: Iterator[Input], rate: float, holds: Sequence[int]) -> None:
        self._carrier, self._inputs, self._rate = carrier(brokers, pipeline), inputs, rate
        self._holds = {row: threading.Event() for row in holds}
        self._clock = SystemClock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, name="stream", daemon=True)
        self._failure: HeadraceError | None = None
        self._samples: deque[tuple[int, int]] = deque()
        self.events = 0
        """Events sent so far."""

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.go_on(len(self._holds))
        self._thread.join(CLOSE_S)
        self._carrier.close()

    def raise_failure(self) -> None:
        """Raise what ended the sending before its time."""
        if self._failure is not None:
            raise self._failure

    def samples(self) -> Iterator[tuple[int, int]]:
        """When, epoch milliseconds, how many events had been sent; each is given once, in order."""
        while self._samples:
            yield self._samples.popleft()

    def go_on(self, places: int) -> None:
        """Let the stream pass the first so many places where it waits."""
        for held in list(self._holds.values())[:places]:
            held.set()

    def _send(self) -> None:
        try:
            counts, done = partitions(self._carrier), 0
            for row, held in self._holds.items():
                done = self._part(counts, done, row)
                held.wait()
                self._samples.append((self._clock.now(), done))
            self._part(counts, done, None)
        except HeadraceError as error:
            self._failure = error

    def _part(self, counts: dict[str, int], done: int, until: int | None) -> int:
        """Send on up to a row, None for all; the number of events sent by then. Each part keeps the rate by itself."""
        sender = Sender(self._carrier, counts, self._clock, rate=self._rate)
        most = None if until is None else until - done
        return done + sender.send(self._next(most), lambda events, _: self._progress(done + events)).events

    def _progress(self, events: int) -> None:
        if events - self.events >= SAMPLE or self.events == 0:
            self._samples.append((self._clock.now(), events))
            self.events = events

    def _next(self, most: int | None) -> Iterator[Input]:
        """What comes next, up to so many events."""
        events = 0
        while not self._stopping.is_set() and (each := next(self._inputs, None)) is not None:
            yield each
            events += each.kind == "events"
            if events == most:
                return
