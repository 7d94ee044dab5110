"""Ending on a signal, in order."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Asked:
    """Whether a signal asked this process to stop; a handler may set a flag and nothing more."""

    def __init__(self) -> None:
        self.by: str | None = None

    def __call__(self, number: int, _: object) -> None:
        """Take note of a signal."""
        self.by = signal.Signals(number).name


@contextlib.contextmanager
def signals() -> Iterator[Asked]:
    """Take note of the signals that ask a process to stop, instead of ending at once."""
    asked = Asked()
    before = {number: signal.signal(number, asked) for number in STOPPING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let every such signal raise KeyboardInterrupt, as Ctrl-C does, so that contexts end in order."""
    before = {number: signal.signal(number, _interrupt) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_: int, __: object) -> None:
    raise KeyboardInterrupt
