"""The directory of the demo: its Kafka, models and logs, made anew for each run."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from headrace import local_kafka
from headrace.errors import RunFailed, WrongUse

LEFTOVERS = ("kafka", "logs", "artefacts", "data", "keys")


@dataclass(frozen=True, slots=True)
class Home:
    """Paths of one demo.

    Attributes:
        root: Where everything is.
    """

    root: Path
    _writing: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def kafka(self) -> Path:
        """Data and log of the Kafka."""
        return self.root / "kafka"

    @property
    def logs(self) -> Path:
        """One file per service."""
        return self.root / "logs"

    @property
    def data(self) -> Path:
        """What services may lose."""
        return self.root / "data"

    @property
    def keys(self) -> Path:
        """The pair that signs its models."""
        return self.root / "keys"

    @property
    def artefacts(self) -> str:
        """URL of the models."""
        return f"file://{self.root.resolve() / 'artefacts'}"

    def clear(self) -> None:
        """Remove what an earlier demo left, and nothing else.

        Raises:
            RunFailed: Another demo runs here.
            WrongUse: The directory cannot be written.
        """
        if running := local_kafka.status(self.kafka):
            raise RunFailed(
                f"a demo runs on {self.root} already (Kafka at {running.address}, process {running.pid}): wait for its "
                "end, or choose another directory with --home"
            )
        for leftover in LEFTOVERS:
            shutil.rmtree(self.root / leftover, ignore_errors=True)
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WrongUse(
                f"{self.logs} cannot be made: {error.strerror}. Choose another directory with --home"
            ) from error

    def keep(self, name: str, line: str) -> None:
        """Append a line to a service's log."""
        with self._writing, (self.logs / f"{name}.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
