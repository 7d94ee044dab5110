"""The process of one fit: it hears an order, answers with a result, and ends.

It ends at once, too, when its parent does or lets go of it, and when it needs more memory than it may. Should the
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
from time import monotonic, process_time

import msgspec
import skops.io

from services.training.domain.estimators import Refused
from services.training.domain.fitting import Fit
from services.training.domain.work import Numbers, Result, Work, unpacked

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
    """Do the one fit that the parent orders."""
    parent, heard = Connection(connection), SimpleQueue[bytes]()
    threading.Thread(target=_hear, args=(parent, heard), daemon=True).start()
    threading.Thread(target=_watch, args=(memory,), daemon=True).start()
    _volunteer()
    try:
        parent.send_bytes(msgspec.msgpack.encode(done(unpacked(heard.get(), heard.get()))))
    except MemoryError:
        os._exit(TOO_LARGE)


def done(work: Work) -> Result:
    """What comes of a fit."""
    began, worked = monotonic(), process_time()
    try:
        made = work.do()
    except Refused as error:
        return Result(refused=str(error), seconds=monotonic() - began, cpu_seconds=process_time() - worked)
    return _result(made, monotonic() - began, process_time() - worked)


def _result(made: Fit, seconds: float, cpu_seconds: float) -> Result:
    return Result(
        estimator=skops.io.dumps(made.estimator),
        encoding=made.encoding,
        verdict=made.verdict,
        outputs=Numbers.of(made.outputs),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        peak_bytes=peak(),
    )


def peak() -> int:
    """Most bytes of memory that this process has had resident."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes where there is no /proc


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
