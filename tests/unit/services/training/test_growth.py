"""Fits because the labelled rows grew: on all of them, and beside it on the newest."""

from __future__ import annotations

from tests.unit.services.training.loop import STEP, Loop, labelled, spec
from tests.unit.services.training.test_handler import first_fit


def test_growth_by_a_third_makes_a_fit_on_all_rows_however_they_come() -> None:
    found = []
    for messages, restarts in ((500, False), (3, False), (3, True)):
        loop = Loop(spec(seats=6, fits="100 per 1d"))
        loop.start(max_messages=messages)
        first_fit(loop)
        for start in range(300, 1200, 100):
            loop.examples(labelled(start, 100))
            loop.passes((start + 106) * STEP)
            loop.run()
            if restarts:
                loop.start(max_messages=messages)
                loop.run()
        found.append([(each.cause.id, each.rows, each.digest) for each in loop.members()])
    assert found[0] == found[1] == found[2]
    grown = [name for name, *_ in found[0] if name.startswith("shop/growth")]
    assert grown[:3] == ["shop/growth/260/all", "shop/growth/260/newest", "shop/growth/338/all"]
    assert [rows for name, rows, _ in found[0] if name == "shop/growth/572/all"] == [572]
    assert [rows for name, rows, _ in found[0] if name == "shop/growth/572/newest"] == [100]
