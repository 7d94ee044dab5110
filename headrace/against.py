"""`headrace validate --against`: what a file would change in the pipeline that runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import typer
from rich.markup import escape
from rich.table import Table

from headrace.errors import WrongUse
from headrace.output import Output
from headrace.reach import log_of
from runtime.specification import announced, running
from schemas.evolution import NEW_LOG, Change, compare, refusals
from schemas.pipeline import Pipeline
from schemas.topics import physical


def weigh(spec: Pipeline, brokers: str, output: Output) -> None:
    """Say every change and what is to be thought of it; ends with exit code 1 when one of them is refused.

    Raises:
        WrongSetup: No Kafka answers there, or no pipeline of this name has a log there.
        WrongUse: A pipeline of this name was never announced there.
    """
    old = _running(spec.pipeline, brokers)
    changes = compare(old, spec)
    refused = refusals(changes)
    output.give(
        {
            "pipeline": spec.pipeline,
            "running": old.digest,
            "digest": spec.digest,
            "compatible": not refused,
            "changes": [asdict(each) for each in changes],
        }
    )
    _tell(output, changes, refused, f"{spec.pipeline} at {brokers}, digest {old.digest}")
    if refused:
        raise typer.Exit(1)


def _running(pipeline: str, brokers: str) -> Pipeline:
    with log_of(pipeline, brokers, "validate") as log:
        known = announced(log)
    if known is None:
        topic = physical(pipeline, "pipeline")
        raise WrongUse(
            f"{topic} at {brokers} announces no pipeline that this version knows: start it with `headrace up`"
        )
    return running(known, brokers)


def _tell(output: Output, changes: Sequence[Change], refused: Sequence[Change], what: str) -> None:
    if not changes:
        output.say(f"nothing changes: this is what runs as {what}")
        return
    output.say(f"compared with {what}:")
    output.say(_table(changes))
    if refused:
        output.say(f"[red]{len(refused)} of {len(changes)} changes are refused[/red]: go the ways named, or {NEW_LOG}")
    else:
        output.say("fine: restart the services with this file, then let producers use it")


def _table(changes: Sequence[Change]) -> Table:
    table = Table(box=None, header_style="bold")
    for name, broken in {"": False, "key": False, "change": True, "why, and the way": True}.items():
        table.add_column(name, no_wrap=not broken)
    for each in changes:
        mark = "[red]refused[/red]" if each.verdict == "refused" else "[green]fine[/green]"
        table.add_row(mark, each.path, escape(each.what), each.advice)
    return table
