"""Sending keeps order and rate."""

from collections.abc import Sequence

from headrace.rows import Input
from headrace.sending import Sender
from runtime.memory import VirtualClock
from runtime.ports import Outgoing


class Publisher:
    """Takes note of what is sent and when."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.sent: list[tuple[float, Outgoing]] = []
        self.confirmed = 0

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        self.sent += [(self._clock.monotonic(), each) for each in outgoing]

    def confirm(self) -> None:
        self.confirmed = len(self.sent)


def inputs(count: int) -> list[Input]:
    return [Input("events", f"key-{i % 7}".encode(), str(i).encode(), i) for i in range(count)]


def sender(rate: float | None = None, *, by_key: bool = True) -> tuple[Sender, Publisher]:
    clock = VirtualClock()
    publisher = Publisher(clock)
    return Sender(publisher, {"events": 3, "labels": 2}, clock, rate=rate, by_key=by_key), publisher


def test_everything_is_confirmed_in_order() -> None:
    made, publisher = sender()
    sent = made.send(inputs(1_234))
    assert [int(each.value or b"") for _, each in publisher.sent] == list(range(1_234))
    assert publisher.confirmed == sent.events == 1_234


def test_a_rate_is_kept_from_the_first_second_on() -> None:
    made, publisher = sender(rate=200)
    sent = made.send(inputs(1_001))
    assert 4.9 <= sent.seconds <= 5.1
    assert abs(sum(moment < 1 for moment, _ in publisher.sent) - 200) <= 2


def test_flat_out_never_sleeps() -> None:
    made, _ = sender()
    assert made.send(inputs(5_000)).seconds == 0


def test_a_key_stays_in_its_partition() -> None:
    made, publisher = sender()
    made.send(inputs(100))
    assert len({(each.key, each.partition) for _, each in publisher.sent}) == 7


def test_turns_fill_every_partition_evenly() -> None:
    made, publisher = sender(by_key=False)
    made.send(inputs(99))
    assert [each.partition for _, each in publisher.sent] == [0, 1, 2] * 33


def test_progress_is_told_along_the_way_at_any_rate() -> None:
    for rate in (50, 1_000, None):
        made, _ = sender(rate)
        seen: list[int] = []
        made.send(inputs(1_000), lambda events, _, seen=seen: seen.append(events))  # type: ignore[misc]
        assert seen[0] <= 500
        assert seen[-1] == 1_000


def test_progress_counts_up_to_everything() -> None:
    made, _ = sender()
    seen: list[tuple[int, int]] = []
    made.send([*inputs(3), Input("labels", b"k", b"{}", 1)], lambda *counts: seen.append(counts))
    assert seen[-1] == (3, 1)
