"""`headrace replay-log`: does re-reading a log give what the log says?"""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.table import Table

from headrace.again import Finding, read_again
from headrace.options import BROKERS, PIPELINE, BrokersOption, JsonOption, PipelineOption
from headrace.output import Output
from headrace.reach import log_of
from headrace.report import report
from headrace.settings import trusted_types
from headrace.story import tell
from schemas.pipeline import load


def replay_log(
    pipeline: PipelineOption = PIPELINE, brokers: BrokersOption = BROKERS, *, json: JsonOption = False
) -> None:
    """Re-read a pipeline's log in memory; exit code 1 when features, predictions, examples, episodes or models differ.

    Let the services come to rest first: what is still under way counts as missing.

    For example:

      headrace replay-log

      headrace replay-log -p shop/pipeline.yaml --brokers broker-1:9092 --json
    """
    spec = load(pipeline)
    output = Output(machine=json)
    with log_of(spec.pipeline, brokers, "replay-log") as log:
        findings = list(read_again(log, spec, lambda text: output.say(f"[dim]{text}[/dim]"), trusted_types()))
        output.give({"findings": [asdict(each) for each in findings]})
        output.say(_table(findings))
        tell(output, report(log))
    if any(each.different for each in findings):
        raise typer.Exit(1)


def _table(findings: list[Finding]) -> Table:
    table = Table("re-read", "on the log", "made again", "different", "first difference")
    for each in findings:
        verdict = "[green]identical[/green]" if not each.different else f"[red]{each.different:,}[/red]"
        table.add_row(each.what, f"{each.recorded:,}", f"{each.again:,}", verdict, each.example)
    return table
