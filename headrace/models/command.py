"""`headrace models list|show|diff` and `headrace verify`: what was announced, and whether it is so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from headrace.errors import RunFailed
from headrace.models import pages
from headrace.models.checks import Check, Verification
from headrace.models.reading import Models, models
from headrace.options import BROKERS, PIPELINE, BrokersOption, JsonOption, PipelineOption
from headrace.output import Output
from headrace.reach import log_of
from runtime.artefact import fetch_manifest
from runtime.keys import keys_of
from runtime.ports import LogReader
from runtime.settings import TrustSettings, read
from runtime.store import Store
from schemas.messages import Member
from schemas.pipeline import load

app = typer.Typer(
    help="""The models of a pipeline: list, show, diff.

    For example:

      headrace models list
    """,
    no_args_is_help=True,
)

VersionArgument = Annotated[int, typer.Argument(metavar="VERSION", help="Version of the model, as in the list.", min=1)]


@app.command("list")
def list_models(
    pipeline: PipelineOption = PIPELINE, brokers: BrokersOption = BROKERS, *, json: JsonOption = False
) -> None:
    """List the models, the newest last: role and weight in the newest pool, rows, why it was fitted, who signed it.

    Announcements that no trusted key signed are told on stderr. With --json one object per line.

    For example:

      headrace models list

      headrace models list --json | jq -r 'select(.role != "") | .version'
    """
    output = Output(machine=json)
    with _opened(pipeline, brokers) as (_, known, _):
        for member in known.members.values():
            output.give(pages.line(member, known))
        output.say(pages.table(known))
        for each in known.refused:
            typer.echo(f"refused: {each}", err=True)


@app.command()
def show(
    version: VersionArgument,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    *,
    json: JsonOption = False,
) -> None:
    """Show a model: its manifest, with dataset, parameters, metrics, libraries and files.

    For example:

      headrace models show 3
    """
    with _opened(pipeline, brokers) as (store, known, _):
        found = _facts(version, store, known)
    output = Output(machine=json)
    output.give(found)
    output.say(pages.page(found))


@app.command()
def diff(
    left: VersionArgument,
    right: VersionArgument,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    *,
    json: JsonOption = False,
) -> None:
    """Compare two models: whatever their manifests say differently. With --json one object per difference.

    For example:

      headrace models diff 2 3
    """
    with _opened(pipeline, brokers) as (store, known, _):
        found = pages.differences(_facts(left, store, known), _facts(right, store, known))
    output = Output(machine=json)
    for each in found:
        output.give(each)
    output.say(pages.compared(found, left, right))


def verify(
    versions: Annotated[
        list[int] | None,
        typer.Argument(metavar="VERSION", help="Versions of models, as in the list; all without one.", min=1),
    ] = None,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    refit: Annotated[bool, typer.Option("--refit/--no-refit", help="Whether to make the fit again, too.")] = True,
    *,
    json: JsonOption = False,
) -> None:
    """Verify models: signature and files, the rows that each was fitted on, and the fit, which is made again.

    Rows come from the archive and the log. On the libraries of then the model comes out the same; elsewhere the library
    that differs is named. Exit code 1 when something does not hold; everything that does not is named: without VERSION
    also what no trusted key signed on models. With --json one object per check. HEADRACE_ARTEFACTS and
    HEADRACE_TRUSTED_KEYS say where models lie and whose are genuine.

    For example:

      headrace verify

      headrace verify 3

      headrace verify 3 --no-refit --json
    """
    output, broken = Output(machine=json), dict[str, list[str]]()
    with _opened(pipeline, brokers) as (store, known, log):
        members = [_wanted(each, known) for each in versions] if versions else _all(known, broken)
        for member in members:
            output.say(pages.headed(member))
            for check in Verification(member, store, log, refit).run():
                _tell(member, check, output)
                if not check.holds:
                    broken.setdefault(f"version {member.version}", []).append(check.what)
    if broken:
        said = "; ".join(f"{what} is not what it should be: {', '.join(parts)}" for what, parts in broken.items())
        raise RunFailed(said)
    output.say(pages.genuine(members, refit=refit))


def _all(known: Models, broken: dict[str, list[str]]) -> list[Member]:
    """Every model that is announced; what nobody believes is broken: whose announcement it wrote over, nobody knows."""
    if known.refused:
        broken["the topic models"] = list(known.refused)
    elif not known.members:
        raise RunFailed("no model is announced yet")
    return list(known.members.values())


def _tell(member: Member, check: Check, output: Output) -> None:
    output.give({"version": member.version, "check": check.what, "holds": check.holds, "text": check.text})
    output.say(pages.checked(check))


def _facts(version: int, store: Store, known: Models) -> dict[str, object]:
    member = _wanted(version, known)
    return pages.facts(member, fetch_manifest(store, member), known)


def _wanted(version: int, known: Models) -> Member:
    if version in known.members:
        return known.members[version]
    there = ", ".join(map(str, known.members)) or "none"
    refused = [each for each in known.refused if f"/member/{version}:" in each]
    why = f"its announcement is refused: {refused[-1]}" if refused else f"there are: {there}"
    raise RunFailed(f"version {version} is not announced; {why}")


@contextlib.contextmanager
def _opened(pipeline: Path, brokers: str) -> Iterator[tuple[Store, Models, LogReader]]:
    """The store, what is announced, and the log."""
    spec, settings = load(pipeline), read(TrustSettings)
    store = Store(settings.artefacts, keys_of(settings))
    with log_of(spec.pipeline, brokers, "models") as log:
        yield store, models(log, store.keys), log
