"""Ids whose waiting has ended: who comes again under one of them is a copy, or too late."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class Ended:
    """Ids, for as long as a copy of them may come."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._runs: deque[tuple[int, list[str]]] = deque()

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._ids

    def isdisjoint(self, ids: Sequence[str]) -> bool:
        """Whether none of the ids is here."""
        return self._ids.isdisjoint(ids)

    def add(self, ids: list[str], newest: int) -> None:
        """These have ended; `newest` is the greatest time among their rows and labels, milliseconds."""
        self._ids.update(ids)
        self._runs.append((newest, ids))

    def expire(self, before: int) -> None:
        """Forget those whose newest time is below `before`, in the order in which they ended."""
        while self._runs and self._runs[0][0] < before:
            self._ids.difference_update(self._runs.popleft()[1])
