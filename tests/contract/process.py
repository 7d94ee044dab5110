"""A worker of the contract suite as a process: it says what its handler says, and how it ended, as lines of JSON."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime.clock import SystemClock
from runtime.errors import LeaseLost
from runtime.lease import Lease
from runtime.ports import Carrier
from runtime.worker import Worker
from tests.contract.crashing import Crashing
from tests.contract.handlers import DIGEST, HANDLERS, Surroundings
from tests.contract.rig import GROUP

LEASE_SECONDS = 0.25


def kafka(brokers: str, pipeline: str, datadir: Path) -> Carrier:  # noqa: ARG001 - one signature for all carriers
    from runtime.kafka import KafkaCarrier  # noqa: PLC0415 - a process loads the client of its carrier only

    return KafkaCarrier(brokers, pipeline, GROUP)


def streams(brokers: str, pipeline: str, datadir: Path) -> Carrier:
    from runtime.streams import StreamsCarrier  # noqa: PLC0415 - a process loads the client of its carrier only

    return StreamsCarrier(brokers, pipeline, GROUP, datadir=datadir)


CARRIERS: Mapping[str, Callable[[str, str, Path], Carrier]] = {"kafka": kafka, "streams": streams}


def say(what: Mapping[str, Any]) -> None:
    """One line, in one write, so that a killed process leaves whole lines."""
    os.write(1, json.dumps(what).encode() + b"\n")


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def freeze_self() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hold(worker: Worker) -> None:
    """Beat four times a second, and leave at once when this process stood still."""
    while True:
        SystemClock().sleep(LEASE_SECONDS)
        try:
            worker.beat()
        except LeaseLost as error:
            say({"event": "ended", "error": "LeaseLost", "text": str(error)})
            os._exit(1)


def build(task: Mapping[str, Any]) -> Worker:
    options = task["options"]
    carrier = CARRIERS[task["carrier"]](task["brokers"], task["pipeline"], Path(task["datadir"]))
    if "crash_after" in options:
        carrier = Crashing(carrier, options["crash_topic"], options["crash_after"], kill_self)
    handler = HANDLERS[task["handler"]](Surroundings(say, freeze_self, options))
    lease = Lease(SystemClock()) if options.get("lease", True) else None
    worker = Worker(handler, carrier, pipeline=DIGEST, lease=lease)
    threading.Thread(target=hold, args=(worker,), daemon=True).start()
    return worker


def run(task: Mapping[str, Any]) -> None:
    """Work until SIGTERM; what is said goes to the file `said` in the task's folder, errors to `errors`."""
    for name, number in (("said", 1), ("errors", 2)):
        with (Path(task["datadir"]) / name).open("wb") as file:
            os.dup2(file.fileno(), number)
    try:
        worker = build(task)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        worker.run()
    except BaseException as error:
        say({"event": "ended", "error": type(error).__name__, "text": str(error)})
        raise
    say({"event": "ended", "error": "", "text": ""})
