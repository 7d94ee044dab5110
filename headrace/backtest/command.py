"""`headrace backtest`: the pipeline's own log under a changed policy, beside the policy that runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from headrace.backtest import pages
from headrace.backtest.judging import Side, predicted, side
from headrace.backtest.rows import TOPICS, recorded
from headrace.backtest.running import OnRows, Run
from headrace.dead_letters.wanted import moment
from headrace.errors import WrongUse
from headrace.following import places
from headrace.options import BROKERS, PIPELINE, BrokersOption, JsonOption, PipelineOption
from headrace.output import Output
from headrace.reach import log_of
from headrace.settings import trusted_types
from runtime.clock import SystemClock
from runtime.memory import MemoryLog
from runtime.ports import LogReader
from runtime.signing import keys_in_memory
from runtime.specification import announced, running
from schemas import batch as b
from schemas.evolution import compare
from schemas.messages import moment as utc
from schemas.messages import rfc3339
from schemas.pipeline import Pipeline, load

POLICY = ("model", "drift", "training", "strategy")
"""The blocks of pipeline.yaml that a backtest may change: what follows from rows, not what rows are."""

FromOption = Annotated[str, typer.Option("--from", help="Event time from which on: 2026-01-01T00:00:00Z, or 7d (ago).")]
ToOption = Annotated[str | None, typer.Option("--to", help="Event time before which; the same. By default to the end.")]


def backtest(
    since: FromOption,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    until: ToOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Run a changed policy over the rows that the log holds, beside the policy that runs; nothing is written to Kafka.

    The file may differ from the running pipeline in model, drift, training and strategy. Both policies begin at --from
    without a model, and hear the same features and labels in the order of event time. All rows of the stretch are held
    in memory, one policy after the other. Exit code 2 where the file changes anything else.

    For example:

      headrace backtest -p changed.yaml --from 7d

      headrace backtest -p changed.yaml --from 2026-01-01T00:00:00Z --to 2026-01-08T00:00:00Z --json | jq .changed
    """
    spec, now = load(pipeline), SystemClock().now()
    start, stop = moment("--from", since, now), moment("--to", until, now)
    output = Output(machine=json)
    with log_of(spec.pipeline, brokers, "backtest") as log:
        base = _running(log, spec, brokers)
        changed = changes(base, spec)
        sides = compared(log, base, spec, start or 0, stop, output)
    stretch = [None if each is None else rfc3339(utc(each)) for each in (start, stop)]
    names = ("running", "changed")
    told = {name: each.as_json() for name, each in zip(names, sides, strict=True)}
    output.give({"pipeline": spec.pipeline, "from": stretch[0], "to": stretch[1], "changes": changed, **told})
    output.say(pages.changes(changed))
    output.say(pages.table(*sides))


def changes(base: Pipeline, spec: Pipeline) -> list[str]:
    """What the policies differ in.

    Raises:
        WrongUse: In nothing, or in more than a policy.
    """
    found = compare(base, spec)
    if not found:
        blocks = ", ".join(POLICY)
        raise WrongUse(f"the file says what runs already as {spec.pipeline}: change something in {blocks}")
    if other := [each for each in found if each.path.partition(".")[0] not in POLICY]:
        lines = "\n".join(f"  {each.path}: {each.what}" for each in other)
        raise WrongUse(
            f"a backtest replays the rows that {spec.pipeline} recorded, so only {', '.join(POLICY)} may differ from "
            f"what runs:\n{lines}\nPut these back as they run; `headrace simulate` runs any file over raw events"
        )
    return [f"{each.path}: {each.what}" for each in found]


def compared(
    log: LogReader, base: Pipeline, spec: Pipeline, start: int, stop: int | None, output: Output
) -> tuple[Side, Side]:
    """Both policies over the same rows.

    Raises:
        WrongUse: The log holds no rows of this stretch.
    """
    runs: list[tuple[Run, MemoryLog]] = []
    for name, each in (("as it runs", base), ("as changed", spec)):
        run = Run(each, log.partitions("features"), trusted_types(), SystemClock())
        with _progress(output, name) as on_rows:
            runs.append((run, run.over(recorded(log, start, stop), on_rows)))
        if name == "as it runs" and not _any_rows(runs[0][1]):
            raise WrongUse(
                f"{' and '.join(TOPICS)} of {base.pipeline} hold no rows of this stretch of event time: name another; "
                f"the newest is {_newest(log)}"
            )
    left, right = (predicted(said) for _, said in runs)
    keys = keys_in_memory()
    (first, one), (second, two) = runs
    return (
        side(one, base, keys, left.join(right, on=b.EVENT_ID, how="semi", maintain_order="left"), first.fit_seconds),
        side(two, spec, keys, right.join(left, on=b.EVENT_ID, how="semi", maintain_order="left"), second.fit_seconds),
    )


def _running(log: LogReader, spec: Pipeline, brokers: str) -> Pipeline:
    known = announced(log)
    if known is None:
        raise WrongUse(
            f"{spec.pipeline} at {brokers} announces no pipeline that this version knows: start it with `headrace up`"
        )
    return running(known, brokers)


def _any_rows(said: MemoryLog) -> bool:
    return any(said.end(place) > 1 for place in places(said, "features"))


def _newest(log: LogReader) -> str:
    """Event time of the newest recorded row."""
    found = [each.time for each in recorded(log, 0)]
    newest: datetime | None = utc(max(found)) if found else None
    return "none at all" if newest is None else rfc3339(newest)


@contextlib.contextmanager
def _progress(output: Output, name: str) -> Iterator[OnRows]:
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=output.people, disable=not output.terminal, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda rows: bar.update(task, advance=rows)
