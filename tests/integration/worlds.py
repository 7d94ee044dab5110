"""Streams that change, through the handlers of all services in memory: what was predicted, and what training did."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.following import whole
from headrace.loop import Loop
from headrace.report import examples
from headrace.simulate import assemble
from runtime.memory import MemoryLog
from runtime.model import fetch
from runtime.signing import keys_in_memory
from runtime.store import Store
from schemas import cloudevents
from schemas.messages import Decision, Member, Pool, moment, rfc3339
from schemas.pipeline import Pipeline, parse

Floats = npt.NDArray[np.float64]

START, STEP = 1_700_000_000_000, 3_000
"""Event time of the first row, and milliseconds between two."""
SECONDS = 0.1
"""Between two rows on the clock: by it ingestion calls the partitions idle that nobody uses."""
LATE = 20
"""Rows until a label comes."""

SPEC = """
pipeline: world
task: binary
events:
  id: id
  time: at
  fields:
    at: {type: timestamp}
    x: {type: number}
    y: {type: number}
labels: {id: id, time: at, field: up, type: boolean, horizon: 1h}
features: {x: x, y: y}
windows: {per: partition}
model: {estimator: logistic_regression}
drift: {pane: 1m, lateness: 0s, settle: 1000}
training: {min_rows: 1000, window: 5000, cooldown: 0s, fits: FITS}
"""


@dataclass(frozen=True, slots=True)
class World:
    """A stream: row i comes from source i modulo `sources`.

    Attributes:
        x: What the label depends on.
        y: What it does not depend on.
        up: The labels.
        sources: Partitions of events and labels that are used.
    """

    x: Floats
    y: Floats
    up: npt.NDArray[np.bool_]
    sources: int = 2

    def play(self, fits: str = "1000 per 1d", turn: int = 25) -> Played:
        """Run it, `turn` rows between two rounds of the services."""
        spec = parse(SPEC.replace("FITS", fits))
        store = Store("memory://", keys_in_memory())
        loop = assemble(spec, store, 2)
        for row in range(len(self.x)):
            self._say(loop, row)
            if row % turn == turn - 1:
                loop.settle()
        loop.settle()
        return Played(spec, loop.log, len(self.x), store)

    def _say(self, loop: Loop, row: int) -> None:
        at = rfc3339(moment(START + row * STEP))
        event = {"id": f"e{row}", "at": at, "x": float(self.x[row]), "y": float(self.y[row])}
        loop.say("events", row % self.sources, json.dumps(event).encode(), None)
        if (known := row - LATE) >= 0:
            label = {"id": f"e{known}", "at": at, "up": bool(self.up[known])}
            loop.say("labels", known % self.sources, json.dumps(label).encode(), None)
        loop.clock.advance(SECONDS)


@dataclass(frozen=True, slots=True)
class Played:
    """What a run left behind."""

    spec: Pipeline
    log: MemoryLog
    rows: int
    store: Store

    def answers(self, version: int, x: Floats, y: Floats) -> npt.NDArray[np.bool_]:
        """What a member says of rows."""
        (member,) = [each for each in self.members() if each.version == version]
        batch = pa.RecordBatch.from_pydict({"x": x, "y": y})
        return fetch(self.store, member, self.spec.feature_types).score(batch) >= 0.5

    def right(self, truth: npt.NDArray[np.bool_]) -> Floats:
        """Whether each row's prediction was the truth; NaN where there was none."""
        told = examples(self.log)
        found = np.full(self.rows, np.nan)
        for name, given in zip(told["_event_id"].to_list(), told["_prediction"].to_list(), strict=True):
            if given is not None:
                row = int(name[1:])
                found[row] = (given >= 0.5) == truth[row]
        return found

    def announced(self) -> list[Member | Pool]:
        messages = (cloudevents.decode(each.value or b"").message() for _, each in whole(self.log, "models"))
        return [each for each in messages if isinstance(each, (Member, Pool))]

    def members(self) -> list[Member]:
        return [each for each in self.announced() if isinstance(each, Member)]

    def pools(self) -> list[Pool]:
        return [each for each in self.announced() if isinstance(each, Pool)]

    def decisions(self, step: str) -> list[Decision]:
        told = (cloudevents.decode(each.value or b"").read(Decision) for _, each in whole(self.log, "decisions"))
        return [each for each in told if each.step == step]


def row_of(said: Decision) -> int:
    """The row at whose time something was decided."""
    assert said.time is not None
    return int((said.time.timestamp() * 1000 - START) / STEP)
