"""What a worker's progress tells: whether it lives, and whether it is at its work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runtime.ports import Clock

LIVE_SECONDS = 120.0
"""A worker that got nowhere for so long is stuck (a fit may take a while)."""
READY_SECONDS = 10.0


class Pulse:
    """Noted by the worker's thread, asked by others.

    Args:
        clock: Whose monotonic time counts.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting = False
        self._moved_at = self._stepped_at = clock.monotonic()

    def moved(self) -> None:
        """It got on: a place restored, a list on the log."""
        self._moved_at = self._clock.monotonic()

    def stepped(self) -> None:
        """It finished a round."""
        self._moved_at = self._stepped_at = self._clock.monotonic()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """While something outside is waited for; that it is over is progress."""
        self._waiting = True
        try:
            yield
        finally:
            self.moved()
            self._waiting = False

    @property
    def live(self) -> bool:
        """Whether it gets on, or waits for something outside: a restart would not help then."""
        return self._waiting or self._clock.monotonic() - self._moved_at < LIVE_SECONDS

    @property
    def steps(self) -> bool:
        """Whether it finished a round a moment ago."""
        return self._clock.monotonic() - self._stepped_at < READY_SECONDS
