"""The way to Kafka: whether somebody listens there, asked before any client waits for a quarter of a minute."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from runtime.errors import WrongSetup
from runtime.kafka import KafkaLog

TIMEOUT_S = 2.0


def require_kafka(brokers: str) -> None:
    """Return when one of the brokers accepts a connection.

    Raises:
        WrongSetup: An address has no port, or nobody listens at any of them.
    """
    if not any(_listens(*_address(each)) for each in brokers.split(",")):
        raise WrongSetup(
            f"no Kafka answers at {brokers}: start one with `headrace kafka start`, use `headrace up --kafka`, or name "
            "another with --brokers host:port (or HEADRACE_BROKERS)"
        )


@contextlib.contextmanager
def log_of(pipeline: str, brokers: str, reader: str) -> Iterator[KafkaLog]:
    """The log of a pipeline, for a command that reads it; raises as `require_kafka`."""
    require_kafka(brokers)
    with contextlib.closing(KafkaLog(brokers, pipeline, reader)) as log:
        yield log


def _address(broker: str) -> tuple[str, int]:
    host, _, port = broker.strip().rpartition(":")
    if not host or not port.isdecimal():
        raise WrongSetup(f"--brokers {broker!r}: write host:port, several with commas")
    return host.strip("[]"), int(port)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except (OSError, OverflowError):
        return False
    return True
