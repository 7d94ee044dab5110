"""The whole concept family on river's streams: a smaller run of `benchmarks.drift_concept`."""

import pytest

from benchmarks.drift_concept import HELD_OUT, adwin, judged, losses


@pytest.mark.parametrize("name", ["sea", "rbf"])
def test_a_change_of_concept_is_told_once_and_no_later_than_by_adwin_alone(name: str) -> None:
    given = losses(name, 1)
    early, delay, second = judged(given)
    _, alone = adwin(given.wrong[HELD_OUT:])
    assert (early, second) == (0, 0)
    assert delay is not None
    assert alone is not None
    assert delay <= alone
