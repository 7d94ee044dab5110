"""`headrace dead-letters list|show|replay`: what was refused, why, and the way back for it."""

from __future__ import annotations

import contextlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace.dead_letters import ledger, pages
from headrace.dead_letters.reading import Letter, Reading
from headrace.dead_letters.replaying import WRITER, Obstacles, Replay, Tally
from headrace.dead_letters.wanted import Wanted, identified
from headrace.errors import RunFailed, WrongUse
from headrace.options import BROKERS, PIPELINE, BrokersOption, JsonOption, PipelineOption
from headrace.output import Output
from headrace.reach import log_of
from headrace.settings import user
from headrace.stopping import interruptible
from runtime.clock import SystemClock
from runtime.errors import DeliveryFailed, Fenced
from runtime.kafka import KafkaLog
from runtime.kafka_transactions import KafkaTransactions
from schemas.pipeline import Pipeline, load
from schemas.topics import BY_NAME

app = typer.Typer(
    help="""What was refused and why: list, show, replay.

    For example:

      headrace dead-letters list --reason wrong_type --since 2h
    """,
    no_args_is_help=True,
)

SHOWN = 20
Line = dict[str, object]

ReasonOption = Annotated[list[str] | None, typer.Option("--reason", help="Reason code; may be given again.")]
TopicOption = Annotated[list[str] | None, typer.Option("--topic", help="Topic of the refused message; again.")]
SinceOption = Annotated[str | None, typer.Option("--since", help="2h (ago), or 2026-01-01T00:00:00Z.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="The same; that moment not included.")]
IdOption = Annotated[str | None, typer.Option("--id", help="topic/partition/offset/row, as in the list.")]


@app.command("list")
def list_letters(
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    identity: IdOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the newest so many.", show_default=f"{SHOWN}; all with --json")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """List the newest dead letters, the newest last, and below how many there are of each reason.

    With --json one object per line; without --limit all of them, in the order of the log.

    For example:

      headrace dead-letters list --reason wrong_type --reason null_value --since 2h

      headrace dead-letters list --json | jq -r .path | sort | uniq -c
    """
    wanted, output = _wanted(reason, topic, since, until, identity), Output(machine=json)
    with _log(pipeline, brokers) as (_, log):
        replayed = ledger.replayed(log)
        reading = Reading(log, wanted)
        lines = (pages.line(each, replayed=each.identity in replayed) for each in _progressing(output, reading))
        if json and limit is None:
            for line in lines:
                output.give(line)
            return
        newest, reasons = _newest(lines, limit or SHOWN)
    for line in newest:
        output.give(line)
    if newest:
        output.say(pages.table(newest))
    output.say(pages.summary(reasons, reading.unreadable))


def _newest(lines: Iterable[Line], limit: int) -> tuple[list[Line], dict[str, tuple[int, int]]]:
    """The newest lines, oldest first, and all of them counted by reason: (letters, replayed ones)."""
    heap: list[tuple[object, int, Line]] = []
    reasons: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for number, line in enumerate(lines):
        count, again = reasons[str(line["reason"])]
        reasons[str(line["reason"])] = count + 1, again + bool(line["replayed"])
        heapq.heappush(heap, (line["time"], number, line))
        if len(heap) > limit:
            heapq.heappop(heap)
    return [line for _, _, line in sorted(heap, key=itemgetter(0, 1))], reasons


@app.command()
def show(
    identity: Annotated[str, typer.Argument(metavar="ID", help="topic/partition/offset/row, as in the list.")],
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    *,
    json: JsonOption = False,
) -> None:
    """Show everything about a dead letter: why, every error, headers, key, value, what to do.

    For example:

      headrace dead-letters show events/0/17/0

      headrace dead-letters show events/0/17/0 --json | jq -r .value
    """
    wanted, output = Wanted(identity=identified(identity)), Output(machine=json)
    with _log(pipeline, brokers) as (_, log):
        letter = next(iter(Reading(log, wanted)), None)
        if letter is None:
            raise RunFailed(_unknown(wanted))
        replay = ledger.replay_of(log, letter.identity)
    output.give(pages.everything(letter, replay))
    output.say(pages.page(letter, replay))


@app.command()
def replay(
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    identity: IdOption = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every dead letter; needed without a filter.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be replayed, and write nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Put refused messages back on their topics, each once, however often and by how many people this is run.

    Key, value and headers are the original ones, with a header headrace-replayed that holds the dead letter's id. The
    ledger (topic decisions) says who replayed what. What is refused again is a new dead letter. An event whose time or
    id is Kafka's has new ones. Ended or killed in the middle: run it again, it goes on with what is left.

    For example:

      headrace dead-letters replay --reason missing_field --since 2h --dry-run

      headrace dead-letters replay --all --json
    """
    wanted, output = _wanted(reason, topic, since, until, identity), Output(machine=json)
    if wanted.everything and not everything:
        raise WrongUse("replay: say which ones with --reason, --topic, --since, --until or --id, or all with --all")
    with interruptible(), _log(pipeline, brokers) as (spec, log), _writer(brokers, spec, dry=dry_run) as writer:
        entry = partial(ledger.entry, pipeline=spec.pipeline, who=user(), now=SystemClock().now())
        run = Replay(ledger.replayed(log), Obstacles(log), entry, writer)
        reading = Reading(log, wanted)
        _carry_out(run, _progressing(output, reading))
    _tell(output, run.tally, wanted, dry=dry_run, unreadable=reading.unreadable)


def _carry_out(run: Replay, letters: Iterable[Letter]) -> None:
    try:
        run.run(letters)
    except Fenced as error:
        raise RunFailed(
            f"somebody else began a replay (one at a time), or the broker was too slow: {run.tally.replayed:,} "
            f"letters were replayed before that. Run it again in a while, it goes on with what is left: {error}"
        ) from error
    except DeliveryFailed as error:
        raise RunFailed(
            f"the replay stopped after {run.tally.replayed:,} letters. Run it again, nothing is replayed twice: {error}"
        ) from error


def _tell(output: Output, tally: Tally, wanted: Wanted, *, dry: bool, unreadable: int) -> None:
    if wanted.identity is not None and not tally.matched:
        raise RunFailed(_unknown(wanted))
    output.give({**asdict(tally), "unreadable": unreadable, "dry_run": dry})
    output.say(pages.result(tally, dry=dry))
    if tally.left and not tally.replayed and not tally.before:
        raise RunFailed("none of these dead letters can be replayed: " + "; ".join(tally.left))


def _unknown(wanted: Wanted) -> str:
    return (
        f"there is no dead letter {wanted.identity} that fits: they are kept for {BY_NAME['dead-letters'].days} days, "
        "and `headrace dead-letters list` shows those that are there"
    )


def _wanted(
    reason: list[str] | None, topic: list[str] | None, since: str | None, until: str | None, identity: str | None
) -> Wanted:
    return Wanted.of(reason or (), topic or (), since, until, identity, now=SystemClock().now())


@contextlib.contextmanager
def _log(pipeline: Path, brokers: str) -> Iterator[tuple[Pipeline, KafkaLog]]:
    spec = load(pipeline)
    with log_of(spec.pipeline, brokers, "dead-letters") as log:
        yield spec, log


@contextlib.contextmanager
def _writer(brokers: str, spec: Pipeline, *, dry: bool) -> Iterator[KafkaTransactions | None]:
    if dry:
        yield None
        return
    with contextlib.closing(KafkaTransactions(brokers, spec.pipeline, WRITER)) as writer:
        yield writer


def _progressing(output: Output, reading: Reading) -> Iterator[Letter]:
    """The letters, with a bar where a person watches."""
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.people, disable=not output.terminal, transient=True) as bar:
        task = bar.add_task("reading", total=reading.total)
        for letter in reading:
            bar.update(task, completed=reading.done)
            yield letter
        bar.update(task, completed=reading.done)
