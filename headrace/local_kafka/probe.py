"""Ports, and whether a broker answers on one.

A listening port is not a ready broker: it accepts connections before it knows itself to be alive in its cluster. So
the probe asks for metadata, as a client's first request does, and wants at least one living broker in the answer. It
speaks the few bytes itself because Kafka's client libraries live behind the doors of `runtime`.
"""

import random
import socket
import struct

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
"""Below every system's range for outgoing connections: a client that knocks at a stopped broker cannot be given the
broker's own port for its end, which would connect it to itself and block the restart."""

_API_METADATA, _VERSION, _CORRELATION = 3, 1, 7
_CLIENT = b"headrace-probe"
_NO_TOPICS = struct.pack(">i", 0)


def is_free(port: int) -> bool:
    """Whether a server can listen on the port now; connections in TIME_WAIT do not count."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((HOST, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Different ports that were free a moment ago, in no order that two callers share."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)  # noqa: S311 - not a secret, only unlikely to be another's choice
        if port not in found and is_free(port):
            found.append(port)
    return found


def answers(port: int, timeout: float = 1.0) -> bool:
    """Whether a Kafka broker that counts itself alive answers on the port within `timeout` seconds."""
    try:
        with socket.create_connection((HOST, port), timeout) as connection:
            connection.sendall(_metadata_request())
            size = struct.unpack(">i", _read(connection, 4))[0]
            correlation, brokers = struct.unpack(">ii", _read(connection, min(size, 8)))
    except (OSError, EOFError, struct.error):
        return False
    return bool(correlation == _CORRELATION and brokers > 0)


def _metadata_request() -> bytes:
    header = struct.pack(">hhih", _API_METADATA, _VERSION, _CORRELATION, len(_CLIENT)) + _CLIENT
    request = header + _NO_TOPICS
    return struct.pack(">i", len(request)) + request


def _read(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise EOFError
        received += part
    return received
