"""Rows, wall and CPU seconds of a baseline, from its first event to its last, as one JSON line on stdout."""

from __future__ import annotations

import json
import sys
import time


class Watch:
    """Starts once, at the first event."""

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """The first event is here; later calls do nothing."""
        if not self._wall:
            self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, rows: int) -> None:
        """Print what it took."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        line = json.dumps({"rows": rows, "seconds": wall, "cpu_seconds": cpu})
        print(line, file=sys.__stdout__, flush=True)  # Faust turns sys.stdout into a log
