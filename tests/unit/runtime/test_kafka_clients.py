"""The mends of kafka-python that need no broker."""

import socket
from types import SimpleNamespace

from kafka.errors import KafkaConnectionError

from runtime.kafka_clients import READ_BYTES, _received


def test_all_that_lies_in_a_socket_is_read_and_its_end_is_told() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport = SimpleNamespace(_sock=ours)
    sent = bytes(range(256)) * (READ_BYTES // 256) + b"rest"
    theirs.sendall(sent)
    assert _received(transport) == (sent, None)
    theirs.sendall(b"last")
    theirs.close()
    data, error = _received(transport)
    assert data.startswith(b"last")
    assert isinstance(error, KafkaConnectionError)
    ours.close()
    assert isinstance(_received(SimpleNamespace(_sock=None))[1], KafkaConnectionError)
