"""`headrace drift list|show`: the episodes of a pipeline, told and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.drift import pages
from headrace.drift.document import document, write
from headrace.drift.reading import Story, advice, stories
from headrace.errors import RunFailed
from headrace.options import BROKERS, PIPELINE, BrokersOption, JsonOption, PipelineOption
from headrace.output import Output
from headrace.reach import log_of
from schemas.pipeline import load
from schemas.topics import BY_NAME

app = typer.Typer(
    help="""What changed in the world, and what followed: list, show.

    For example:

      headrace drift list
    """,
    no_args_is_help=True,
)

SHOWN = 20
"""Episodes that an error names."""


@app.command("list")
def list_episodes(
    pipeline: PipelineOption = PIPELINE, brokers: BrokersOption = BROKERS, *, json: JsonOption = False
) -> None:
    """List the drift episodes, the newest last. With --json one object per line.

    For example:

      headrace drift list

      headrace drift list --json | jq -r 'select(.state == "open") | .id'
    """
    output = Output(machine=json)
    _, found, advised = _read(pipeline, brokers)
    for each in found.values():
        output.give(pages.line(each))
    output.say(pages.table(found.values()))
    output.say(pages.notes(advised))


@app.command()
def show(
    episode: Annotated[str, typer.Argument(metavar="EPISODE", help="Id of the episode, as in the list.")],
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with the pictures to this file.", dir_okay=False)
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Show an episode: why, since when, the histograms of what changed, the statistic over time, what followed.

    For example:

      headrace drift show 3f1a0c52d7e94b68

      headrace drift show 3f1a0c52d7e94b68 --html episode.html
    """
    output = Output(machine=json)
    name, found, _ = _read(pipeline, brokers)
    story = wanted(found, episode)
    output.give(story.as_json())
    output.say(pages.page(story))
    if html is not None:
        write(html, document(story, name))
        output.say(f"\nwrote {html}: open it in a browser")


def wanted(found: dict[str, Story], name: str) -> Story:
    """The episode of that id.

    Raises:
        RunFailed: There is none.
    """
    if name in found:
        return found[name]
    newest = ", ".join([*found][-SHOWN:])
    there = f"the newest are {newest}" if found else "there is none at all yet"
    raise RunFailed(f"there is no drift episode {name!r}: they are kept for {BY_NAME['drift'].days} days; {there}")


def _read(pipeline: Path, brokers: str) -> tuple[str, dict[str, Story], list[str]]:
    spec = load(pipeline)
    with log_of(spec.pipeline, brokers, "drift") as log:
        return spec.pipeline, stories(log), advice(log)
