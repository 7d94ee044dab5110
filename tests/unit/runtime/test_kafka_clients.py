"""The mends of kafka-python that need no broker."""

import socket
from types import SimpleNamespace

import pytest
from kafka.errors import KafkaConnectionError
from kafka.protocol.frame import KafkaBytes
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from runtime.kafka_clients import READ_BYTES, _Batch, _received, _written


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


@pytest.mark.parametrize("codec", [DefaultRecordBatch.CODEC_NONE, DefaultRecordBatch.CODEC_GZIP])
def test_a_batch_of_bytes_holds_what_kafka_pythons_own_holds(codec: int) -> None:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=False,
        producer_id=7,
        producer_epoch=1,
        base_sequence=0,
        batch_size=1 << 20,
    )
    for n in range(5):
        headers = [("a", b"1"), ("b", None)] if n % 2 else []
        builder.append(n, 1000 + n, b"k" if n else None, b"value" * 50 * n if n != 3 else None, headers)
    sent = memoryview(bytes(builder.build()))
    own, ours = DefaultRecordBatch(sent), _Batch(sent)
    assert ours.validate_crc()
    assert (ours.base_offset, ours.producer_id) == (own.base_offset, own.producer_id)
    told = [(each.offset, each.timestamp, each.key, each.value, each.headers) for each in ours]
    assert told == [(each.offset, each.timestamp, each.key, each.value, each.headers) for each in own]
    assert {type(value) for *_, value, _ in told} == {bytes, type(None)}


def test_what_comes_in_parts_lies_one_behind_the_other() -> None:
    whole = KafkaBytes(9)
    for part in (b"abc", b"", b"defgh", b"i"):
        _written(whole, part)
    assert (bytes(whole), whole.tell()) == (b"abcdefghi", 9)
