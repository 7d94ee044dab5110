"""What a child process runs: a service's module, which ends when whoever started it does.

Standard input is a pipe whose other end only the parent holds. The pipe closes when the parent closes it or dies, by
kill -9 too, on Linux and on macOS; then this process asks itself to stop as a signal would, and insists after a while.

Run as a plain file with `python -P`, so that no directory of the user's project can stand in for our packages.
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE_S = 12.0
"""Longer than a service takes to drain."""


def main(root: str, module: str) -> None:
    """Run the module as `python -m` would."""
    threading.Thread(target=_stop_with_parent, name="parent", daemon=True).start()
    sys.path.append(root)  # where headrace is not installed, it lies beside us; behind what is installed otherwise
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _stop_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
