"""A local Kafka for development that stays when the command that started it ends."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import psutil

from headrace.local_kafka import launcher
from headrace.local_kafka.broker import STOP_TIMEOUT_S, fetch_for, wait_until_ready
from headrace.local_kafka.home import Home, Running
from headrace.local_kafka.jars import Progress
from headrace.local_kafka.settings import LocalKafkaSettings

_POLL_S = 0.05


def start_detached(
    home: Path,
    port: int | None = None,
    *,
    settings: LocalKafkaSettings | None = None,
    progress: Progress | None = None,
) -> Running:
    """Start a broker that outlives this process; return when it answers.

    Raises:
        AlreadyRunningError: one lives on this directory; `status` gives its address.
        LocalKafkaError: any other reason, with the mend; nothing is left running.
    """
    place = Home(home)
    jars = fetch_for(settings, progress)
    place.refuse_if_running()
    ports = place.choose_ports(port)
    pid = _launch(place, place.prepare(ports, jars))
    try:
        running = place.remember(pid, ports.address)
        wait_until_ready(place, ports, lambda: place.running() is not None)
    except BaseException:
        _end(pid, gently=False)
        place.forget()
        raise
    return running


def status(home: Path) -> Running | None:
    """The broker that lives on this directory, detached or not; None when there is none."""
    return Home(home).running()


def stop(home: Path) -> bool:
    """Stop the broker of this directory and wait until it is gone; False when none ran."""
    place = Home(home)
    found = place.running()
    if found:
        _end(found.pid, gently=True)
    place.forget()
    return found is not None


def _launch(place: Home, command: list[str]) -> int:
    with place.log.open("ab") as log:
        launched = subprocess.run(
            [sys.executable, "-I", "-S", launcher.__file__, *command], stdout=subprocess.PIPE, stderr=log, check=True
        )
    return int(launched.stdout)


def _end(pid: int, *, gently: bool) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if gently:
            process.terminate()
        if not (gently and _gone_within(process, STOP_TIMEOUT_S)):
            process.kill()
            _gone_within(process, STOP_TIMEOUT_S)


def _gone_within(process: psutil.Process, seconds: float) -> bool:
    # Not psutil's wait: in a container without an init nobody collects the dead, and it would wait for ever.
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(_POLL_S)
    return False
