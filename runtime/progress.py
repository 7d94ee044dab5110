"""Whether the partitions of a worker move: one that stands still for a minute while it has lag is stuck.

A client tells the end of a partition with each fetch, so what it knows stands still just when its fetching does. The
broker is asked instead: about partitions that have not moved since the last look, once each five seconds at most, in
one request per broker that nobody waits for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from runtime.metrics import Metrics
from runtime.ports import Carrier, Clock, Place

log = logging.getLogger("headrace.worker")

LOOK_SECONDS = 5.0
STUCK_SECONDS = 60.0
ELSEWHERE_SECONDS = 10.0
"""Of a longer time between two looks no more counts: the worker was busy, with a restore for instance."""


class Stand(NamedTuple):
    """Where a partition stands (-1: nowhere yet), and how long it has stood there with messages before it."""

    position: int
    seconds: float


class Progress:
    """Looked after by the worker's thread; `stuck` may be read by others.

    Args:
        carrier: Whose partitions.
        clock: Whose monotonic time counts.
        metrics: Where the lag of stuck partitions is shown.
    """

    def __init__(self, carrier: Carrier, clock: Clock, metrics: Metrics) -> None:
        self._carrier, self._clock, self._metrics = carrier, clock, metrics
        self._looked_at = clock.monotonic()
        self._stands: dict[Place, Stand] = {}
        self._stuck: Mapping[Place, int] = {}

    @property
    def stuck(self) -> list[str]:
        """What stands still, where, and before what, for a person to read."""
        found = [(place, self._stands.get(place), end) for place, end in sorted(self._stuck.items())]
        return [
            f"{place.topic}/{place.partition} stands at {stand.position}, the log ends at {end}"
            for place, stand, end in found
            if stand is not None
        ]

    def look(self) -> None:
        """Compare with the last look, when that was five seconds ago; never waits."""
        now = self._clock.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        passed, self._looked_at = min(now - self._looked_at, ELSEWHERE_SECONDS), now
        positions, before = self._carrier.positions(), self._stands
        still = [place for place, at in positions.items() if place in before and before[place].position == at]
        ends = self._carrier.ends(still)
        behind = {place for place in still if ends.get(place, -1) > positions[place]}
        self._stands = {
            place: Stand(position, before[place].seconds + passed if place in behind else 0.0)
            for place, position in positions.items()
        }
        self._tell({place: ends[place] for place in behind if self._stands[place].seconds >= STUCK_SECONDS})

    def _tell(self, stuck: Mapping[Place, int]) -> None:
        before, self._stuck = self._stuck, stuck
        for place in sorted(before.keys() - stuck.keys()):
            self._metrics.stuck.remove(place.topic, str(place.partition))
            log.info("partition_moves", extra={"place": place})
        for place, end in stuck.items():
            position = self._stands[place].position
            self._metrics.stuck.labels(place.topic, str(place.partition)).set(end - max(0, position))
            if place not in before:
                log.warning("partition_stuck", extra={"place": place, "position": position, "end": end})
