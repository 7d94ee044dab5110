"""The demo's four changes over the product's own handlers, in memory: found, named and followed, whatever the seed."""

from itertools import islice

import pytest

from headrace.demo.command import COURSE, MOST_ROWS, PARTITIONS, PIPELINE
from headrace.demo.reading import Reading
from headrace.demo.story import ALARM, CHANGE, EARLY, NAMED, RIGHT, SHIFT, SWAPPED, UNIT, WEAR, Story
from headrace.demo.stream import GATEWAYS, OPTIONS, readings
from headrace.rows import messages
from headrace.simulate import assemble, run
from runtime.store import Store
from schemas.pipeline import load

SPEC = load(PIPELINE)
TURN = 400
"""Messages between two looks at what happened."""
LAST = COURSE.wear.start + 3_000


def lived(seed: int) -> Story:
    """The demo's stream of another seed, told as the demo tells it, to the end or to the first thing that is wrong."""
    store = Store("memory://")
    loop, story = assemble(SPEC, store, PARTITIONS, sources=GATEWAYS), Story(COURSE)
    reading, sent = Reading(loop.log, store, story, OPTIONS.prefix), 0
    rows = readings(MOST_ROWS, COURSE.change, seed, COURSE.wrong, COURSE.wear)
    inputs = messages(rows[:LAST], SPEC, OPTIONS)
    while not (story.closed or story.wrong) and (turn := list(islice(inputs, TURN))):
        run(loop, SPEC, turn)
        sent += sum(each.kind == "events" for each in turn)
        story.sent(loop.clock.now(), sent)
        reading.look()
    return story


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [7, 21, 22])
def test_the_four_changes_are_told_apart_whatever_the_seed(seed: int) -> None:
    story = lived(seed)
    assert story.wrong == []
    assert story.missing == []
    steps = {number: step.row for number, step in story.steps.items()}
    assert steps[CHANGE] < steps[ALARM] < steps[SWAPPED] < COURSE.known
    assert steps[UNIT] < steps[NAMED] < COURSE.wrong.stop <= steps[RIGHT] < steps[WEAR] < steps[SHIFT] <= steps[EARLY]
    assert story.accuracy.worst < story.accuracy.before - 0.2
