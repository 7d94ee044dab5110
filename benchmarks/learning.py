"""What is learnt from late labels: the product's whole loop beside what a user would do instead.

    python -m benchmarks.learning [--json] [--stream elec2 ...] [--policy blend ...] [--data ../shared/data]

Recorded streams, in true order: elec2 (labels 48 rows late), bike_hour (24; regression) and gas_sensor (50; 6 classes).
Ours is what `headrace simulate` runs, events and labels in, predictions out, everything at its default: `blend`, with
the online member (`blend_online`), with features over the labels that had arrived besides (`blend_windows`), and
`champion` with the gate. Beside them one fit for ever, a fit every 500 labels, a fit at each alarm of ADWIN, and
river's adaptive random forest and Hoeffding adaptive tree. All batch models are the same gradient boosting and start
from the same rows. Ours answers 200 rows with what it knew before them, the other batch models 100, river's one. What
is compared is the newest 90 % of the rows, each predicted once before its label: accuracy in percent, or root mean
squared error.

Keys: <stream>_<metric>_<policy>, fits_<stream>_<policy>, fit_seconds_…, rows_per_s_… (of CPU time, the quicker of two
runs), and labels_per_core_second, what the fold of the weights takes by itself.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console

from benchmarks.baselines import learners
from benchmarks.learning_streams import STREAMS, Stream, scored_from
from headrace.report import examples, members
from headrace.rows import messages
from headrace.simulate import assemble, run
from runtime.store import Store
from schemas import batch as b
from schemas.spec import StrategySpec
from services.training.domain.blend import Blend
from services.training.domain.judged import Judged, Members

DATA = Path(__file__).parents[2] / "shared" / "data"

FOLDED, BATCH, SEATS = 50_000, 500, StrategySpec().members
"""Labels of the fold by itself, of a message, and members of a pool that is full."""

RUNS = 2
"""Of each policy, all with the same answers; the quicker one counts, since a machine's other work only adds."""

ONLINE = {"model": {"online": "logistic_regression"}}
OURS: dict[str, dict[str, Any]] = {
    "blend": {},
    "blend_online": ONLINE,
    "blend_windows": {**ONLINE, "windows": True},
    "champion": {"strategy": {"name": "champion"}},
}
"""Policies: what pipeline.yaml says besides the defaults; windows are features over labels that had arrived."""

Floats = npt.NDArray[np.float64]
Result = dict[str, float | None]


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the recorded streams")
    parser.add_argument(
        "--stream", choices=[each.name for each in STREAMS], action="append", help="these streams alone"
    )
    parser.add_argument("--policy", choices=[*OURS, *learners.POLICIES], action="append", help="these policies alone")
    given = parser.parse_args()
    console = Console(stderr=True)
    result: Result = {}
    for stream in STREAMS:
        if given.stream is None or stream.name in given.stream:
            result |= measure(stream, given.data, given.policy, lambda text: console.print(text, style="dim"))
    result["labels_per_core_second"] = folded()
    print(json.dumps(result) if given.json else "\n".join(f"{key}: {value}" for key, value in result.items()))


def measure(stream: Stream, folder: Path, wanted: list[str] | None, say: Callable[[str], None]) -> Result:
    """Every policy on a stream."""
    frame = stream.read(folder)
    result: Result = {}
    for name in wanted or [*OURS, *learners.POLICIES]:
        if name in OURS and not stream.takes(OURS[name]):
            continue
        runs = [_run(stream, name, frame) for _ in range(RUNS)]
        result |= _told(stream, name, frame, min(runs, key=lambda each: each.seconds))
        say(f"{stream.name} {name}: {result[f'{stream.name}_{stream.metric}_{name}']}")
    return result


def _run(stream: Stream, policy: str, frame: pl.DataFrame) -> learners.Outcome:
    if policy in OURS:
        return ours(stream, frame, OURS[policy])
    return learners.POLICIES[policy](stream.rows(frame))


def _told(stream: Stream, policy: str, frame: pl.DataFrame, outcome: learners.Outcome) -> Result:
    start = scored_from(frame)
    figure = _figure(stream, outcome.predictions[start:], stream.labels(frame)[start:])
    return {
        f"{stream.name}_{stream.metric}_{policy}": figure,
        f"fits_{stream.name}_{policy}": outcome.fits,
        f"fit_seconds_{stream.name}_{policy}": outcome.fit_seconds,
        f"rows_per_s_{stream.name}_{policy}": frame.height / outcome.seconds,
    }


def _figure(stream: Stream, predictions: Floats, labels: Floats) -> float:
    """Accuracy in percent, where what is not predicted is wrong; or the root mean squared error of what is."""
    if stream.task == "regression":
        return float(np.sqrt(np.nanmean((predictions - labels) ** 2)))
    return float(100 * np.mean(predictions == labels))


def ours(stream: Stream, frame: pl.DataFrame, policy: Mapping[str, Any]) -> learners.Outcome:
    """The services' handlers in memory."""
    spec = stream.pipeline(frame, **policy)
    inputs = list(messages(frame, spec, stream.options()))
    loop = assemble(spec, Store("memory://"), partitions=1)
    gc.collect()
    gc.freeze()  # the stream that waits is not the loop's: its garbage collector need not look through it
    begun = time.process_time()
    run(loop, spec, inputs)
    seconds = time.process_time() - begun
    gc.unfreeze()
    told = examples(loop.log).filter(pl.col("_prediction").is_not_null())
    rows = told[b.EVENT_ID].str.strip_prefix("row-").cast(pl.Int64).to_numpy()
    predictions = np.full(frame.height, np.nan)
    predictions[rows] = _answers(stream, told["_prediction"].to_numpy())
    return learners.Outcome(predictions, len(members(loop.log)), _fit_seconds(loop.metrics), seconds)


def folded() -> float:
    """Labels per second of CPU time that move the weights of a pool of two classes, every seat taken."""
    random, members = np.random.default_rng(1), np.arange(1, SEATS + 1)
    blend = Blend("binary")
    for each in members.tolist():
        blend.add(each)
    batches = [_judged(random, members) for _ in range(FOLDED // BATCH)]
    begun = time.process_time()
    for batch in batches:
        blend.fold(batch)
    return FOLDED / (time.process_time() - begun)


def _judged(random: np.random.Generator, members: Members) -> Judged:
    outputs, labels = random.random(BATCH * SEATS), random.integers(0, 2, BATCH).astype(np.float64)
    return Judged(np.arange(BATCH + 1) * SEATS, np.tile(members, BATCH), outputs, labels)


def _answers(stream: Stream, outputs: Floats) -> Floats:
    """The class of a probability; classes of several and values are what they are."""
    return (outputs >= 0.5).astype(np.float64) if stream.task == "binary" else outputs


def _fit_seconds(metrics: Any) -> float:
    return float(metrics.registry.get_sample_value("headrace_fit_seconds_sum") or 0.0)


if __name__ == "__main__":
    main()
