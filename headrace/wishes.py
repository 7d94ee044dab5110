"""`headrace operator …`: what a person wishes, on the topic `operator`, with a name and a reason."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from headrace.drift.command import wanted
from headrace.drift.reading import Story, stories
from headrace.errors import RunFailed, WrongUse
from headrace.options import BROKERS, PIPELINE, BrokersOption, JsonOption, PipelineOption
from headrace.output import Output
from headrace.reach import require_kafka
from headrace.sending import Publisher
from headrace.settings import user
from runtime.clock import SystemClock
from runtime.kafka import KafkaCarrier
from runtime.ports import Clock, LogReader, Outgoing
from schemas import cloudevents
from schemas.messages import Wish, moment
from schemas.pipeline import load

OPERATOR = "operator"
BLOCKING = "bad_data"

app = typer.Typer(
    help="""Wish something of the services: a fit, rows, the pool. The ledger tells who, why, and what came of it.

    For example:

      headrace operator retrain --reason "prices changed on Monday"
    """,
    no_args_is_help=True,
)

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept in the ledger.")]
MemberArgument = Annotated[int, typer.Argument(min=1, metavar="MEMBER", help="Version of a member of the pool.")]
WhoOption = Annotated[
    str | None, typer.Option("--who", help="Who wishes it.", show_default="the name of the user who runs this")
]


@app.command()
def release(
    episode: Annotated[str, typer.Argument(metavar="EPISODE", help="Id of an open episode of bad data.")],
    reason: ReasonOption,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    who: WhoOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Let rows into datasets again that an episode of bad data holds back. Rows of before stay out.

    For example:

      headrace operator release 3f1a0c52d7e94b68 --reason "the new unit is right, the models shall learn it"
    """
    _wish(
        "release",
        episode,
        reason,
        who,
        pipeline,
        brokers,
        json=json,
        check=lambda log: blocking(stories(log), episode),
        then=f"headrace drift show {episode}",
    )


@app.command()
def retrain(
    reason: ReasonOption,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    who: WhoOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Fit now, on the rows that are labelled so far, whether the world changed or not.

    The fit serves if it passes the check of every fit. It does not wait for the cool-down, but the budget counts it.

    For example:

      headrace operator retrain --reason "prices changed on Monday" --who ada
    """
    _wish("retrain", None, reason, who, pipeline, brokers, json=json)


@app.command()
def pin(
    member: MemberArgument,
    reason: ReasonOption,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    who: WhoOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Let one member alone answer, until `headrace operator unfreeze`. The others are scored and judged beside it.

    For example:

      headrace operator pin 3 --reason "the one we have audited"
    """
    _wish("pin", str(member), reason, who, pipeline, brokers, json=json)


@app.command()
def evict(
    member: MemberArgument,
    reason: ReasonOption,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    who: WhoOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Take a member out of the pool for good; its artefact stays. The anchor, which drift watches, cannot leave.

    For example:

      headrace operator evict 5 --reason "fitted on the week of the outage"
    """
    _wish("evict", str(member), reason, who, pipeline, brokers, json=json)


@app.command()
def rollback(
    reason: ReasonOption,
    pool: Annotated[
        int | None, typer.Option(min=1, help="Version of the pool to go back to.", show_default="the one before")
    ] = None,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    who: WhoOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Give the pool the members of an earlier one again; those that came since do not come back by themselves.

    For example:

      headrace operator rollback --reason "complaints since noon"

      headrace operator rollback --pool 7 --reason "the last one that was reviewed"
    """
    _wish("rollback", None if pool is None else str(pool), reason, who, pipeline, brokers, json=json)


@app.command()
def freeze(
    reason: ReasonOption,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    who: WhoOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Fit nothing and leave the pool's members as they are, until `headrace operator unfreeze`. Weights go on moving.

    For example:

      headrace operator freeze --reason "Black Friday: nothing changes by itself"
    """
    _wish("freeze", None, reason, who, pipeline, brokers, json=json)


@app.command()
def unfreeze(
    reason: ReasonOption,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    who: WhoOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """End a freeze, and let all members answer again where one was pinned.

    For example:

      headrace operator unfreeze --reason "the sale is over"
    """
    _wish("unfreeze", None, reason, who, pipeline, brokers, json=json)


def blocking(found: dict[str, Story], name: str) -> Story:
    """The open episode of bad data of that id.

    Raises:
        RunFailed: There is none, it is of another kind, or it is over.
    """
    story = wanted(found, name)
    if story.episode.kind != BLOCKING:
        raise RunFailed(
            f"episode {name} is one of {story.kind}: only bad data holds rows back, so nothing is to release"
        )
    if story.closed is not None:
        raise RunFailed(f"episode {name} is over since {story.ended} ({story.closed.reason}): nothing is to release")
    return story


def send(way: Publisher, pipeline: str, wish: Wish, clock: Clock) -> None:
    """Write a wish and wait until it is on the log."""
    source, now = cloudevents.source_of(pipeline, OPERATOR), moment(clock.now())
    value, headers = cloudevents.encode(wish, id=wish.id, source=source, subject=wish.subject, time=now)
    way.publish([Outgoing(OPERATOR, 0, value, wish.subject.encode(), headers)])
    way.confirm()


def _wish(
    kind: str,
    subject: str | None,
    reason: str,
    who: str | None,
    pipeline: Path,
    brokers: str,
    *,
    json: bool,
    check: Callable[[LogReader], object] = lambda _: None,
    then: str = "headrace status",
) -> None:
    """Send a wish, about the pipeline itself where no subject is named, and say which command tells what follows.

    `check` raises where what the log holds forbids the wish.
    """
    if not reason.strip():
        raise WrongUse("--reason is empty: say why, whoever reads the ledger will want to know")
    name = load(pipeline).pipeline
    wish = Wish.written(id=secrets.token_hex(8), kind=kind, subject=subject or name, who=who or user(), reason=reason)
    require_kafka(brokers)
    with contextlib.closing(KafkaCarrier(brokers, name, OPERATOR)) as way:
        check(way.log)
        send(way, name, wish, SystemClock())
    output = Output(machine=json)
    output.give(wish.model_dump(mode="json"))
    output.say(f"wish {wish.id}: {wish.kind} {wish.subject}, by {wish.who}\n\n  {then}    tells what follows")
