"""The check against zombies: who stood still must not write."""

from __future__ import annotations

from runtime.errors import LeaseLost
from runtime.ports import Clock


class Lease:
    """Tells a process that stood still (SIGSTOP, a paused machine, swap) for most of its session time-out.

    Such a process may have lost its partitions without knowing. It leaves before its next write.

    Args:
        clock: Whose monotonic time counts.
        seconds: How long a stand-still may be; below the session time-out of 6 s.
    """

    def __init__(self, clock: Clock, seconds: float = 4.0) -> None:
        self._clock, self._seconds = clock, seconds
        self._beat: float | None = None  # counts from the first check: connecting may take a while

    def check(self) -> None:
        """Renew, or raise `LeaseLost` when that is too late: before each write, and four times a second."""
        now = self._clock.monotonic()
        if self._beat is not None and now - self._beat > self._seconds:
            raise LeaseLost(
                f"this process stood still for {now - self._beat:.1f} s: another one may own its partitions"
            )
        self._beat = now
