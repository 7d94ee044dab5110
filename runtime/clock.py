"""The real clock; the virtual one is in `runtime.memory`."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since boot or thereabouts."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let other threads run for so long."""
        time.sleep(seconds)
