"""The process of fits: it hears an order, answers with a result, and waits for the next.

It ends at once when its parent does or lets go of it, and when it needs more memory than it may. Should the
system run out of memory, this is the process to kill, not the controller.
"""

from __future__ import annotations

import os
import resource
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Event

BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from services.training.child import main
main(int(sys.argv[2]), int(sys.argv[3]))
"""
"""Run with `python -c`: the module search path of the parent as JSON, the number of the connection, bytes of memory."""

TOO_LARGE = 83
"""Exit code: more memory than allowed."""
LOOK_SECONDS = 0.05


def main(connection: int, memory: int) -> None:
    """Do the fits that the parent orders."""
    parent, heard = Connection(connection), SimpleQueue[bytes]()
    threading.Thread(target=_hear, args=(parent, heard), daemon=True).start()
    threading.Thread(target=_watch, args=(memory,), daemon=True).start()
    _volunteer()
    from services.training.doing import answer  # noqa: PLC0415 - takes seconds, and the parent may end meanwhile

    try:
        while True:
            order, rows = heard.get(), heard.get()
            _forget_peak()
            parent.send_bytes(answer(order, rows, peak))
    except MemoryError:
        os._exit(TOO_LARGE)


def peak() -> int:
    """Most bytes of memory that this process has had resident, in this fit."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes where there is no /proc


def _forget_peak() -> None:
    """The fit before was another one's; where there is no /proc the most of all counts."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _hear(parent: Connection, heard: SimpleQueue[bytes]) -> None:
    try:
        while True:
            heard.put(parent.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _watch(memory: int) -> None:
    while peak() <= memory:
        Event().wait(LOOK_SECONDS)
    os._exit(TOO_LARGE)


def _volunteer() -> None:
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
