"""What a child process runs: a service's module, which ends when whoever started it does.

Standard input is a pipe whose other end only the parent holds. A first line on it says that the module may run; until
then it is imported, which takes most of the time of a start. The pipe closes when the parent closes it or dies, by
kill -9 too, on Linux and on macOS; then this process asks itself to stop as a signal would, and insists after a while.

Run as a plain file with `python -P`, so that no directory of the user's project can stand in for our packages.
"""

import importlib
import importlib.util
import os
import runpy
import signal
import sys
import threading
import time

GRACE_S = 12.0
"""Longer than a service takes to drain."""


def main(root: str, module: str) -> None:
    """Import the module, and run it as `python -m` would when the parent says so."""
    released = threading.Event()
    threading.Thread(target=_hear_parent, args=(released,), name="parent", daemon=True).start()
    sys.path.append(root)  # where headrace is not installed, it lies beside us; behind what is installed otherwise
    sys.argv = [module]
    if _is_package(module):
        importlib.import_module(f"{module}.__main__")
        del sys.modules[f"{module}.__main__"]  # what it imported stays; it runs under its other name
    released.wait()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _is_package(module: str) -> bool:
    found = importlib.util.find_spec(module)
    return found is not None and found.submodule_search_locations is not None


def _hear_parent(released: threading.Event) -> None:
    while os.read(0, 1024):
        released.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
