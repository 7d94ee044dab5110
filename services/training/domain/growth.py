"""How far the labelled rows have grown since the last fit on all of them, counted in the order of event time.

The window forgets rows; so what is behind the frontier is added up before, and rows are never counted by how they came.
"""

from __future__ import annotations

from math import ceil

from msgspec.structs import replace

from services.training.domain.triggers import Growth
from services.training.domain.window import Window

FACTOR = 1.3
"""Fits are made again when there are so many times the labelled rows of the last fit on all."""


def wanted(growth: Growth) -> int:
    """Labelled rows at which the next fits are due."""
    return ceil(growth.base * FACTOR)


def grown(growth: Growth, window: Window) -> Growth:
    """The same, with the order at which there were enough rows, as soon as that is behind the frontier."""
    if not growth.base or growth.ready is not None:
        return growth
    ready = window.ready(max(1, wanted(growth) - growth.rows), after=growth.counted, quarantined=True)
    return growth if ready is None or ready > window.frontier else replace(growth, ready=ready)


def settled(growth: Growth, window: Window) -> Growth:
    """The same, with all rows behind the frontier added up: the window may forget them now."""
    frontier = window.frontier
    if frontier <= growth.counted:
        return growth
    return replace(growth, counted=frontier, rows=total(growth, frontier, window))


def total(growth: Growth, until: int, window: Window) -> int:
    """Labelled rows up to an order."""
    return growth.rows + window.count(growth.counted, until)


def begun(growth: Growth, at: int, window: Window) -> Growth:
    """From the first fit on, which was made at an event time."""
    return replace(growth, base=total(growth, at, window))


def fitted(growth: Growth, newest: int | None) -> Growth:
    """From a fit on all rows on, whatever came of it.

    Args:
        growth: What it was.
        newest: Event time at which a fit on the newest rows follows, None for none.
    """
    return replace(growth, base=wanted(growth), ready=None, newest=newest)
