"""A worker process for the tests of the Faust carrier: copies records to features and says how far it is."""

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from runtime.errors import Fatal
from runtime.ports import LogReader, Outgoing, Place, Polled
from runtime.streams import StreamsCarrier
from runtime.worker import Worker


class Relay:
    """One message in, the same one out; in the mode ``swell`` the message ``7`` grows above every limit."""

    inputs: tuple[str, ...] = ("records",)
    follows: tuple[str, ...] = ()
    leads = False

    def __init__(self, mode: str) -> None:
        self._mode, self._relayed, self._owned = mode, 0, set[Place]()

    def restore(self, place: Place, log: LogReader) -> list[Outgoing]:  # noqa: ARG002
        self._owned.add(place)
        print(f"owns {len(self._owned)}", flush=True)
        return []

    def follow(self, log: LogReader) -> Mapping[Place, int]:  # noqa: ARG002
        return {}

    def handle(self, polled: Sequence[Polled]) -> Iterator[Sequence[Outgoing]]:
        for _, partition, messages in polled:
            for message in messages:
                yield [Outgoing("features", partition, self._value(message.value))]
                self._relayed += 1
                if self._relayed % 100 == 0:
                    print(f"relayed {self._relayed}", flush=True)

    def _value(self, value: bytes | None) -> bytes | None:
        return bytes(5_000) if self._mode == "swell" and value == b"7" else value

    def tick(self, now: int) -> list[Outgoing]:  # noqa: ARG002
        return []

    def forget(self, place: Place) -> None:
        self._owned.discard(place)


def main(brokers: str, pipeline: str, mode: str, datadir: str) -> int:
    carrier = StreamsCarrier(brokers, pipeline, "relay", max_messages=16, datadir=Path(datadir))
    worker = Worker(Relay(mode), carrier)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    try:
        worker.run()
    except Fatal as error:
        print(f"fatal {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
