"""`headrace skew`: compute what was served again, and say what differs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from headrace.dead_letters.wanted import moment
from headrace.errors import WrongUse
from headrace.options import BROKERS, PIPELINE, BrokersOption, JsonOption, PipelineOption
from headrace.output import Output
from headrace.reach import log_of
from headrace.skew.checking import Check, OnProgress
from headrace.skew.findings import Feature, Findings
from headrace.skew.spans import RECORDS, Range, Span, earliest, spans
from runtime.clock import SystemClock
from runtime.ports import LogReader
from schemas.messages import moment as utc
from schemas.messages import rfc3339
from schemas.pipeline import Pipeline, load
from schemas.quantities import duration
from services.features.domain.pairing import of_records

FromOption = Annotated[str | None, typer.Option("--from", help="Served since: 2h (ago), or 2026-01-01T00:00:00Z.")]
ToOption = Annotated[str | None, typer.Option("--to", help="Served before; the same.")]
LastOption = Annotated[
    int | None, typer.Option("--last", min=1, help="Only the newest so many rows, as many of each partition.")
]


def skew(
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    since: FromOption = None,
    until: ToOption = None,
    last: LastOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Compute every served row of a range again from its records, windows included, and compare each feature.

    Exit code 1 when a feature was served with another value; 2 when records that are needed are deleted.

    For example:

      headrace skew --last 100000

      headrace skew -p shop/pipeline.yaml --from 2h --json | jq .features
    """
    spec = load(pipeline)
    now = SystemClock().now()
    given = Range(moment("--from", since, now), moment("--to", until, now), last)
    output = Output(machine=json)
    with log_of(spec.pipeline, brokers, "skew") as log:
        findings = examine(log, spec, given, output)
    output.give({"pipeline": spec.pipeline, "digest": spec.digest, "sound": findings.sound, **asdict(findings)})
    _tell(output, spec, findings)
    if not findings.sound:
        raise typer.Exit(1)


def examine(log: LogReader, spec: Pipeline, given: Range, output: Output) -> Findings:
    """Check a range of what was served.

    Raises:
        WrongUse: Nothing was served in it, or records that its rows rest on are deleted.
    """
    spec = of_records(spec)
    parts = list(spans(log, given.of_each(log.partitions(RECORDS)), spec.longest_window))
    if not parts:
        raise WrongUse(f"no row of {spec.pipeline} was served in this range, so nothing can be checked: name another")
    _require_records(log, spec, parts)
    total = sum(span.expected for span in parts)
    with _progress(output, total) as on_progress:
        check = Check(log, spec, on_progress)
        for span in parts:
            check.run(span)
    return check.findings


def _require_records(log: LogReader, spec: Pipeline, parts: list[Span]) -> None:
    gone = [span for span in parts if span.deleted is not None]
    if not gone:
        return
    moments = [earliest(log, span.partition, spec.longest_window) for span in gone]
    known = [each for each in moments if each is not None]
    mend = "wait until newer rows were served"
    if len(known) == len(moments):
        mend = f"check what was served later: --from {rfc3339(utc(max(known) + 1))}"
    back = f", and windows look back {duration(spec.longest_window)}" if spec.longest_window else ""
    raise WrongUse(
        f"{RECORDS}/{gone[0].partition} of {spec.pipeline} begins at offset {gone[0].deleted}{back}: retention has "
        f"deleted records that rows of this range were computed from; {mend}"
    )


@contextlib.contextmanager
def _progress(output: Output, total: int) -> Iterator[OnProgress]:
    columns = (TextColumn("records"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.people, disable=not output.terminal) as bar:
        task = bar.add_task("records", total=total)
        yield lambda count: bar.update(task, advance=count)


def _tell(output: Output, spec: Pipeline, findings: Findings) -> None:
    output.say(_table(findings))
    for digest, rows in findings.specs.items():
        if digest != spec.digest:
            output.say(
                f"{rows:,} rows were served by another pipeline.yaml, digest {digest}; this one is {spec.digest}"
            )
    if left := [name for name in spec.features if name not in findings.features]:
        output.say(f"not checked, because records do not say which labels had arrived: {', '.join(left)}")
    if findings.windowless:
        output.say(f"windows of {findings.windowless:,} rows were not compared: windows.entities was reached")
    if findings.missing:
        output.say(f"[red]{findings.missing:,} served rows have no record[/red]: somebody else wrote to the log")
    colour = "green" if findings.sound else "red"
    output.say(
        f"[{colour}]rows with skew: {findings.skewed:,}[/{colour}] of {findings.rows:,} that were computed again"
    )


def _table(findings: Findings) -> Table:
    table = Table(
        "feature", "rows", "different", "largest difference", "first row that differs", "served", "recomputed"
    )
    for name, each in findings.features.items():
        table.add_row(name, *_cells(each))
    return table


def _cells(feature: Feature) -> list[str]:
    rows = f"{feature.rows:,}"
    if feature.example is None:
        return [rows, "[green]0[/green]", "", "", "", ""]
    largest = "" if feature.largest is None else f"{feature.largest:.1g}"
    row = f"{feature.example.event_id} ({feature.example.row})"
    values = [repr(each) for each in (feature.example.served, feature.example.recomputed)]
    return [rows, f"[red]{feature.different:,}[/red]", largest, *map(escape, (row, *values))]
