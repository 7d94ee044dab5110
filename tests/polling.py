"""Waiting in tests: until a condition holds, and never longer than it may take."""

import time
from collections.abc import Callable


def eventually(holds: Callable[[], object], seconds: float = 15.0, pause: float = 0.05) -> bool:
    """Whether a condition comes to hold within so many seconds; asked again after every pause."""
    deadline = time.monotonic() + seconds
    while not (held := bool(holds())) and time.monotonic() < deadline:
        time.sleep(pause)
    return held
