"""What the composition roots of all services share: settings, logs, health, signals, and how a process ends.

Exit codes: 0 drained after SIGTERM, 1 crashed (start again), 2 wrong setup (a person has to mend something).
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from runtime import logs
from runtime.clock import SystemClock
from runtime.errors import Fatal, LeaseLost, Transient, WrongSetup
from runtime.health import HealthServer
from runtime.lease import Lease
from runtime.metrics import Metrics
from runtime.ports import Carrier, Handler
from runtime.settings import ServiceSettings, read
from runtime.worker import Resume, Worker
from schemas.pipeline import Pipeline, PipelineError, load

S = TypeVar("S", bound=ServiceSettings)
log = logging.getLogger("headrace.service")

SWITCH_SECONDS = 0.0005
"""A message passes five threads of a process; at Python's default each hand-over may wait 5 ms for the interpreter."""

GC_THRESHOLDS = (10_000, 20, 500)
"""Young objects not too rarely: clients leave cycles behind, and 50,000 objects of them take 0.1 s to free.
Old ones rarely: hundreds of thousands of waiting rows are in plain dicts, and looking through all is a pause, too."""

ALLOCATOR = {-3: 32 << 20, -1: 64 << 20, -8: 1}
"""glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX: buffers of megabytes come and go with every fetch, and
the kernel would clear each of their pages anew."""

DRAIN_SECONDS = 10.0
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Context:
    """What a service's workers are built from."""

    name: str
    settings: ServiceSettings
    spec: Pipeline
    clock: SystemClock = field(default_factory=SystemClock)
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def lease(self) -> Lease:
        """A new lease, for one worker."""
        return Lease(self.clock)

    def worker(
        self, handler: Handler, carrier: Carrier, *, overlap: bool = False, resume: Resume | None = None
    ) -> Worker:
        """The worker of a handler on a carrier; `overlap` and `resume` as there."""
        return Worker(
            handler,
            carrier,
            pipeline=self.spec.digest,
            metrics=self.metrics,
            clock=self.clock,
            lease=self.lease,
            overlap=overlap,
            resume=resume,
        )


def run(name: str, kind: type[S], build: Callable[[Context, S], Sequence[Worker]]) -> None:
    """Run a service until SIGTERM; never returns normally, see the exit codes above.

    Args:
        name: The service.
        kind: Its settings class.
        build: Makes the workers.
    """
    try:
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.set_threshold(*GC_THRESHOLDS)
        _keep_memory()
        settings = read(kind)
        logs.configure(name, settings.instance, settings.log_level)
        context = Context(name, settings, load(settings.pipeline))
        process = Process(context, build(context, settings))
        gc.freeze()  # what is there by now stays, so nobody need look through it again
        code = process.run()
    except (WrongSetup, PipelineError) as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - for the person who starts it
        code = 2
    except (Transient, Fatal) as error:
        _crashed(error)
        code = 1
    _exit(code)


def _keep_memory() -> None:
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for parameter, value in ALLOCATOR.items():
            mallopt(parameter, value)


class Process:
    """Runs workers in threads until one fails or a signal asks them to drain."""

    def __init__(self, context: Context, workers: Sequence[Worker]) -> None:
        self._context, self._workers = context, workers
        self._stopping = False
        self._failures: list[BaseException] = []

    def run(self) -> int:
        """Exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        if self._context.settings.metrics_port >= 0:
            server = HealthServer(
                self._context.settings.metrics_port, self._context.metrics.registry, self._live, self._ready
            )
            log.info("started", extra={"pid": os.getpid(), "metrics_port": server.port})
        threads = [threading.Thread(target=self._work, args=(worker,), daemon=True) for worker in self._workers]
        threading.Thread(target=self._watch, name="lease", daemon=True).start()
        for thread in threads:
            thread.start()
        self._wait(threads)
        log.info("stopped", extra={"failed": bool(self._failures)})
        return self._code(threads)

    def _wait(self, threads: Sequence[threading.Thread]) -> None:
        while any(thread.is_alive() for thread in threads) and not self._failures and not self._stopping:
            self._context.clock.sleep(LOOK_SECONDS)
        self._stop()
        deadline = self._context.clock.monotonic() + DRAIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - self._context.clock.monotonic()))

    def _code(self, threads: Sequence[threading.Thread]) -> int:
        if any(isinstance(error, WrongSetup) for error in self._failures):
            return 2
        return 1 if self._failures or any(thread.is_alive() for thread in threads) else 0

    def _work(self, worker: Worker) -> None:
        try:
            worker.run()
        except WrongSetup as error:
            self._failures.append(error)
            print(f"{self._context.name}: {error}", file=sys.stderr, flush=True)  # noqa: T201
        except BaseException as error:  # noqa: BLE001 - whatever it is, the process tells it and ends
            self._failures.append(error)
            _crashed(error)

    def _stop(self) -> None:
        """Only set flags: the signal handler calls this, perhaps in the middle of what holds a lock."""
        self._stopping = True
        for worker in self._workers:
            worker.stop()

    def _watch(self) -> None:
        """Four times a second: leave at once when this process was frozen, before any worker writes again."""
        while True:
            self._context.clock.sleep(0.25)
            try:
                for worker in self._workers:
                    worker.beat()
            except LeaseLost as error:
                log.critical("lease_lost", extra={"error": str(error)})
                _exit(1)

    def _live(self) -> dict[str, bool]:
        return {f"worker-{i}": worker.live for i, worker in enumerate(self._workers)}

    def _ready(self) -> dict[str, bool]:
        """Each worker, and by name the partitions that keep one from being ready."""
        checks = {f"worker-{i}": worker.ready for i, worker in enumerate(self._workers)}
        stuck = [f"worker-{i}: {what}" for i, worker in enumerate(self._workers) for what in worker.stuck]
        return checks | dict.fromkeys(stuck, False)


def _crashed(error: BaseException) -> None:
    log.critical("crashed", extra={"error": str(error), "kind": type(error).__name__}, exc_info=error)


def _exit(code: int) -> None:
    """End at once: threads of clients must not keep a process alive that has nothing to say any more."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
