"""A small process between headrace and the JVM, so that the broker never outlives who started it.

The guard's standard input is a pipe whose other end only its parent holds. The pipe closes when the parent closes it
or dies, by kill -9 too, on Linux and on macOS; then the guard asks the broker to stop, and insists after a while. When
the broker ends by itself, so does the guard, with its exit code. Its first line of output is the broker's process id.

Run as a plain file with the standard library only: it must be up in milliseconds.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_S = 15


def main(command: list[str]) -> int:
    """Run the command until it ends or our input does."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    # Signals to the group are for the parent; we go when it goes. Ignored after the start: the JVM must hear them.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    os.write(1, f"{child.pid}\n".encode())
    threading.Thread(target=_stop_with_parent, args=(child,), daemon=True).start()
    return child.wait()


def _stop_with_parent(child: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 1024):
        pass
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
